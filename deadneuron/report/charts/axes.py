"""Axes: where a number stands between 0 and 1, and round numbers beside it that never touch each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

NARROW = 236  # pixels of an axis on the smallest screen: its labels have room there too
LETTER = 7.6  # pixels of a digit at most, in the page's widest font
_GAP = 9  # pixels between two labels
_ZERO, _AFTER_ZERO = 0.03, 0.15  # where 0 stands on an axis of logarithms, and where the others begin
_ONE = 1e-3  # decades: rates closer than that are drawn as one
_ROOM = 0.31  # decades on both sides of a single number
_INTERVALS = 6  # between the labels of a linear axis, at most
_EVERY = (1, 2, 3, 5, 10, 20, 50, 100, 200)  # decades between labels


@dataclass(frozen=True, slots=True)
class Tick:
    at: float  # from 0 to 1
    text: str


@dataclass(frozen=True, slots=True)
class Linear:
    """From 0 to a round number at or above `top`."""

    top: float
    step: float

    def at(self, value: float) -> float:
        return min(max(value / self.top, 0.0), 1.0)

    def ticks(self, unit: str = "") -> tuple[Tick, ...]:
        count = round(self.top / self.step)
        return tuple(Tick(number / count, f"{number * self.step:.6g}{unit}") for number in range(count + 1))


def linear(top: float) -> Linear:
    """Raises nothing: what is no number above 0 gives an axis from 0 to 1."""
    wanted = min(max(top, 1e-280), 1e280) if top > 0 else 1.0
    step = next(_nice(wanted / _INTERVALS))
    return Linear(step * math.ceil(wanted / step * (1 - 1e-9)), step)


@dataclass(frozen=True, slots=True)
class Log:
    """Logarithms from `low` to `high` (both are log10); 0 has a place of its own before them where `zero`."""

    low: float
    high: float
    zero: bool = False

    def at(self, value: float) -> float:
        """Numbers beyond an end stand at that end."""
        start = _AFTER_ZERO if self.zero else 0.0
        if value <= 0:
            return _ZERO if self.zero else 0.0
        place = (math.log10(value) - self.low) / (self.high - self.low) if value < math.inf else 1.0
        return start + (1 - start) * min(max(place, 0.0), 1.0)

    def ticks(self) -> tuple[Tick, ...]:
        zero = [Tick(self.at(0.0), "0")] if self.zero else []
        some: list[Tick] = []
        for values in self._candidates():
            ticks = [*zero, *(Tick(self.at(value), _shortest(value)) for value in values)]
            if _fit(ticks):
                if len(ticks) - len(zero) > 1:
                    return tuple(ticks)
                some = some or ticks
        middle = _power((self.low + self.high) / 2)
        return tuple(some) if len(some) > len(zero) else (*zero, Tick(self.at(middle), f"{middle:.3g}"))

    def _candidates(self) -> Iterator[list[float]]:
        first, last = math.floor(self.low), math.ceil(self.high)
        yield self._inside(f"{m}e{k}" for k in range(first, last + 1) for m in (1, 2, 5))
        for every in _EVERY:
            start = -(-first // every) * every
            yield self._inside(f"1e{k}" for k in range(start, last + 1, every))
        low, high = _power(self.low), _power(self.high)
        for step in _nice((high - low) / 4):  # so little of an axis is nearly even
            count = math.floor(high / step) - math.ceil(low / step) if step < math.inf else 0
            if count < 1:
                return
            yield self._inside(
                f"{number * step:.10g}" for number in range(math.ceil(low / step), math.floor(high / step) + 1)
            )

    def _inside(self, texts: Iterable[str]) -> list[float]:
        values = (float(text) for text in texts)
        return [value for value in values if 0 < value < math.inf and self.low <= math.log10(value) <= self.high]


def logarithmic(values: Iterable[float], *, margin: float = 0.06) -> Log:
    """An axis with a margin around these numbers, of which those below 0 and infinite ones are not looked at."""
    known = [value for value in values if 0 <= value < math.inf]
    logs = [math.log10(value) for value in known if value > 0] or [0.0]
    low, high = min(logs), max(logs)
    room = max(margin * (high - low), 0.01) if high - low > _ONE else _ROOM
    return Log(low - room, high + room, zero=0.0 in known)


def _shortest(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else f"{value:.10g}"


def _fit(ticks: Sequence[Tick]) -> bool:
    widths = {tick: LETTER * len(tick.text) for tick in ticks}
    return all(NARROW * (b.at - a.at) >= (widths[a] + widths[b]) / 2 + _GAP for a, b in pairwise(ticks))


def _nice(least: float) -> Iterator[float]:
    """1, 2 and 5 times powers of ten, from the first that is not below `least` on."""
    if not 1e-300 < least < 1e300:
        return
    power = math.floor(math.log10(least))
    for decade in range(power, power + 3):
        yield from (step for m in (1, 2, 5) if (step := float(f"{m}e{decade}")) >= least * (1 - 1e-9))


def _power(exponent: float) -> float:
    return float(10.0 ** min(exponent, 308.0))
