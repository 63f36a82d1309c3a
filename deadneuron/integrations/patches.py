"""Attributes of other packages that are replaced while a script runs, and put back afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Patches:
    """What was replaced. A replacement that somebody kept (`from torch import manual_seed`) asks `active`."""

    def __init__(self) -> None:
        self.active = True
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put `make(original)` in the place of an attribute."""
        original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        replacement = make(original)
        self._replaced.append((owner, name, original, replacement))
        setattr(owner, name, replacement)

    def restore(self) -> None:
        """Put everything back, last first. What somebody else has wrapped since stays, and passes everything on."""
        self.active = False
        while self._replaced:
            owner, name, original, replacement = self._replaced.pop()
            if getattr(owner, name, None) is replacement:
                setattr(owner, name, original)
