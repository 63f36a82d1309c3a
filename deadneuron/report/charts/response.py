"""Shares of units against the learning rate that was tried, with the rates that were found safe and over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from deadneuron.causes import Trial
from deadneuron.report.charts.axes import LETTER, NARROW, Linear, Log, linear, logarithmic
from deadneuron.report.charts.figures import TOP, Figure, Flag, Mark, Panel, Series, across, height, percent, said, up
from deadneuron.report.charts.readings import Dose, Reading, Response, Value, response_of
from deadneuron.report.style import MARKS

MOST = 24  # rates in one drawing: more cannot be told apart
_KINDS = {  # (what it is called, shape, pixels to the side, filled)
    "died": ("died", "circle", 0, True),
    "worst": ("died in the layer that lost most", "diamond", 8, False),
    "dead": ("dead then: born so, or died and not revived", "square", 8, False),
    "revived": ("revived", "triangle", -8, False),
}
_LEFT, _RIGHT = 21, 5  # percentages of room beside the narrowest drawing
_LOST = "some or all diverged, or ended without a result"


def response(trial: Trial) -> Figure | None:
    """The figure of a branch or a sweep; None where its result holds no rate."""
    found = response_of(trial)
    kept = [_thinned(reading, trial) for reading in found.readings]
    shares = _shares(kept, found.limit)
    panels = tuple(_panel(reading, found, trial, shares) for reading in kept if reading.doses)
    if not panels:
        return None
    legend = {one.name: one for panel in panels for one in panel.series}
    left_out = max(len(reading.doses) for reading in found.readings) - max(len(reading.doses) for reading in kept)
    notes = (f"{left_out:,} of the rates that were tried are left out of the picture",) if left_out else ()
    limited = found.limit is not None and any(panel.limit is not None for panel in panels)
    limit = f"threshold: {found.limit:.0%} of the units" if limited else ""
    return Figure(found.title, panels, tuple(legend.values()), limit, notes)


def _thinned(reading: Reading, trial: Trial) -> Reading:
    """At most `MOST` doses from the lowest to the highest, those that the trial names among them."""
    doses = sorted(reading.doses, key=lambda dose: dose.rate)
    if len(doses) > MOST:
        named = {place for place, dose in enumerate(doses) if dose.rate in (trial.safe, trial.over)}
        named = set(sorted(named)[:MOST])
        even = [round(number * (len(doses) - 1) / (MOST - 1)) for number in range(MOST)]
        for place in [0, len(doses) - 1, *even]:
            if len(named) < MOST:
                named.add(place)
        doses = [doses[place] for place in sorted(named)]
    return Reading(reading.title, tuple(doses), reading.judged)


def _shares(readings: Sequence[Reading], limit: float | None) -> Linear:
    """One axis of shares for all panels: they are looked at side by side."""
    values = [value for reading in readings for dose in reading.doses for value in dose.values.values()]
    tops = [value.share if value.high is None else value.high for value in values]
    known = limit if limit is not None and 0 < limit < 1 else 0.0
    return linear(100 * max([*tops, min(1.1 * known, 1.0)]))


def _panel(reading: Reading, found: Response, trial: Trial, shares: Linear) -> Panel:
    flagged = (trial.safe, trial.over) if reading.judged else (None, None)
    axis = logarithmic([dose.rate for dose in reading.doses])
    limit = found.limit if reading.judged and found.limit is not None and 0 < found.limit < 1 else None
    series = tuple(_series(reading.doses, axis, shares))
    flags = tuple(_flags(*flagged, axis))
    words = [mark.said for one in series for mark in one.marks]
    return Panel(
        title=reading.title,
        said=said([reading.title, *(flag.text for flag in flags), *words]),
        series=series,
        across=across(axis),
        up=up(shares, " %"),
        broken=axis.zero,
        axis=f"{found.axis} (logarithmic)",
        limit=None if limit is None else height(shares, 100 * limit),
        flags=flags,
    )


def _series(doses: Sequence[Dose], axis: Log, shares: Linear) -> Iterator[Series]:
    for name, (word, shape, shift, filled) in _KINDS.items():
        if not any(name in dose.values for dose in doses):
            continue
        marks = [
            _mark(dose, dose.values[name], axis, shares, filled) if name in dose.values else None for dose in doses
        ]
        lines = tuple((a.x, a.y, b.x, b.y) for a, b in pairwise(marks) if a and b)
        yield Series(name, word, shape, tuple(mark for mark in marks if mark), shift, lines, filled)
    lost = tuple(Mark(percent(axis.at(dose.rate)), TOP, dose.lost, filled=False) for dose in doses if dose.lost)
    if lost:
        yield Series("lost", _LOST, "cross", lost, filled=False)


def _mark(dose: Dose, value: Value, axis: Log, shares: Linear, filled: bool) -> Mark:
    low, high = (None if end is None else height(shares, 100 * end) for end in (value.low, value.high))
    x, y = percent(axis.at(dose.rate)), height(shares, 100 * value.share)
    return Mark(x, y, value.said, low, high, filled=filled)


def _flags(safe: float | None, over: float | None, axis: Log) -> Iterator[Flag]:
    """What is safe is told to the left of its rate and what is over to the right, where there is room."""
    if safe is not None and 0 <= safe < math.inf:
        text, x = f"{MARKS['healthy']} safe: {safe:.4g}", percent(axis.at(safe))
        yield Flag(x, "safe", text, "end" if x + _LEFT > _room(text) else "start")
    if over is not None and 0 <= over < math.inf:
        text, x = f"{MARKS['severe']} over: {over:.4g}", percent(axis.at(over))
        yield Flag(x, "over", text, "start" if 100 - x + _RIGHT > _room(text) else "end")


def _room(text: str) -> float:
    """Percentages of the narrowest drawing that a text takes at most."""
    return 100 * LETTER * len(text) / NARROW
