"""Hooks that do not ride along: a copy or a pickle of a watched model is not watched.

`copy.deepcopy`, `pickle` and `torch.save(model)` copy a module's hooks with it. These reduce to a method of the
standard library that takes anything and returns None, so the copy works, counts nothing, and loads where deadneuron
is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any


class InertWhenCopied:
    """Base of all hooks that deadneuron registers on a module."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (nullcontext(), "__exit__")
