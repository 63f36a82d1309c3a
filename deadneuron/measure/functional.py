"""Activations that a module's forward calls as functions: which they are, and what is counted of them.

A site here is told by the module whose forward runs, by the function, and by what feeds it. A call that is no layer's
activation (a softplus of a parameter, a sigmoid inside a formula) becomes a gap with its name, never a count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

from torch import Tensor, nn

from deadneuron.errors import UsageError
from deadneuron.measure.activations import function_name
from deadneuron.measure.aside import aside
from deadneuron.measure.feeders import trace
from deadneuron.measure.formulas import Formulas
from deadneuron.measure.functions import MODULES, NO_INTERVAL, READERS, UNSURE
from deadneuron.measure.kinds import Kind, NoGateError, kind_of
from deadneuron.measure.layers import why_no_layer
from deadneuron.measure.tap import COMPLEX, Tap
from deadneuron.records import Phase

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe

Key = tuple[nn.Module, str, tuple[float, ...], int]


@dataclass(slots=True)
class Call:
    """One call of a function that is being looked at."""

    tap: Tap | None  # None: what it is will be known by what becomes of its output
    x: Tensor
    kind: str
    caller: nn.Module
    phase: Phase


class Functions:
    """The functional activations of one watched model."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.taps: dict[Key, Tap | None] = {}  # None: the user does not want it
        self.formulas = Formulas(self)
        self.counted: ref[Tensor] | None = None  # what a compiled program has just handed over
        self._refused: set[tuple[nn.Module, str]] = set()  # no layer's activation, as a graph told
        self._places: dict[tuple[nn.Module, str, tuple[float, ...]], object] = {}  # of calls of compiled programs
        self._zeros: dict[tuple[nn.Module, int], bool] = {}  # whether the other tensor of a maximum is zero

    # ── what the mode calls; never raises ────────────────────────────────────────────────────────────────────────────

    def begin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A torch function is about to be called; what `end` shall be told of, or None."""
        try:
            if self.probe.inside is not None:
                return None
            read = READERS.get(func)
            if read is not None:
                with aside():
                    applied = read(*args, **kwargs)
                return None if applied is None else self._begin(*applied, in_place=_in_place(func, kwargs))
            if func in self.formulas.interesting or self.formulas.pending is not None:
                return self.formulas.begin(func, args, kwargs)
            if func in NO_INTERVAL:
                self._no_interval(NO_INTERVAL[func])
        except Exception as error:
            self.probe.fail("functions", f"{type(error).__name__} in a function that was called: {error}")
        return None

    def end(self, call: Any, output: Any) -> None:
        """The function has returned."""
        try:
            with aside():
                if not isinstance(call, Call):
                    self.formulas.end(call, output)
                elif call.tap is not None:
                    call.tap.end(output)
                elif isinstance(output, Tensor):
                    self.formulas.wait(call, output)
        except Exception as error:
            self.probe.fail("functions", f"{type(error).__name__} in a function that was called: {error}")

    def compiled(self, x: Tensor, kind: str, parameters: tuple[float, ...], other: Tensor | None) -> None:
        """A compiled program applies an activation. May raise."""
        probe, caller = self.probe, self.probe.stack.caller()
        phase = probe.phase()
        if probe.inside is not None or caller is None or phase is None or not x.numel():
            return
        with aside():
            if kind == "erf":
                pass
            elif kind in UNSURE:
                self.miss(caller, kind, "in compiled code it is not told from a part of a formula")
            elif other is None or kind == "prelu" or self._is_zero(caller, other):
                tap = self._compiled_tap(caller, kind, parameters, x, other)
                if tap is not None:
                    tap.observe(x, phase)
                    tap.end_alone(x)
        self.counted = ref(x)

    # ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(
        self, x: Any, kind: str, parameters: tuple[float, ...], other: Tensor | None, *, in_place: bool
    ) -> Call | None:
        probe, caller = self.probe, self.probe.stack.caller()
        phase = probe.phase()
        if caller is None or phase is None or not isinstance(x, Tensor):
            return None
        with aside():
            if x.is_complex():
                self.miss(caller, kind, COMPLEX)
            if not x.is_floating_point() or not x.numel():
                return None
            if self.counted is not None and self.counted() is x:  # a debugging backend calls it again
                self.counted = None
                return None
            self.formulas.settle()
            if other is not None and kind != "prelu" and not self._is_zero(caller, other):
                return None
            if kind in UNSURE and not in_place:
                return Call(None, x, kind, caller, phase)
            tap = self.layer(caller, kind, parameters, x, other)
            if tap is None:
                return None
            tap.observe(x, phase)
            return Call(tap, x, kind, caller, phase)

    def layer(
        self, caller: nn.Module, kind: str, parameters: tuple[float, ...], x: Tensor, other: Tensor | None = None
    ) -> Tap | None:
        """The tap of a call that acts as a layer's activation; None, and a gap, if it does not."""
        known = self.taps.get(_key(caller, kind, parameters, other))
        if known is not None and known.resolver.expects(x):
            return known
        reason = why_no_layer(x, trace(x), kind)
        if reason:
            self.miss(caller, kind, reason)
            self._refused.add((caller, kind))
            return None
        if not x.requires_grad and (caller, kind) in self._refused and not self._seen(caller, kind):
            return None
        if kind in UNSURE and not x.requires_grad and not self._seen(caller, kind) and not self.formulas.made(x):
            self.miss(caller, kind, "without a gradient it is not told from a part of a formula")
            return None
        return self.tap(caller, kind, parameters, other)

    def _compiled_tap(
        self, caller: nn.Module, kind: str, parameters: tuple[float, ...], x: Tensor, other: Tensor | None
    ) -> Tap | None:
        """The same for a call of a compiled program, whose tensors have no graph but on a debugging backend."""
        place = self._places.setdefault((caller, kind, parameters), object())
        nth = self.probe.stack.next_call(place)
        if x.requires_grad:
            return self.layer(caller, kind, parameters, x, other)
        reason = self.probe.rehearsal.refusal((kind, parameters), caller, nth)
        if reason:
            self.miss(caller, kind, reason)
            return None
        return self.tap(caller, kind, parameters, other)

    def tap(
        self, caller: nn.Module, kind: str, parameters: tuple[float, ...], other: Tensor | None = None
    ) -> Tap | None:
        """The tap of a function with these parameters in this module's forward, made when it is first called."""
        key = _key(caller, kind, parameters, other)
        if key not in self.taps:
            self.taps[key] = self._new_tap(caller, kind, parameters, other)
        tap = self.taps[key]
        computed = kind == "prelu" and not isinstance(other, nn.Parameter)  # slopes that are new in each pass
        if computed and tap is not None and isinstance(other, Tensor):
            tap.kind.module.weight = nn.Parameter(other.detach(), requires_grad=False)
        return tap

    def _new_tap(self, caller: nn.Module, kind: str, parameters: tuple[float, ...], other: Tensor | None) -> Tap | None:
        probe, name = self.probe, self.name(caller, kind)
        if name not in probe.choice:
            return None
        taken = sum(tap is not None and tap.name.partition(" ")[0] == name for tap in self.taps.values())
        if taken:  # leaky_relu with another slope in the same forward
            name = f"{name} {taken + 1}"
        try:
            module = MODULES[kind](other) if kind == "prelu" else MODULES[kind](*parameters)
            found: Kind = kind_of(module, probe.epsilon)
        except (NoGateError, UsageError) as error:
            probe.note(name, str(error))
            return None
        if probe.discovered:
            probe.note(name, f"first seen in pass {probe.counted}: calls before may have gone unseen")
        return Tap(probe, name, found, caller, (kind, parameters))

    def name(self, caller: nn.Module, kind: str) -> str:
        return function_name(self.probe.names.get(caller, ""), kind)

    def miss(self, caller: nn.Module, kind: str, reason: str) -> None:
        """An activation in name that is not measured."""
        name = self.name(caller, kind)
        if name in self.probe.choice:
            self.probe.note(name, reason)

    def _no_interval(self, kind: str) -> None:
        caller = self.probe.stack.caller()
        if caller is not None and self.probe.phase() is not None:
            self.miss(caller, kind, "it has no gate that is an interval")

    def _seen(self, caller: nn.Module, kind: str) -> bool:
        return any(key[0] is caller and key[1] == kind for key in self.taps)

    def _is_zero(self, caller: nn.Module, other: Tensor) -> bool:
        """Whether maximum's other tensor is zero: looked at once on a GPU, where to look is to wait."""
        key = (caller, self.probe.stack.next_call(self._zeros))
        if other.device.type == "cpu" or key not in self._zeros:
            self._zeros[key] = not bool(other.detach().any())
        return self._zeros[key]

    def clear(self) -> None:
        self.taps.clear()
        self._zeros.clear()
        self._refused.clear()
        self._places.clear()
        self.formulas.clear()
        self.counted = None


def _key(caller: nn.Module, kind: str, parameters: tuple[float, ...], other: Tensor | None) -> Key:
    return caller, kind, parameters, id(other) if kind == "prelu" and isinstance(other, nn.Parameter) else 0


def _in_place(func: Any, kwargs: dict[str, Any]) -> bool:
    return getattr(func, "__name__", "").endswith("_") or bool(kwargs.get("inplace"))
