"""What is built in place of the objects that a pickle names: plain records of ours, which run nothing of theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_SHORT = 32  # bytes: the longest number of numpy's


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


class _Settable(type):
    """torch's unpickler sets items only on the classes dict, OrderedDict and Counter, by `==`: equal to dict."""

    def __eq__(cls, other: object) -> bool:
        return other is dict or cls is other

    def __hash__(cls) -> int:
        return type.__hash__(cls)


class Inert(metaclass=_Settable):
    """Stands for an object of another's class: takes arguments, state and items, and keeps none of them."""

    name = "object"

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass


def inert(name: str) -> type[Inert]:
    """A class whose objects stand for those of the class, or the results of the function, of that name."""

    class Named(Inert):
        pass

    Named.name = name
    return Named


class NumpyDtype(Inert):
    """Stands for numpy.dtype; remembers which one."""

    name = "numpy.dtype"

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
            self.order = str(state[1])


class NumpyArray(Inert):
    name = "numpy.ndarray"


def numpy_array(*_: object) -> NumpyArray:
    return NumpyArray()


_SCALAR = inert("numpy.generic")


def numpy_scalar(dtype: object = None, raw: object = b"", *_: object) -> object:
    """A number of numpy's as Python's: learning rates and losses are logged so."""
    if not isinstance(dtype, NumpyDtype) or not isinstance(raw, bytes) or len(raw) > _SHORT:
        return _SCALAR()
    try:
        kind = np.dtype(dtype.order + dtype.code)
    except (TypeError, ValueError):
        return _SCALAR()
    if kind.kind not in "biufc" or kind.itemsize != len(raw):
        return _SCALAR()
    return np.frombuffer(raw, kind)[0].item()


def encoded(text: object = "", codec: object = "latin1", *_: object) -> bytes:
    """Stands for _codecs.encode, as which protocol 2 writes bytes."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1", "ascii", "utf-8"):
        raise ValueError("bytes that no pickle writes so")
    return text.encode("latin1" if codec == "latin-1" else str(codec))


def storage(reference: object) -> object:
    """Stands for a reference: ("storage", kind, key, location, elements), and a view of it in files of old."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] not in ("storage", b"storage"):
        return Unreadable("torch storage", "a reference of an unknown kind")
    kind, key = reference[1], reference[2]
    if not isinstance(kind, StorageKind) or not isinstance(key, str):
        return Unreadable("torch storage", "a storage of an unknown kind")
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
    return data


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
    built: Callable[..., object] = function  # type: ignore[assignment]
    return built(*arguments)


TENSOR, PARAMETER, BUFFER = (
    inert("torch.Tensor"),
    inert("torch.nn.parameter.Parameter"),
    inert("torch.nn.parameter.Buffer"),
)


def plain_dict(*arguments: object) -> OrderedDict[Any, Any]:
    """Stands for dict and its kin; items are set afterwards, and state too, which a plain dict does not take."""
    return OrderedDict(arguments[-1]) if arguments and isinstance(arguments[-1], dict) else OrderedDict()


def plain_list(*arguments: object) -> list[Any]:
    """Stands for list and its kin (deque)."""
    return list(arguments[0]) if arguments and isinstance(arguments[0], (list, tuple)) else []


class DictLike(Inert):
    """Stands for a class of dicts that is made without a call: its objects are plain dicts."""

    name = "dict"

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


def size(values: object = (), *_: object) -> tuple[Any, ...]:
    """Stands for torch.Size and tuple."""
    return tuple(values) if isinstance(values, (list, tuple)) else ()


def plain_set(values: Iterable[Any] = (), *_: object) -> set[Any]:
    return set(values) if isinstance(values, (list, tuple)) else set()


def complex_number(real: object = 0.0, imaginary: object = 0.0, *_: object) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imaginary, (int, float)):
        raise ValueError("a number of something else")
    return complex(real, imaginary)
