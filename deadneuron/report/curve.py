"""The dead share of one layer over time as a small curve, in the coordinates of an SVG picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from deadneuron.records import History

WIDTH, HEIGHT = 120, 24
_MOST = 60  # points; more are pooled by their maximum, so that no spike is lost
_LITTLE = 1.5  # height of a share that is not zero, to be told from none


@dataclass(frozen=True, slots=True)
class Curve:
    """A line over its area. The share 1 is at the top, for every layer alike; steps run from left to right."""

    line: str  # of an SVG path
    area: str
    said: str  # the same in words


def curve_of(history: History) -> Curve | None:
    """The curve of `history.dead`; None where nothing was counted."""
    if not history.dead:
        return None
    points = _pooled(history)
    first, last = points[0][0], points[-1][0]
    places = [(WIDTH * (step - first) / (last - first) if last > first else WIDTH, _height(y)) for step, y in points]
    if last == first:  # one moment: a level line
        places = [(0.0, places[-1][1]), places[-1]]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    said = f"dead at step {history.steps[0]:,}: {history.dead[0]:.0%}"
    if len(history.steps) > 1:
        said += f", at step {history.steps[-1]:,}: {history.dead[-1]:.0%}, at most {max(history.dead):.0%}"
    return Curve(line, f"{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z", said)


def _height(share: float) -> float:
    """From the top. Half a line's width is left free at both ends."""
    return HEIGHT - 1.0 - max(share * (HEIGHT - 2), _LITTLE * (share > 0))


def _pooled(history: History) -> list[tuple[int, float]]:
    count = len(history.dead)
    steps = history.steps
    if any(
        before >= after for before, after in pairwise(steps)
    ):  # checkpoints without steps: only their order is known
        steps = tuple(range(count))
    if count <= _MOST:
        return list(zip(steps, history.dead, strict=True))
    edges = [round(number * count / _MOST) for number in range(_MOST + 1)]
    return [(steps[b - 1], max(history.dead[a:b])) for a, b in pairwise(edges)]
