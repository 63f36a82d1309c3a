"""What is built in place of the objects that a pickle names: plain records of ours, which run nothing of theirs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

_SHORT = 32  # bytes: the longest number of numpy's


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
