"""What is built in place of the objects that a pickle names: plain records of ours, which run nothing of theirs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

_NUMBER = re.compile(r"[biufc]\d\d?")  # numpy's codes of numbers: "f8"
_LONGEST = 64  # elements of a size, and of a key


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
    if not isinstance(dtype, NumpyDtype) or not isinstance(raw, bytes) or not _NUMBER.fullmatch(dtype.code):
        return _SCALAR()
    try:
        kind = np.dtype(dtype.order + dtype.code)
    except TypeError:  # no such width
        return _SCALAR()
    if kind.itemsize != len(raw):
        return _SCALAR()
    return np.frombuffer(raw, kind)[0].item()


class Encoder:
    """Stands for _codecs.encode, as which protocol 2 writes bytes; in all, no more than a pickle can hold."""

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, text: object = "", codec: object = "latin1", *_: object) -> bytes:
        if not isinstance(text, str) or codec not in ("latin1", "latin-1", "ascii", "utf-8"):
            raise ValueError("bytes that no pickle writes so")
        self._left -= len(text)
        if self._left < 0:
            raise ValueError("more bytes than the pickle holds")
        return text.encode(str(codec))


class Items(dict[Any, Any], metaclass=_Settable):
    """Stands for a dict of any class: takes items, and state too, which it does not keep."""

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(hashable(key), value)

    def __setstate__(self, _: object) -> None:
        pass


def hashable(key: object) -> object:
    """The key, unless its hash might walk far: a tuple that holds tuples. Raises ValueError."""
    if isinstance(key, tuple) and (len(key) > _LONGEST or any(isinstance(one, tuple) for one in key)):
        raise ValueError("a key that no dict of a checkpoint has")
    return key


# Nothing is copied below that a pickle can refer to again and again: what is small on disk would grow without end.


def plain_dict(*arguments: object) -> dict[Any, Any]:
    """Stands for dict and its kin, whose items are mostly set afterwards."""
    last = arguments[-1] if arguments else None
    if isinstance(last, dict):
        return last  # of Counter and defaultdict
    made = Items()
    if isinstance(last, list):  # of OrderedDict in Python 2
        for pair in last:
            key, value = pair if isinstance(pair, (list, tuple)) else ()
            made[key] = value
        last.clear()
    return made


def plain_list(*arguments: object) -> list[Any]:
    """Stands for list, set and their kin; the items of a deque are appended afterwards."""
    return arguments[0] if arguments and isinstance(arguments[0], list) else []


class DictLike(Inert):
    """Stands for a class of dicts that is made without a call: its objects are plain dicts."""

    name = "dict"

    def __new__(cls, *_: object, **__: object) -> Any:
        return Items()


def size(values: object = (), *_: object) -> tuple[Any, ...]:
    """Stands for torch.Size and tuple, of a few plain values."""
    if not isinstance(values, (list, tuple)) or len(values) > _LONGEST:
        raise ValueError("a size that no tensor has")
    made = tuple(values)
    hashable(made)
    return made


def complex_number(real: object = 0.0, imaginary: object = 0.0, *_: object) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imaginary, (int, float)):
        raise ValueError("a number of something else")
    return complex(real, imaginary)
