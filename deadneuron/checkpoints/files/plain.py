"""What was unpickled becomes the tree that the other rooms read: plain containers and values, `Stored` and `Opaque`.

A pickle can nest without end, share one list a million times, or hold itself. Here every object is turned once, on a
stack of our own; what would be endless or enormous for a reader who simply walks through it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from deadneuron.checkpoints.contents import Opaque, Stored
from deadneuron.checkpoints.files.described import Rebuilt, Storage, StorageKind, Unreadable
from deadneuron.checkpoints.files.opened import printable
from deadneuron.checkpoints.files.standins import Inert
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap

_DEEPEST = 100  # levels: so that whoever walks the tree may recurse
_LARGEST = 5_000_000  # nodes, counting what is shared as often as a walk meets it
_PLAIN = (str, int, float, bool, bytes, complex, type(None))
_CONTAINERS = (dict, list, tuple, set)


@dataclass(slots=True)
class _Frame:
    """A container that is being turned."""

    source: Any
    children: Iterator[tuple[Any, Any]]  # (key, value)
    parent: _Frame | None
    key: Any = ""
    depth: int = 0
    nodes: int = 1
    levels: int = 1  # below and with it
    made: list[tuple[Any, Any]] = field(default_factory=list)


def plain(root: object, place: str, stored: Callable[[Rebuilt, str], Stored]) -> tuple[Any, tuple[Gap, ...]]:
    """The tree, and gaps for tensors that cannot be read.

    Raises `CheckpointError` for a tree too deep, too large or endless, and what `stored` raises for a tensor.
    """
    gaps: list[Gap] = []
    done: dict[int, tuple[Any, int, int]] = {}  # id → (what it became, nodes, levels)
    open_now: set[int] = set()
    holder = _Frame(None, iter([("", root)]), None)
    frame: _Frame | None = holder
    while frame is not None:
        key, value = next(frame.children, (None, done))
        if value is done:  # its end
            frame = _close(frame, done, open_now, place)
            continue
        turned = done.get(id(value))
        if turned is None and isinstance(value, _CONTAINERS):
            if id(value) in open_now:
                raise CheckpointError("it holds itself", where=place, todo="save a plain state dict")
            open_now.add(id(value))
            frame = _Frame(value, _children(value), frame, key, frame.depth + 1)
            _check(frame.depth, 0, place)
            continue
        if turned is None:
            turned = (_leaf(value, frame, key, place, stored, gaps), 1, 0)
            if isinstance(value, Rebuilt):
                done[id(value)] = turned
        _add(frame, key, turned, place)
    return holder.made[0][1], tuple(gaps)


def _close(frame: _Frame, done: dict[int, tuple[Any, int, int]], open_now: set[int], place: str) -> _Frame | None:
    parent = frame.parent
    if parent is None:
        return None
    kind = type(frame.source)
    made: Any
    if issubclass(kind, dict):
        made = {_key(key): value for key, value in frame.made}
    elif kind is list:
        made = [value for _, value in frame.made]
    else:
        made = tuple(value for _, value in frame.made)
    done[id(frame.source)] = (made, frame.nodes, frame.levels)
    open_now.discard(id(frame.source))
    _add(parent, frame.key, done[id(frame.source)], place)
    return parent


def _add(frame: _Frame, key: Any, turned: tuple[Any, int, int], place: str) -> None:
    value, nodes, levels = turned
    _check(frame.depth + levels, frame.nodes + nodes, place)
    frame.nodes += nodes
    frame.levels = max(frame.levels, 1 + levels)
    frame.made.append((key, value))


def _children(value: Any) -> Iterator[tuple[Any, Any]]:
    return iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))


def _check(depth: int, nodes: int, place: str) -> None:
    if depth > _DEEPEST:
        raise CheckpointError(
            f"it is nested deeper than {_DEEPEST} levels", where=place, todo="save a plain state dict"
        )
    if nodes > _LARGEST:
        raise CheckpointError("it is too large to be walked through", where=place, todo="save a plain state dict")


def _leaf(
    value: Any, frame: _Frame, key: Any, place: str, stored: Callable[[Rebuilt, str], Stored], gaps: list[Gap]
) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Rebuilt):
        return stored(value, _path(frame, key))
    if isinstance(value, Unreadable):
        gaps.append(Gap(f"{place}: {_path(frame, key)}", f"{value.reason}: not read", 0))
        return Opaque(value.name)
    if isinstance(value, Storage):
        return Opaque("torch storage")
    return Opaque(_name(value))


def _name(value: Any) -> str:
    if isinstance(value, Inert) or (isinstance(value, type) and issubclass(value, Inert)):
        return value.name
    if isinstance(value, (torch.dtype, StorageKind)):
        return str(value if isinstance(value, torch.dtype) else value.dtype)
    return getattr(value, "__name__", type(value).__name__)


def _key(key: Any) -> Any:
    """Keys of dicts are plain, or tuples of plain ones."""
    plain_key = isinstance(key, _PLAIN) or (isinstance(key, tuple) and all(isinstance(one, _PLAIN) for one in key))
    return key if plain_key else Opaque(_name(key))


def _path(frame: _Frame | None, key: Any) -> str:
    """ "optimizer.state.0.exp_avg": how the tensor is reached."""
    keys = [key]
    while frame is not None and frame.parent is not None:
        keys.append(frame.key)
        frame = frame.parent
    return printable(".".join(str(key)[:100] for key in reversed(keys) if key != "")) or "the file"
