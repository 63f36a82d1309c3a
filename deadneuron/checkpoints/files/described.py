"""Tensors and storages as a pickle describes them: records of ours in place of the calls that would build them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from deadneuron.checkpoints.files.standins import inert

TENSOR = inert("torch.Tensor")
PARAMETER = inert("torch.nn.parameter.Parameter")
BUFFER = inert("torch.nn.parameter.Buffer")


@dataclass(frozen=True, slots=True)
class StorageKind:
    """Stands for torch.FloatStorage and the like."""

    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage that a pickle refers to, by its key in the file."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A tensor as the pickle describes it; nothing of it has been checked but types. Offset and strides in elements."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor of a kind whose numbers are not read."""

    name: str
    reason: str


class Storages:
    """Stands for references to storages: ("storage", kind, key, location, elements), and a view in files of old.

    Keeps the keys and their dtypes, also of those that no tensor uses that could be read.
    """

    def __init__(self) -> None:
        self.dtypes: dict[str, torch.dtype] = {}

    def __call__(self, reference: object) -> object:
        if not isinstance(reference, tuple) or len(reference) not in (5, 6):
            raise ValueError("a reference of an unknown kind")
        kind, key = reference[1], reference[2]
        if reference[0] != "storage" or not isinstance(kind, StorageKind) or not isinstance(key, str):
            raise ValueError("a storage of an unknown kind")
        if self.dtypes.setdefault(key, kind.dtype) != kind.dtype:
            raise ValueError("one storage of two kinds")
        if len(reference) == 6 and reference[5] is not None:
            return Unreadable("torch storage", "a view of a storage, as torch wrote it before 2017")
        return Storage(key, kind.dtype)


def tensor(holder: object, offset: object, size: object, strides: object, *rest: object) -> object:
    """Stands for torch._utils._rebuild_tensor and _v2 (…, requires_grad, hooks, metadata)."""
    dtype = holder.dtype if isinstance(holder, Storage) else None
    return _view(holder, offset, size, strides, dtype, rest[2] if len(rest) > 2 else None)


def tensor_v3(holder: object, offset: object, size: object, strides: object, *rest: object) -> object:
    """Stands for torch._utils._rebuild_tensor_v3 (…, requires_grad, hooks, dtype, metadata)."""
    dtype = rest[2] if len(rest) > 2 else None
    return _view(holder, offset, size, strides, dtype, rest[3] if len(rest) > 3 else None)


def _view(holder: object, offset: object, size: object, strides: object, dtype: object, metadata: object) -> object:
    if isinstance(holder, Unreadable):
        return holder
    if not isinstance(holder, Storage) or not isinstance(dtype, torch.dtype):
        return Unreadable("torch.Tensor", "a tensor without a storage")
    if metadata:
        return Unreadable("torch.Tensor", "a tensor that is conjugated or negated on reading")
    shape, steps = _integers(size), _integers(strides)
    if type(offset) is not int or shape is None or steps is None:
        return Unreadable("torch.Tensor", "a tensor whose shape is none")
    return Rebuilt(holder, dtype, offset, shape, steps)


def _integers(values: object) -> tuple[int, ...] | None:
    if not isinstance(values, (tuple, list)) or len(values) > 64 or any(type(value) is not int for value in values):
        return None
    return tuple(values)


def parameter(data: object = None, *_: object) -> object:
    """Stands for torch._utils._rebuild_parameter and _with_state (data, requires_grad, hooks, state)."""
    if isinstance(data, (Rebuilt, Unreadable)):
        return data
    return Unreadable("torch.nn.Parameter", "a parameter without a tensor")


def cpu_copy(data: object = None, dtype: object = None, *_: object) -> object:
    """Stands for torch._utils._rebuild_device_tensor_from_cpu_tensor (data, dtype, device, requires_grad)."""
    same = isinstance(data, Rebuilt) and data.dtype == dtype
    return data if same else Unreadable("torch.Tensor", "a tensor of a device that torch knows by its data only")


def of_kind(name: str, reason: str) -> Callable[..., Unreadable]:
    """Stands for a function that builds a tensor of a kind whose numbers are not read."""
    made = Unreadable(name, reason)

    def build(*_: object) -> Unreadable:
        return made

    return build


def subclass(function: object = None, kind: object = None, arguments: object = (), *_: object) -> object:
    """Stands for torch._tensor._rebuild_from_type_v2 (function, class, arguments, state): tensors with attributes."""
    name = getattr(kind, "name", "torch.Tensor")
    if kind not in (TENSOR, PARAMETER, BUFFER) or function not in (tensor, tensor_v3, parameter):
        return Unreadable(str(name), "a kind of tensor that only its own code can read")
    if not isinstance(arguments, tuple):
        return Unreadable(str(name), "a tensor without a storage")
    built: Callable[..., object] = function
    return built(*arguments)
