"""A learning rate as few points: the line through them is nowhere far from the rate that a step used.

A constant rate needs a point a window, a jump one before and one after it, a cosine a few. No change gets lost.
"""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[int, float, float]  # step, rate, time in seconds since the epoch

_TOLERANCE = 0.01  # of the rate


@dataclass(slots=True)
class Line:
    """One group's rate. Every step's rate lies within 1 % of the straight line between the points given out."""

    _last: Point | None = None  # the last point that was given out
    _next: Point | None = None  # the newest since; it is given out when the line to a later one would leave it behind
    _low: float = float("-inf")  # slopes of lines from _last that pass all rates since
    _high: float = float("inf")

    def add(self, point: Point) -> list[Point]:
        """The points that have to be drawn before this one can wait."""
        if self._last is None:
            self._last = point
            return [point]
        out: list[Point] = []
        if self._next is not None and not self._low <= self._slope(point) <= self._high:
            out = self.rest()
        step, rate, _ = point
        steps = step - self._last[0]
        margin = abs(rate) * _TOLERANCE
        self._low = max(self._low, (rate - margin - self._last[1]) / steps)
        self._high = min(self._high, (rate + margin - self._last[1]) / steps)
        self._next = point
        return out

    def rest(self) -> list[Point]:
        """The newest point, if it was not given out yet."""
        if self._next is None:
            return []
        self._last, self._next = self._next, None
        self._low, self._high = float("-inf"), float("inf")
        return [self._last]

    def _slope(self, point: Point) -> float:
        assert self._last is not None
        return (point[1] - self._last[1]) / (point[0] - self._last[0])
