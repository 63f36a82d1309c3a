"""The hooks that sit on a user's modules: each passes on what it sees, or leaves an operator in a traced program.

Nothing is ever raised into the user's forward. What `torch.export`, `torch.jit.trace` and the like make of the model
stays free of us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy
from torch.utils.hooks import RemovableHandle

from deadneuron.measure import compiled
from deadneuron.measure.callstack import count_examples
from deadneuron.measure.inert import InertWhenCopied
from deadneuron.measure.mode import FunctionMode

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe
    from deadneuron.measure.tap import Mute, Tap

_is_tracing = torch._C._is_tracing


def attach_to_container(probe: Probe, module: nn.Module) -> list[RemovableHandle]:
    """Hook a module whose forward may apply activations; the handles are the caller's to remove."""
    # First of all pre-hooks and last of all hooks: what the user's own hooks call counts as inside.
    return [
        _renumbered(module.register_forward_pre_hook(Enter(probe, module), with_kwargs=True, prepend=True), probe),
        _renumbered(module.register_forward_hook(Leave(probe, module), always_call=True), probe),
    ]


def attach_to_activation(tap: Tap | Mute, module: nn.Module) -> list[RemovableHandle]:
    """Hook a module that is an activation. A pre-hook, because in place it has overwritten its input afterwards."""
    return [
        _renumbered(module.register_forward_pre_hook(Before(tap), with_kwargs=True), tap.probe),
        _renumbered(module.register_forward_hook(After(tap), prepend=True, always_call=True), tap.probe),
    ]


def _renumbered(handle: RemovableHandle, probe: Probe) -> RemovableHandle:
    """Give a hook the number that all hooks of this probe have.

    torch.compile makes a hook's number a condition of the compiled code: with one number, equal layers share it.
    """
    for reference in (handle.hooks_dict_ref, *handle.extra_dict_ref):
        hooks = reference()
        if hooks is not None and handle.id in hooks:
            first = next(iter(hooks)) == handle.id
            hooks[probe.number] = hooks.pop(handle.id)
            if first:
                hooks.move_to_end(probe.number, last=False)
    handle.id = probe.number
    return handle


class Enter(InertWhenCopied):
    """The pre-hook of a container."""

    def __init__(self, probe: Probe, module: nn.Module) -> None:
        self.probe, self.module = probe, ref(module)
        self.who, self.order = compiled.register(self), probe.order
        self.masked = module is probe.model

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            if _is_counted(self.probe):
                examples = _count_examples_traced(args, kwargs, self.probe.batch_axis)
                mask = self.probe.mask.pick(args, kwargs) if self.masked else None
                torch.ops.deadneuron.enter(self.who, self.order, examples, mask)
                self.probe.mode.enter_traced(module)
        elif not _is_tracing():
            self.probe.stack.enter(
                module,
                lambda: count_examples((args, kwargs), self.probe.batch_axis),
                lambda: self.probe.mask.pick(args, kwargs) if self.masked else None,
            )


class Leave(InertWhenCopied):
    """The forward hook of a container; runs after an exception too."""

    def __init__(self, probe: Probe, module: nn.Module) -> None:
        self.probe, self.module = probe, ref(module)
        self.who, self.order = compiled.register(self), probe.order

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            if _is_counted(self.probe):
                self.probe.mode.leave_traced(module)
                torch.ops.deadneuron.leave(_first_traced(output), self.who, self.order)
        elif not _is_tracing():
            self.probe.stack.leave(module, output)


class Before(InertWhenCopied):
    """The pre-hook of an activation module."""

    def __init__(self, tap: Tap | Mute) -> None:
        self.tap = tap

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("input")
        if torch.compiler.is_compiling():
            if isinstance(x, Tensor) and _is_counted(self.tap.probe):
                torch.ops.deadneuron.begin(x, self.tap.who, self.tap.order)
        elif not _is_tracing():
            self.tap.overtaken = id(x) if _was_overtaken(module, self.tap.probe.number) else 0
            self.tap.begin(x)


class After(InertWhenCopied):
    """The forward hook of an activation module; runs after an exception too."""

    def __init__(self, tap: Tap | Mute) -> None:
        self.tap = tap

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            if _is_counted(self.tap.probe):
                out = output if isinstance(output, Tensor) else None
                torch.ops.deadneuron.end(out, self.tap.who, self.tap.order)
        elif not _is_tracing():
            if self.tap.overtaken and args and id(args[0]) != self.tap.overtaken:
                self.tap.note_overtaken()
            self.tap.end(output)


for _hook in (Enter, Leave, Before, After, FunctionMode):
    # The hooks of a module that is compiled by itself run outside of its program, as they are: torch.compile shall not
    # make programs of them. (Inside a larger program they are traced all the same.)
    _code = getattr(_hook, "__torch_function__", _hook.__call__).__code__
    set_code_exec_strategy(_code, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))


def _is_counted(probe: Probe) -> bool:
    """Whether a program that is traced gets operators of ours."""
    return not torch.compiler.is_exporting() and not compiled.in_transform(probe.number)


def _was_overtaken(module: nn.Module, number: int) -> bool:
    """Whether a hook of the user's that was registered later runs behind ours; it will not do so again."""
    hooks = module._forward_pre_hooks
    if number not in hooks or type(hooks[next(reversed(hooks))]) is Before:
        return False
    hooks[number] = hooks.pop(number)  # torch walks through a copy
    return True


def _count_examples_traced(args: tuple[Any, ...], kwargs: Mapping[str, Any], batch_axis: int) -> int:
    """`count_examples` for the usual arguments, plain enough to be traced; -1 if it cannot be told."""
    examples = -1
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() > batch_axis >= -value.dim() and examples == -1:
            examples = value.shape[batch_axis]
    return examples


def _first_traced(output: Any) -> Tensor | None:
    value = output[0] if isinstance(output, (tuple, list)) and output else output
    return value if isinstance(value, Tensor) and value.is_floating_point() else None
