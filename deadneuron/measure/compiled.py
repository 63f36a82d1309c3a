"""What hooks do inside `torch.compile`: leave operators in the graph, which call the same hooks when the graph runs.

A hook that counted while it is traced would bake its Python state into the program: a graph break or a recompilation
for every number that changes. So under tracing a hook only emits one opaque operator. When the compiled program runs,
the operator finds its hook by the number in the tensor `who` and does what the hook does in eager mode. A number in a
tensor is no constant of the program, so that equal layers share their compiled code. `order`, which every operator
claims to write to, keeps them in order and alive; it holds the number of the probe.

While tracing, tensors are fake but have their autograd graph: there, and only there, it is learned what feeds an
activation (`Rehearsal`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import torch
from torch import Tensor, nn

from deadneuron.measure.feeders import Producer, trace

_numbers = count(1)
_owners: WeakValueDictionary[int, Any] = WeakValueDictionary()

_SCHEMAS = {
    "begin": "(Tensor x, Tensor who, Tensor(a!) order) -> ()",
    "end": "(Tensor? output, Tensor who, Tensor(a!) order) -> ()",
    "enter": "(Tensor who, Tensor(a!) order, SymInt examples, Tensor? mask) -> ()",
    "leave": "(Tensor? output, Tensor who, Tensor(a!) order) -> ()",
    "apply": "(Tensor x, Tensor? other, Tensor(a!) order, str kind, float[] parameters) -> ()",
}


def register(owner: Any) -> Tensor:
    """A one-element tensor (int64, on the CPU) by which compiled code finds `owner`, as long as that lives."""
    number = next(_numbers)
    _owners[number] = owner
    with torch.inference_mode(False):
        return torch.tensor([number], device="cpu")


def owner_of(who: Tensor) -> Any:
    """What was registered under this number, or None if it is gone (a monitor that was closed)."""
    return _owners.get(int(who))


def forget_programs() -> bool:
    """Have torch.compile make anew what it made before, for that calls no hooks of ours; whether there was any.

    By default compiled code does not ask again whether a module has hooks (`skip_nnmodule_hook_guards`).
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:
        return False
    any_made = bool(getattr(getattr(dynamo.convert_frame, "output_codes", None), "seen", True))
    if any_made:
        dynamo.reset()
    return any_made


_asking: WeakSet[Any] = WeakSet()  # probes whose hooks torch.compile is to look for


def ask_for_hooks(probe: Any) -> None:
    """Have torch.compile make a model's hooks a condition of its code, until `stop_asking`.

    Without it a program that was made for an unwatched model of the same structure would be used for a watched one. It
    costs half a microsecond a module in each call of compiled code.
    """
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo.config.skip_nnmodule_hook_guards:
        dynamo.config.skip_nnmodule_hook_guards = False
        _asking.add(probe)
    elif _asking:
        _asking.add(probe)


