"""Rows of stored tensors, a few MiB at a time: only those spans that hold units which are still in question."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Stored
from deadneuron.records import Bools

CHUNK = 1 << 22  # bytes of one tensor: it still lies in a shared cache when it is summed, and few reads are made
_BRIDGE = 1 << 18  # bytes: unwanted rows fewer than that are read along, since a call costs more


def spans(stored: Stored, axis: int, wanted: Bools, chunk: int = CHUNK) -> Iterator[tuple[int, int]]:
    """(first, last) along the first axis that hold the wanted units, each of at most `chunk` bytes or one entry.

    wanted: [units]. Along another axis than the first a unit lies in every entry: all are given if any is wanted.
    """
    if not wanted.any():
        return
    size = max(1, stored.nbytes // max(1, stored.length))
    most = max(1, chunk // size)
    runs = _runs(wanted, max(1, _BRIDGE // size)) if axis == 0 else [(0, stored.length)]
    for first, last in runs:
        for start in range(first, last, most):
            yield start, min(last, start + most)


def _runs(wanted: Bools, bridge: int) -> list[tuple[int, int]]:
    """Runs of wanted rows; those with at most `bridge` rows between them are one."""
    rows = np.flatnonzero(wanted)
    breaks = np.flatnonzero(np.diff(rows) > bridge + 1)
    starts = rows[np.concatenate([[0], breaks + 1])]
    ends = rows[np.concatenate([breaks, [len(rows) - 1]])] + 1
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def heads(stored: Stored, wanted: Bools, columns: int) -> tuple[Tensor, Bools]:
    """The first columns of rows along the first axis, [units, columns], and which rows were read: [units].

    At least the wanted rows are. What is asked of them is asked of all at once: on rows that have just been read, a
    few operations a block would take as long as reading it.
    """
    kept = torch.empty((stored.length, columns), dtype=stored.dtype)
    seen = np.zeros(stored.length, dtype=np.bool_)
    for first, last in spans(stored, 0, wanted):
        kept[first:last] = stored.read(first, last).view(last - first, -1)[:, :columns]
        seen[first:last] = True
    return kept, seen


def corner(stored: Stored, axis: int, chosen: Bools, values: int) -> Tensor:
    """The first values of chosen units, [chosen, values]: no more is kept, and at most a chunk is read at a time.

    chosen: [units]. Along another axis than the first only as many entries are read as hold so many values.
    """
    if axis == 0:
        kept = torch.empty((int(chosen.sum()), min(values, width(stored, 0))), dtype=stored.dtype)
        done = 0
        for first, last in spans(stored, 0, chosen):
            rows = by_unit(stored.read(first, last), 0)[torch.from_numpy(chosen[first:last]), :values]
            kept[done : done + len(rows)] = rows
            done += len(rows)
        return kept
    index = torch.from_numpy(np.flatnonzero(chosen))
    entries = np.arange(stored.length) < -(-values // max(1, math.prod(stored.shape[2:])))
    blocks = [stored.read(first, last).index_select(1, index) for first, last in spans(stored, 0, entries)]
    return by_unit(torch.cat(blocks), axis)[:, :values] if blocks else torch.empty((len(index), 0), dtype=stored.dtype)


def pieces(rows: Tensor) -> Iterator[slice]:
    """Rows [units, values] in pieces of at most 2^16 entries (or one row): several such tensors stay in the cache."""
    most = max(1, (1 << 16) // max(1, rows.shape[1]))
    for first in range(0, rows.shape[0], most):
        yield slice(first, min(rows.shape[0], first + most))


def width(stored: Stored, axis: int) -> int:
    """Values of each unit."""
    return math.prod(stored.shape) // max(1, units_along(stored, axis))


def by_unit(block: Tensor, axis: int) -> Tensor:
    """A block of entries as [units in it, values of each]; copies only where units do not lie along the first axis."""
    rows = block if axis == 0 else block.movedim(axis, 0)
    return rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))


def units_in(axis: int, first: int, last: int) -> slice:
    """Which units a span of the first axis holds."""
    return slice(first, last) if axis == 0 else slice(None)


def units_along(stored: Stored, axis: int) -> int:
    """How many units a tensor has along an axis; a scalar has one."""
    return stored.shape[axis] if stored.shape else 1


def is_square(stored: Stored) -> bool:
    """Whether its units could as well lie along the other axis."""
    return len(stored.shape) >= 2 and stored.shape[0] == stored.shape[1] > 1


def is_real(stored: Stored) -> bool:
    """Whether it holds real floating-point numbers of 16 bits or more, which can be computed with as they are."""
    return stored.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
