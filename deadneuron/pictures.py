"""What is drawn of a run: states of units over steps, rates, deaths, histograms. Plain Python and numpy.

The report page and the TensorBoard tab draw the same `Picture`; a screen has a few hundred pixels for a layer's units
and for a run's windows, so what is larger is pooled before it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deadneuron.records import Ints

Bytes = NDArray[np.uint8]

UNSEEN = 4  # beside the states 0 … 3 (active, rare, silent, dead): the site was not seen
ROWS = 256  # of a raster: more units are pooled


@dataclass(frozen=True, slots=True)
class Death:
    """One episode, as it is drawn."""

    unit: int
    first: int  # step of the death; 0 for born dead
    last: int | None  # last silent step; None while it lasts
    rate: float | None
    born: bool
    latest: int | None  # the death lies in first … latest; None where it is known to the step


@dataclass(frozen=True, slots=True)
class SitePicture:
    """One site over its windows."""

    number: int
    name: str
    op: str
    units: int
    first: Ints  # [columns] first step of each column (a window, or several pooled)
    last: Ints  # [columns]
    dead: Bytes  # [columns] share of units that are dead, 0 … 255
    silent: Bytes  # [columns] … silent
    rare: Bytes  # [columns] … rare
    states: Bytes  # [rows, columns] of a unit, or of `per_row` units pooled: what most of them are, the graver on a tie
    per_row: int  # units a row
    deaths: tuple[Death, ...]
    samples: int | None  # n of the dead units; None where nothing was counted
    bound: float | None  # 3/n
    histogram: (
        Bytes | None
    )  # [bins, columns] outputs or pre-activations: share of a column's values, square root, 0 … 255
    edges: tuple[float, ...]  # inner edges of the bins


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn of a run or of a series of checkpoints."""

    name: str
    first_step: int
    last_step: int
    rates: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]  # (group, points (step, rate))
    loss: tuple[tuple[int, float], ...]
    sites: tuple[SitePicture, ...]


def pool_rows(states: Bytes, rows: int = ROWS) -> tuple[Bytes, int]:
    """([at most `rows`, windows], units a row): of several units the state that most of them are in."""
    per_row = -(-states.shape[0] // rows)
    if per_row <= 1:
        return states, max(per_row, 1)
    groups = [(a, min(a + per_row, states.shape[0])) for a in range(0, states.shape[0], per_row)]
    return pooled(states.T, groups).T, per_row


def pooled(states: Bytes, groups: Sequence[tuple[int, int]]) -> Bytes:
    """Along the second axis: the most frequent state of each group, the graver one on a tie."""
    counts = np.stack([np.add.reduceat(states == s, [a for a, _ in groups], axis=1) for s in range(UNSEEN + 1)])
    graver: Bytes = (UNSEEN - np.argmax(counts[::-1], axis=0)).astype(np.uint8)
    return graver


def grouped(count: int, most: int) -> list[tuple[int, int]]:
    """`count` things in at most `most` runs of about equal length: (first, behind the last) of each."""
    edges = np.unique(np.linspace(0, count, min(count, most) + 1).round().astype(int))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