def stop_asking(probe: Any) -> None:
    """What the user had set is set again when the last probe has gone."""
    if probe in _asking:
        _asking.discard(probe)
        if not _asking:
            sys.modules["torch._dynamo"].config.skip_nnmodule_hook_guards = True


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def in_transform(number: int) -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is being traced: no operator of ours has a rule for these.

    Called while tracing; a gap of the probe of this number says so.
    """
    if torch._C._functorch.peek_interpreter_stack() is None:
        return False
    for owner in list(_owners.values()):
        if getattr(owner, "number", None) == number:
            owner.transformed = True
            owner.fail("torch.func", "a pass ran inside a transform (vmap, grad, jvp): it was not counted")
    return True


# ── when the program runs ────────────────────────────────────────────────────────────────────────────────────────────


def _begin(x: Tensor, who: Tensor, order: Tensor) -> None:
    _run(order, lambda probe: owner_of(who).begin(x))


def _end(output: Tensor | None, who: Tensor, order: Tensor) -> None:
    _run(order, lambda probe: owner_of(who).end(output))


def _enter(who: Tensor, order: Tensor, examples: int, mask: Tensor | None) -> None:
    given = examples if examples >= 0 else None
    _run(order, lambda probe: probe.stack.enter(owner_of(who).module(), lambda: given, lambda: mask))


def _leave(output: Tensor | None, who: Tensor, order: Tensor) -> None:
    _run(order, lambda probe: probe.stack.leave(owner_of(who).module(), output))


def _apply(x: Tensor, other: Tensor | None, order: Tensor, kind: str, parameters: list[float]) -> None:
    _run(order, lambda probe: probe.functions.compiled(x, kind, tuple(parameters), other))


def _run(order: Tensor, act: Callable[[Any], None]) -> None:
    probe = owner_of(order)
    if probe is None or not probe.on:
        return
    probe.compiled = True
    try:
        act(probe)
    except Exception as error:  # the user's program goes on whatever happens here
        probe.fail("torch.compile", f"{type(error).__name__} in compiled code: {error}")


# ── while it is traced ───────────────────────────────────────────────────────────────────────────────────────────────


class Rehearsal:
    """Runs along while torch.compile traces a model, to learn what feeds each of its activations."""

    def __init__(self, probe: Any) -> None:
        self.probe = probe
        self.running: list[Any] = []
        self.inside: Any = None  # the activation module that is being traced
        self.calls: dict[Any, int] = {}
        self._pass = 0
        self.producers: dict[tuple[Any, nn.Module | None, int], Producer] = {}

    def enter(self, hook: Any) -> None:
        if hook is not None and hook in self.running:  # a trace that was broken off began again
            del self.running[self.running.index(hook) :]
        if not self.running:
            self._begin_anew()
        self.running.append(hook)

    def leave(self, hook: Any) -> None:
        if self.running:
            self.running.pop()

    def begin(self, tap: Any, x: Tensor) -> None:
        """An activation module is traced."""
        self._look_at_pass()
        if self.inside is None:
            self.inside = tap
            self._observe(tap, x)

    def end(self, tap: Any) -> None:
        if self.inside is tap:
            self.inside = None

    def apply(self, key: tuple[str, tuple[float, ...]], x: Tensor) -> None:
        """A function is traced."""
        self._look_at_pass()
        if self.inside is None:
            self._observe(key, x)

    def _look_at_pass(self) -> None:
        if not self.running and self._pass != self.probe.passes:  # the hooks of what is traced have run in earnest
            self._begin_anew()

    def _observe(self, key: Any, x: Tensor) -> None:
        if x.grad_fn is None:
            return
        hook = self.running[-1] if self.running else None
        caller = hook.module() if hook is not None else self.probe.stack.caller()
        counted = (key, caller) if isinstance(key, tuple) else key  # a function's calls are counted for each caller
        call = self.calls.get(counted, 0)
        self.calls[counted] = call + 1
        producer = trace(x)
        if producer is None:
            return
        leaves = tuple(real for leaf in producer.parameters if (real := self._real(leaf)) is not None)
        if leaves or not producer.parameters:
            self.producers[key, caller, call] = Producer(producer.axis, leaves, producer.path)

    def _real(self, leaf: Tensor) -> Tensor | None:
        return real_of(leaf, self.probe.model.parameters())

    def producer(self, key: Any, caller: nn.Module | None, call: int) -> Producer | None:
        """What was learned of a call, or of the same call in a layer that shares this one's compiled code."""
        known = self.producers.get((key, caller, call))
        if known is not None or caller is None:
            return known
        for (theirs, other, nth), producer in self.producers.items():
            if (
                nth == call
                and other is not None
                and type(other) is type(caller)
                and self._alike(theirs, other, key, caller)
            ):
                return self._translated(producer, other, caller)
        return None

    def _alike(self, theirs: Any, other: nn.Module, mine: Any, caller: nn.Module) -> bool:
        if isinstance(mine, tuple) or isinstance(theirs, tuple):
            return bool(mine == theirs)
        names = self.probe.names
        return bool(theirs.name.removeprefix(names.get(other, "")) == mine.name.removeprefix(names.get(caller, "")))

    def _translated(self, producer: Producer, other: nn.Module, caller: nn.Module) -> Producer | None:
        mine = dict(caller.named_parameters())
        names = {id(p): name for name, p in other.named_parameters()}
        leaves = tuple(mine[names[id(p)]] for p in producer.parameters if names.get(id(p)) in mine)
        return Producer(producer.axis, leaves, producer.path) if len(leaves) == len(producer.parameters) else None

    def _begin_anew(self) -> None:
        self.calls.clear()
        self.inside, self._pass = None, self.probe.passes

    def clear(self) -> None:
        self.running.clear()
        self._begin_anew()
        self.producers.clear()


def real_of(fake: Tensor, candidates: Iterable[Tensor]) -> Tensor | None:
    """Which of the real tensors a fake one stands for; None if none, or where this torch keeps its notes elsewhere."""
    with suppress(AttributeError, TypeError):
        converter = fake.fake_mode.fake_tensor_converter.meta_converter  # type: ignore[attr-defined]
        for real in candidates:
            number = converter.describer.lookup_tensor.get(real)
            if number is not None and converter.tensor_memo.get(number) is fake:
                return real
    return None


def _fake_hook(who: Tensor) -> Any:
    for owner in list(_owners.values()):
        tensor = getattr(owner, "who", None)
        if isinstance(tensor, Tensor) and real_of(who, (tensor,)) is not None:
            return owner
    return None


def _fake_begin(x: Tensor, who: Tensor, order: Tensor) -> None:
    hook = _fake_hook(who)
    if hook is not None:
        ask_for_hooks(hook.probe)
        hook.probe.rehearsal.begin(hook, x)


def _fake_end(output: Tensor | None, who: Tensor, order: Tensor) -> None:
    hook = _fake_hook(who)
    if hook is not None:
        hook.probe.rehearsal.end(hook)


def _fake_enter(who: Tensor, order: Tensor, examples: int, mask: Tensor | None) -> None:
    probe, hook = _fake_hook(order), _fake_hook(who)
    if probe is not None:
        ask_for_hooks(probe)
        probe.rehearsal.enter(hook)


def _fake_leave(output: Tensor | None, who: Tensor, order: Tensor) -> None:
    probe = _fake_hook(order)
    if probe is not None:
        probe.rehearsal.leave(_fake_hook(who))


def _fake_apply(x: Tensor, other: Tensor | None, order: Tensor, kind: str, parameters: list[float]) -> None:
    probe = _fake_hook(order) if x.grad_fn is not None else None
    if probe is not None:
        probe.rehearsal.apply((kind, tuple(parameters)), x)


def _nothing(*args: Any) -> None:
    return None


_library: Any = torch.library.Library("deadneuron", "DEF")  # type: ignore[no-untyped-call]
_tags = [tag for name in ("cudagraph_unsafe",) if (tag := getattr(torch.Tag, name, None)) is not None]
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema, tags=_tags)
    _library.impl(_name, globals()[f"_{_name}"], "CompositeExplicitAutograd")
    _fake = globals().get(f"_fake_{_name}", _nothing)
    torch.library.register_fake(f"deadneuron::{_name}", _fake, lib=_library)
