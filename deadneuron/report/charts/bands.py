"""Deaths and revivals by band of the rates that one schedule used: a description, not a test."""

from __future__ import annotations

import math
from typing import NamedTuple

from deadneuron.causes import Observed, RateBand
from deadneuron.report.charts.axes import Linear, Log, linear, logarithmic
from deadneuron.report.charts.figures import Figure, Mark, Panel, Series, across, height, percent, said, up
from deadneuron.report.hazards import hazard, rates
from deadneuron.report.style import printable

MOST = 20  # bands in one drawing
_BEYOND = 4  # times the highest hazard: whiskers that go on are cut there, or they would press all else to the ground


class _Hazard(NamedTuple):
    """A thousandfold."""

    value: float
    low: float | None
    high: float | None


def bands(observed: Observed) -> Figure | None:
    """The figure of one parameter group's bands; None where there are not two to look at."""
    known = [band for band in observed.bands if 0 <= band.low <= band.high < math.inf]
    if len(known) < 2:
        return None
    name = printable(observed.name)
    axis = logarithmic([rate for band in known[:MOST] for rate in (band.low, band.high)])
    panels = tuple(
        panel for of in ("deaths", "revivals") if (panel := _panel(of, known[:MOST], axis, name)) is not None
    )
    if not panels:
        return None
    notes = ["a description of one schedule, no test: rate and time move together on it"]
    if len(known) > MOST:
        notes.append(f"{len(known) - MOST} more bands are left out of the picture")
    marks = [mark for panel in panels for one in panel.series for mark in one.marks]
    if any(mark.cut for mark in marks):
        notes.append("an arrow: the interval goes on beyond the picture")
    legend = [Series(of.name, _WORDS[of.name], of.shape, ()) for panel in panels for of in panel.series]
    if any(mark.low is None for mark in marks):
        legend.append(Series("plain", "too few windows for an interval", "circle", (), filled=False))
    title = f"observed: deaths and revivals by band of the rates that {name} used; whiskers 95 %"
    return Figure(title, panels, tuple(legend), notes=tuple(notes))


_WORDS = {"died": "deaths", "revived": "revivals"}
_TITLES = {"deaths": "deaths a 1,000 unit-steps at risk", "revivals": "revivals a 1,000 unit-steps of dead ones"}


def _panel(of: str, known: list[RateBand], axis: Log, name: str) -> Panel | None:
    found = [(band, _hazard(band, of)) for band in known]
    values = [one.value for _, one in found if one]
    if not values:
        return None
    tops = [one.high for _, one in found if one and one.high is not None]
    most = max(values)
    top = linear(min(max([*tops, most]), _BEYOND * most) if most > 0 else max(tops, default=0.0))
    marks = tuple(_mark(band, one, axis, top, of) for band, one in found if one)
    series = Series("died", "", "circle", marks) if of == "deaths" else Series("revived", "", "triangle", marks)
    return Panel(
        title=_TITLES[of],
        said=said([_TITLES[of], *(mark.said for mark in marks)]),
        series=(series,),
        across=across(axis),
        up=up(top),
        broken=axis.zero,
        axis=f"learning rate of {name} (logarithmic)",
    )


def _mark(band: RateBand, one: _Hazard, axis: Log, top: Linear, of: str) -> Mark:
    ends = (axis.at(band.low), axis.at(band.high))
    low, high = (None, None) if one.low is None or one.high is None else (height(top, one.low), height(top, one.high))
    cut = one.high is not None and one.high > top.top
    words = f"{rates(band)}: {_words(band, of)}"
    span = (percent(ends[0]), percent(ends[1]))
    return Mark(percent(sum(ends) / 2), height(top, one.value), words, low, high, cut, low is not None, span)


def _words(band: RateBand, of: str) -> str:
    return hazard(*_numbers(band, of)) + (
        f", {band.deaths:,} deaths" if of == "deaths" else f", {band.revivals:,} revivals"
    )


def _numbers(band: RateBand, of: str) -> tuple[float | None, float | None, float | None]:
    if of == "deaths":
        return band.hazard, band.hazard_low, band.hazard_high
    return band.revival, band.revival_low, band.revival_high


def _hazard(band: RateBand, of: str) -> _Hazard | None:
    value, low, high = (None if one is None or not one >= 0 else 1000 * one for one in _numbers(band, of))
    if value is None or value == math.inf:
        return None
    return _Hazard(value, low, high)
