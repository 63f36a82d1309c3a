"""A window's histogram as TensorBoard draws it: finite buckets of outputs, given by their right ends.

The counts are the run's own. Where a window has no histogram of its outputs, that of its inputs is carried over: the
activation is monotone there, so a bin of inputs is a bin of outputs between the activation's values at its ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deadneuron.records import HISTOGRAM_EDGES, ZERO_BIN, Ints, Site, Window

_CLOSE = 2.0**-13  # outputs nearer than this are one: the narrowest of the histogram's own bins beside the two at zero
_WIDTH = 2.0**-14  # a bucket that holds a single value is drawn this wide: TensorBoard leaves out buckets without width


@dataclass(frozen=True, slots=True)
class Buckets:
    """Counts between ascending limits: the first bucket reaches from `low` to `limits[0]`."""

    low: float
    limits: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def middles(self) -> tuple[float, ...]:
        lefts = (self.low, *self.limits[:-1])
        return tuple((left + right) / 2 for left, right in zip(lefts, self.limits, strict=True))


def output_buckets(site: Site, window: Window) -> Buckets | None:
    """The window's outputs without empty buckets at the ends; None where none was counted, or none can be known."""
    if window.output_histogram is not None:
        made = to_buckets(HISTOGRAM_EDGES.tolist(), window.output_histogram)
    elif site.outputs is not None:
        made = to_buckets(site.outputs, window.histogram)
    else:
        return None
    filled = np.flatnonzero(made.counts)
    if not len(filled):
        return None
    first, last = int(filled[0]), int(filled[-1])
    low = made.limits[first - 1] if first else made.low
    return Buckets(low, made.limits[first : last + 1], made.counts[first : last + 1])


def to_buckets(edges: Sequence[float], counts: Ints) -> Buckets:
    """Bins between ascending edges, the first and the last of them open, as finite buckets; counts are kept.

    Bins where the activation is flat become one narrow bucket: all of ReLU's negative side lies in one that ends at 0.
    An open bin is drawn as wide as its neighbour; where the activation is flat to the end it holds nothing new and
    joins that bucket.
    """
    groups = _equal(edges)
    (first, second), (start, last) = groups[0], groups[-1]
    flat_below, flat_above = second > first, last > start
    low = edges[0] - (_WIDTH if flat_below else edges[1] - edges[0])
    # (right end, count); bin i is the one that ends at edge i
    parts = [(edges[second], int(counts[: second + 1].sum()))]
    for i, j in groups[1:]:
        parts.append((edges[i], int(counts[i])))
        if j > i:
            parts.append((max(edges[j], edges[i] + _WIDTH), int(counts[i + 1 : j + 1].sum())))
    above = int(counts[-1])
    if flat_above and len(groups) > 1:
        end, count = parts.pop()
        parts.append((end, count + above))
    else:
        parts.append((edges[-1] + (edges[-1] - edges[-2] or _WIDTH), above))
    limits, merged = [parts[0][0]], [parts[0][1]]
    for end, count in parts[1:]:
        if end - limits[-1] < _WIDTH / 2:  # what is left between a stretch of close edges and the next edge
            limits[-1], merged[-1] = end, merged[-1] + count
        else:
            limits.append(end)
            merged.append(count)
    return Buckets(low, tuple(limits), tuple(merged))


def _equal(edges: Sequence[float]) -> list[tuple[int, int]]:
    """First and last index of each stretch of edges that lie close together."""
    groups: list[tuple[int, int]] = []
    for i, edge in enumerate(edges):
        if groups and edge - edges[groups[-1][0]] < _CLOSE:
            groups[-1] = (groups[-1][0], i)
        else:
            groups.append((i, i))
    return groups


def share_at_zero(window: Window) -> float | None:
    """The share of the window's pre-activations at or below zero, over all units; None where none was counted."""
    total = int(window.histogram.sum())
    return int(window.histogram[: ZERO_BIN + 1].sum()) / total if total else None
