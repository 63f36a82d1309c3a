"""All that watches one model: its hooks, its sites, and the counters behind them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deadneuron.measure import compiled, counters
from deadneuron.measure.activations import Choice, Found, containers_of, may_call_functions
from deadneuron.measure.aside import aside, is_without_data
from deadneuron.measure.callstack import CallStack, first_floats
from deadneuron.measure.feeders import Producer
from deadneuron.measure.functional import Functions
from deadneuron.measure.hooks import attach_to_activation, attach_to_container
from deadneuron.measure.masks import Mask
from deadneuron.measure.methods import mentions_functions
from deadneuron.measure.mode import FunctionMode
from deadneuron.measure.opaque import custom_functions
from deadneuron.measure.pool import Pool
from deadneuron.measure.rehearsal import Rehearsal
from deadneuron.measure.sites import LiveSite, plain_name
from deadneuron.measure.tap import Mute, Tap
from deadneuron.records import Phase, Sampling

_in_backward: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)
_transform: Callable[[], Any] = getattr(torch._C._functorch, "peek_interpreter_stack", lambda: None)
_LOOKS = 3  # first passes in which functional activations are looked for, whether or not one was found


@dataclass(frozen=True, slots=True)
class Plan:
    """What of a model is measured, and how."""

    found: Found
    choice: Choice
    axes: Mapping[str, int]  # unit axes that the user states, by pattern
    batch_axis: int
    mask: Mask
    phases: frozenset[Phase]
    sampling: Sampling


class Probe:
    """All hooks of one monitor on one model, and the counters behind them."""

    def __init__(
        self, model: nn.Module, plan: Plan, fail: Callable[[str, str], None], note: Callable[[str, str], None]
    ) -> None:
        found = plan.found
        self.model, self.choice, self.phases = model, plan.choice, plan.phases
        self.sampling, self.epsilon = plan.sampling, plan.sampling.epsilon
        self.axes, self.batch_axis, self.mask = plan.axes, plan.batch_axis, plan.mask
        self.fail = fail  # (where, reason): becomes a Gap and one warning
        self.note = note  # (where, reason): becomes a Gap
        self.on = True
        self.forced: Phase | None = None  # the phase of all passes now, whatever mode the model is in
        self.full = True  # full statistics in this step
        self.dirty = False  # a pass was counted since the last seal
        self.ran = False  # a training pass began since the last seal, counted or not
        self.heard = False  # any hook was called since the last drain
        self.compiled = False  # compiled code reported something
        self.transformed = False  # a transform of torch.func was compiled: its passes call no hooks
        self.made_anew = False  # compiled code was dropped because no hook was called
        self.passes = 0
        self.counted = 0  # of them, those of a phase that counts
        self.sites: list[LiveSite] = []
        self.pools: dict[tuple[torch.device, Phase], Pool] = {}
        self.scratch = counters.Scratch()
        self.last: tuple[Tensor, LiveSite] | None = None  # what an activation gave last, when statistics were due
        self.inside: Tap | Mute | None = None  # the activation module that is running
        self._outputs: Tensor | None = None  # NaN or Inf once a model's output was, since it was last taken
        self.names = {module: plain_name(name) for name, module in model.named_modules()}
        self.who = self.order = compiled.register(self)
        self.number = RemovableHandle(OrderedDict()).id  # of all hooks of this probe
        compiled.ask_for_hooks(self)
        self.stack = CallStack(self._on_enter, self._on_leave, plan.batch_axis)
        self.functional = found.functional
        self.functions = Functions(self)
        self.mode = FunctionMode(self)
        self.rehearsal = Rehearsal(self)
        self._looks = _LOOKS  # passes in which functional activations are still to be looked for
        self.modules = [Tap(self, name, kind) for name, kind in found.kinds.items()]
        self._handles: list[RemovableHandle] = []
        for container in containers_of(model, found):
            if may_call_functions(container) and mentions_functions(container):
                self.stack.unheard.add(container)
            self._handles += attach_to_container(self, container)
        for tap in self.modules:
            self._handles += attach_to_activation(tap, tap.kind.module)
        for module in found.muted:
            self._handles += attach_to_activation(Mute(self), module)

    @property
    def taps(self) -> list[Tap]:
        """All activations that are known: modules, and functions that were called."""
        return [*self.modules, *(tap for tap in self.functions.taps.values() if tap is not None)]

    @property
    def discovered(self) -> bool:
        """Whether the passes are over in which every functional activation should have been found."""
        return self.counted > _LOOKS

    def detach(self) -> None:
        """Remove every hook and let go of the model and all tensors. Safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.on = False
        self.mode.take_off()
        compiled.stop_asking(self)
        self.model = nn.Identity()
        for site in self.sites:
            site.feeder, site.low = None, None
            site.slots.clear()
        for holder in (self.names, self.modules, self.pools, self.scratch, self.functions, self.rehearsal, self.mask):
            holder.clear()
        self._outputs, self.last, self.inside = None, None, None
        self.stack.reset()
        self.stack.heard.clear()
        self.stack.unheard.clear()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Passes in here are not the training's: what the probe knew of the training's stays as it was."""
        kept = (self.on, self.ran, self.heard, self.stack.counted)
        self.on = False
        try:
            yield
        finally:
            self.on, self.ran, self.heard, self.stack.counted = kept

    @contextmanager
    def reference(self, step: int) -> Iterator[None]:
        """Passes in here are those of the frozen batch, booked as `step`'s."""
        kept = (self.full, self.dirty, self.ran, self.heard, self.counted, self._looks, self.stack.counted)
        self.full, self.forced = False, "reference"
        try:
            yield
        finally:
            self.forced = None
            for (_, phase), pool in self.pools.items():
                if phase == "reference":
                    pool.seal(step, False)
            self.full, self.dirty, self.ran, self.heard, self.counted, self._looks, self.stack.counted = kept
            self.stack.reset()

    def phase(self) -> Phase | None:
        """The phase of a pass that is running now, or None if it does not count."""
        # In a backward pass only the recomputation of gradient checkpointing calls forward: it was counted already.
        if not self.on or _in_backward() != -1:
            return None
        if _transform() is not None:  # a counter that is made or changed in there is a part of the transform's program
            self.fail("torch.func", "a pass ran inside a transform (vmap, grad, jvp): it was not counted")
            return None
        if not self.stack.mine():
            self.fail("threads", "a pass ran beside another one in a second thread: it was not counted")
            return None
        if self.forced is not None:
            return self.forced
        phase: Phase = "train" if self.model.training else "eval"
        return phase if phase in self.phases else None

    def pool(self, device: torch.device, phase: Phase) -> Pool:
        key = (device, phase)
        if key not in self.pools:
            self.pools[key] = Pool(device, phase, self.sampling)
        return self.pools[key]

    def seal(self, step: int) -> None:
        """Book what was counted since the last call as `step`'s."""
        if self.dirty:
            for pool in self.pools.values():
                pool.seal(step, self.full)
            self.dirty = False
        self.ran = False
        self.stack.reset()
        if not self.stack.running:  # a KeyboardInterrupt inside forward skips even `always_call` hooks
            self.mode.take_off()
            self.inside = None

    def after_drain(self) -> None:
        """Read learned gates again, and look again for functional activations."""
        for tap in self.taps:
            with aside():
                low = tap.kind.low(self.epsilon)
            for site in tap.sites:
                site.low = low
        self._looks = max(self._looks, 1)
        self.heard = False

    def stated_axis(self, name: str) -> int | None:
        """The unit axis that the user states for an activation."""
        return next((axis for pattern, axis in self.axes.items() if fnmatchcase(name, pattern)), None)

    def without_graph(self, tap: Tap, x: Tensor, caller: nn.Module | None, call: int) -> Producer | None:
        """What feeds a call that no autograd graph tells of: learned while compiling, or seen by the function mode."""
        learned = self.rehearsal.producer(tap.key, caller, call)
        formulas = self.functions.formulas
        if learned is not None or x.grad_fn is not None or formulas.last is None or not self.mode.on:
            return learned
        if formulas.made(x):
            parameter = formulas.last.parameter
            trained = () if parameter is None or not (parameter.requires_grad and parameter.is_leaf) else (parameter,)
            return Producer(formulas.last.axis, trained, None)
        if tap.caller is not None and formulas.last.rank == x.dim():
            return Producer(formulas.last.axis, (), None)
        return None

    def take_finite(self, before: Tensor | None) -> Tensor | None:
        """Whether the model's outputs since the last call were finite, and `before`: one bool; None if none was seen.

        Of each output the first example tells: weights that turned NaN reach every example.
        """
        outputs, self._outputs = self._outputs, None
        if outputs is None:
            return before
        with aside():
            finite = outputs < torch.inf  # -Inf masks a choice; NaN and Inf are not below Inf
            return finite if before is None else finite & before.to(finite.device)

    def _on_enter(self, mask: Callable[[], Tensor | None]) -> int | None:
        self.last, self.inside = None, None
        self.functions.formulas.pending = None
        self.mode.take_off()
        self.passes += 1
        self.heard = True
        phase = self.phase()
        self.stack.counted = phase is not None
        if self.model.training and _in_backward() == -1:
            self.ran = True
        if phase is None:
            return None
        self.counted += 1
        if self.functional and (self._looks or self.functions.taps or self.compiled or self.stack.unheard):
            self._looks = max(self._looks - 1, 0)
            self.mode.put_on()
        try:
            given = mask()
            with aside():
                return self.mask.begin(given)
        except Exception as error:
            self.fail("mask", str(error))
            return None

    def _on_leave(self, output: Any) -> None:
        self.mode.take_off()
        phase = self.phase()
        try:
            with aside():
                if phase is not None:
                    self.functions.formulas.settle()
                if phase == "train":
                    self._look_at_output(output)
        except Exception as error:
            self.fail("output", f"{type(error).__name__} while looking at the model's output: {error}")
        finally:
            self.last = None

    def _look_at_output(self, output: Any) -> None:
        values = first_floats(output)
        if values is None or is_without_data(values):
            return
        if self.counted == 1:
            for name in custom_functions(values):
                self.note(name, "a custom autograd function: inside it only calls of known activations are measured")
        if self.last is not None and (values is self.last[0] or values._base is self.last[0]):
            self.last[1].is_output = True
        values = values.detach()
        total = (values[0] if values.dim() else values).sum(dtype=torch.float32)
        if self._outputs is None:
            with torch.inference_mode(False), torch.no_grad():
                self._outputs = torch.zeros((), dtype=torch.float32, device=total.device)
        self._outputs.add_(total.to(self._outputs.device, non_blocking=True))
