"""A snapshot of everything that a training step changes, so that steps can be taken back bit by bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadneuron.errors import BranchError, UsageError
from deadneuron.experiments.interrupts import uninterrupted
from deadneuron.experiments.memory import Memory, copied, same_bits
from deadneuron.measure.aside import aside
from deadneuron.measure.keeping import Undo, attributes_of, tensors_of
from deadneuron.measure.rng import RngState, differing, recall_generator, rng_state, set_rng_state
from deadneuron.measure.stepping import steppable

_UNRESTORED = "the training is not as it was: go on from a checkpoint"


class Snapshot:
    """The state of a training at one moment. `restore()` brings it back, as often as it is called.

    Held are: parameters (with their gradients and requires_grad), buffers and all other attributes of the model's
    modules, the optimizers' state and groups (a rate that is a tensor too), the scaler, and the random generators of
    Python, numpy and torch on every device. Tensors keep their identity: their values are written back in place.
    It takes the memory of one copy of each tensor, on the host with `offload`.

    extra: what else a step changes. Modules (a teacher, an average of the weights), optimizers and generators are held
    like the model's own; of anything else `state_dict()` is kept and given back to `load_state_dict()`.

    Raises:
        BranchError: something cannot be copied, or has not taken shape yet.
        UsageError: an optimizer or an extra that is none.
    """

    def __init__(
        self, model: nn.Module, optimizer: Any, scaler: Any = None, extra: Sequence[Any] = (), *, offload: bool = False
    ) -> None:
        self._memory = Memory(offload)
        self._undo: list[Undo] = []
        self._states: list[_State] = []
        self._numbers: RngState = rng_state()
        optimizers = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        with aside(), torch.no_grad():
            self._hold_module("model", getattr(model, "_orig_mod", model))
            for one in optimizers:
                self._hold_optimizer(one)
            if scaler is not None:
                self._hold_attributes("scaler", scaler)
            for number, one in enumerate(extra):
                self._hold_extra(f"extra[{number}]", one)

    @property
    def bytes(self) -> int:
        """What the copies of tensors take."""
        return self._memory.bytes

    def restore(self) -> None:
        """Bring everything back, then compare. Raises `BranchError` that names what is not as it was.

        A Ctrl-C meanwhile is heard when this is done.
        """
        with uninterrupted(), aside(), torch.no_grad():
            wrong: list[str] = []
            for act in self._undo:
                try:
                    act()
                except Exception as error:  # the others must be done all the same
                    wrong.append(f"{type(error).__name__}: {error}")
            wrong += self._memory.write_back()
            for state in self._states:
                wrong += state.put_back()
            set_rng_state(self._numbers)
            wrong += [name for name in self._memory.differing() if not any(one.startswith(name) for one in wrong)]
            wrong += differing(self._numbers, rng_state())
        if wrong:
            named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise BranchError("after a branch this could not be restored", where=named, todo=_UNRESTORED)

    # ── what is held ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _hold_module(self, name: str, module: nn.Module) -> None:
        for part in module.modules():
            self._undo += attributes_of(part)
        names = dict(_names(module))
        for tensor in tensors_of(module):
            self._memory.hold_tensor(f"{name}.{names.get(id(tensor), 'a plain attribute')}", tensor)
        for label, parameter in module.named_parameters():
            self._hold_parameter(f"{name}.{label}", parameter)

    def _hold_parameter(self, name: str, parameter: Tensor) -> None:
        self._memory.hold_tensor(name, parameter)
        if not parameter.is_leaf:
            return
        gradient = parameter.grad
        if gradient is not None:
            self._memory.hold_tensor(f"{name}.grad", gradient)
        self._undo.append(partial(_set_leaf, parameter, gradient, parameter.requires_grad))

    def _hold_optimizer(self, given: Any) -> None:
        optimizer = steppable(given)
        name = type(optimizer).__name__
        for group in optimizer.param_groups:
            for index, parameter in enumerate(group["params"]):
                self._hold_parameter(f"{name}: parameter {index}", parameter)
        self._undo.append(self._memory.hold(f"{name}.state", optimizer.state))
        self._undo.append(self._memory.hold(f"{name}.param_groups", optimizer.param_groups))
        self._hold_attributes(name, optimizer)
        if given is not optimizer:  # a wrapper, such as Accelerate's
            self._hold_attributes(type(given).__name__, given)

    def _hold_attributes(self, name: str, thing: Any) -> None:
        """All attributes; objects in them that are neither tensors, containers nor plain values are left alone."""
        self._undo.append(self._memory.hold(name, vars(thing), opaque=True))

    def _hold_extra(self, name: str, thing: Any) -> None:
        name += f" ({type(thing).__name__})"
        generator = recall_generator(thing)
        if isinstance(thing, nn.Module):
            self._hold_module(name, getattr(thing, "_orig_mod", thing))
        elif isinstance(thing, torch.optim.Optimizer):
            self._hold_optimizer(thing)
        elif generator is not None:
            self._undo.append(generator)
        elif callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None)):
            self._states.append(_State(name, thing))
        else:
            todo = "give a module, an optimizer, a generator, or what has state_dict() and load_state_dict()"
            raise UsageError("an extra without a state", where=name, todo=todo)


class _State:
    """An object whose state is told by its own state_dict()."""

    def __init__(self, name: str, thing: Any) -> None:
        self.name, self._thing = name, thing
        self._copy = copied(name, thing.state_dict())

    def put_back(self) -> list[str]:
        """Give the state back; names it if that is refused, or is not what it then has."""
        try:
            self._thing.load_state_dict(copy.deepcopy(self._copy))
        except Exception as error:
            return [f"{self.name} ({type(error).__name__}: {error})"]
        return [] if _same(self._thing.state_dict(), self._copy) else [self.name]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return same_bits(left.detach(), right.detach())
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, float):
        return left == right or left != left
    # Objects without an equality of their own are copies of one another, as far as can be told.
    return bool(left == right) or "__eq__" not in {name for kind in type(left).__mro__[:-1] for name in vars(kind)}


def _names(module: nn.Module) -> Iterator[tuple[int, str]]:
    for label, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield id(tensor), label


def _set_leaf(parameter: Tensor, gradient: Tensor | None, requires_grad: bool) -> None:
    parameter.requires_grad_(requires_grad)
    parameter.grad = gradient
