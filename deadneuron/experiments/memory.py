"""Memory of a training's state: values are put back into the very tensors and containers that held them.

Whoever else holds these objects (a scheduler, DistributedDataParallel's buckets, a CUDA graph, compiled code) then
finds the old values where they were.
"""

from __future__ import annotations

import copy
import types
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from deadneuron.errors import BranchError
from deadneuron.measure.keeping import MAPS, has_memory, put_back, write_back

Recall = Callable[[], Any]
_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, Enum, range, slice)
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, nn.Module)


class _Held:
    """One tensor: itself, the memory it showed, and a copy of that."""

    def __init__(self, name: str, tensor: Tensor, host: bool) -> None:
        self.name, self.tensor, self.alias = name, tensor, tensor.data
        self.copy = self.alias.to("cpu", copy=True) if host else self.alias.clone()


class Memory:
    """Tensors, each once, and what recalls the containers around them.

    host: keep the copies in host memory.
    """

    def __init__(self, host: bool) -> None:
        self._host = host
        self._held: dict[int, _Held] = {}
        self._containers: dict[int, Any] = {}  # those that are being held, which keeps them alive

    @property
    def bytes(self) -> int:
        """What the copies take."""
        return sum(held.copy.numel() * held.copy.element_size() for held in self._held.values())

    def hold_tensor(self, name: str, tensor: Tensor) -> Recall:
        """Copy a tensor. Raises `BranchError` for a lazy parameter, which has no values yet."""
        if torch.nn.parameter.is_lazy(tensor):
            todo = "run one batch through the model first"
            raise BranchError("a lazy layer has not taken shape yet", where=name, todo=todo)
        if id(tensor) not in self._held and has_memory(tensor):
            self._held[id(tensor)] = _Held(name, tensor, self._host)
        return lambda: tensor

    def hold(self, name: str, value: Any, *, opaque: bool = False) -> Recall:
        """Remember a value and all that is in it; what is given back makes it what it was, and gives it.

        Objects that are no tensors, containers or plain values are copied whole; with `opaque` they are left alone.
        Raises `BranchError` where one cannot be copied.
        """
        if isinstance(value, Tensor):
            return self.hold_tensor(name, value)
        if isinstance(value, (*_PLAIN, *_CODE)) or id(value) in self._containers:
            return lambda: value
        kind = type(value)
        if kind in MAPS:
            self._containers[id(value)] = value
            items = {key: self.hold(f"{name}[{_label(key)}]", item, opaque=opaque) for key, item in value.items()}
            return lambda: _as(put_back, value, {key: recall() for key, recall in items.items()})
        if kind in (list, deque, set):
            self._containers[id(value)] = value
            members = [self.hold(f"{name}[{index}]", one, opaque=opaque) for index, one in enumerate(value)]
            return lambda: _as(_refill, value, [recall() for recall in members])
        if kind is tuple:
            parts = [self.hold(f"{name}[{index}]", one, opaque=opaque) for index, one in enumerate(value)]
            return lambda: tuple(recall() for recall in parts)
        if opaque:
            return lambda: value
        kept = copied(name, value)
        return lambda: copy.deepcopy(kept)

    def write_back(self) -> list[str]:
        """Write all tensors' values back; the names of those that cannot be written."""
        failed = []
        for held in self._held.values():
            try:
                write_back(held.tensor, held.alias, held.copy)
            except Exception as error:  # its memory was freed, or it shows one place twice
                failed.append(f"{held.name} ({type(error).__name__})")
        return failed

    def differing(self) -> list[str]:
        """Names of the tensors that are not, bit for bit, what they were."""
        return [held.name for held in self._held.values() if not same_bits(held.tensor.data, held.copy)]


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors are equal bit for bit: NaN equals itself, and -0 is not 0. They may be on two devices."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    left = left.to(right.device)
    if left.layout is not torch.strided or left.is_quantized or type(left) is not Tensor:
        return torch.equal(left, right)
    if left.is_complex():
        left, right = torch.view_as_real(left.resolve_conj()), torch.view_as_real(right.resolve_conj())
    return torch.equal(_raw(left), _raw(right))


def _raw(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def copied(name: str, value: Any) -> Any:
    """A deep copy. Raises `BranchError` where there can be none."""
    try:
        return copy.deepcopy(value)
    except Exception as error:
        what = f"a {type(value).__name__} in the training's state cannot be copied: {error}"
        raise BranchError(what, where=name, todo="a branch could not be undone: keep it outside") from None


def _as(act: Callable[[Any, Any], None], value: Any, content: Any) -> Any:
    act(value, content)
    return value


def _refill(values: Any, members: list[Any]) -> None:
    if len(values) != len(members) or any(a is not b for a, b in zip(values, members, strict=True)):
        values.clear()
        getattr(values, "update" if isinstance(values, set) else "extend")(members)


def _label(key: Any) -> str:
    return "tensor" if isinstance(key, Tensor) else repr(key)
