"""What hooks do inside `torch.compile`: leave operators in the graph, which call the same hooks when the graph runs.

A hook that counted while it is traced would bake its Python state into the program: a graph break or a recompilation
for every number that changes. So under tracing a hook only emits one opaque operator. When the compiled program runs,
the operator finds its hook by the number in the tensor `who` and does what the hook does in eager mode. A number in a
tensor is no constant of the program, so that equal layers share their compiled code. `order`, which every operator
claims to write to, keeps them in order and alive; it holds the number of the probe.

While tracing, tensors are fake but have their autograd graph: there, and only there, it is learned what feeds an
activation (`measure.rehearsal`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakSet, WeakValueDictionary

import torch
from torch import Tensor

from deadneuron.measure.rehearsal import real_of

_LATER = (torch._C._TorchDispatchModeKey.FUNCTIONAL, torch._C._TorchDispatchModeKey.PROXY)
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


def _fake_hook(who: Tensor) -> Any:
    """What is registered under a fake number; None in the later stages of compiling, which trace everything again."""
    if any(torch._C._get_dispatch_mode(key) is not None for key in _LATER):
        return None
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
    probe = _fake_hook(order)
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
