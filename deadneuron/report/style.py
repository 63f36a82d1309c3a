"""Marks, colours, and text that is safe to print."""

from __future__ import annotations

STYLES: dict[str, str] = {
    "healthy": "green",
    "note": "cyan",
    "warning": "yellow",
    "severe": "bold red",
    "unknown": "magenta",
}
"""rich's style for each status and level."""

MARKS: dict[str, str] = {"healthy": "✓", "note": "i", "warning": "!", "severe": "✗", "unknown": "?"}
"""A character for each status and level, so that nothing hangs on colour."""


def printable(text: str) -> str:
    """The text with control characters replaced: a module may be called anything, and must not drive a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
