"""Which modules apply activations in methods that no hook hears: told from their code.

torch calls hooks when a module itself is called. `model.encode(x)`, `model.forward(x)` or what a generator yields after
forward has returned calls none, and an activation that such code calls as a function is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from deadneuron.measure.functions import READERS

# What these do is told by their arguments, and mostly it is something else.
_UNSURE = {"clamp", "clip", "max", "maximum", "fmax", "erf", "expit"}
_NAMES = {function.__name__.removesuffix("_") for function in READERS} - _UNSURE
_known: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def mentions_functions(module: nn.Module) -> bool:
    """Whether any method of a module's class, or a function that it holds, names an activation of torch."""
    kind = type(module)
    if kind not in _known:
        _known[kind] = _mentioned(kind)
    return _known[kind] or any(_is_one(value) for value in vars(module).values())


def _mentioned(kind: type) -> bool:
    seen: set[FunctionType] = set()
    left = [
        function
        for base in kind.__mro__
        if not base.__module__.startswith(("torch.", "builtins"))
        for name, value in vars(base).items()
        if name != "__init__"  # what it chooses is held by the module or by a part of it
        for function in _functions_in(value)
    ]
    while left:
        function = left.pop()
        if function in seen:
            continue
        seen.add(function)
        for name in _names(function.__code__):
            known = function.__globals__.get(name)
            if name.removesuffix("_") in _NAMES or _is_one(known):
                return True
            if isinstance(known, FunctionType) and known.__module__ == function.__module__:
                left.append(known)
        for cell in function.__closure__ or ():  # what a decorator has wrapped
            try:
                left += _functions_in(cell.cell_contents)
            except ValueError:
                continue
    return False


def _functions_in(value: Any) -> Iterator[FunctionType]:
    for inner in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
        if isinstance(inner, FunctionType):
            yield inner


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_one(value: Any) -> bool:
    return callable(value) and type(value).__hash__ is not None and value in READERS
