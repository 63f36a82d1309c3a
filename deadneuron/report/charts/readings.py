"""What a branch or a sweep measured at each rate, out of the result that its trial keeps.

That is a file in a run folder: it may be of another version, or damaged. What is no number is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deadneuron.causes import RateLink, Trial
from deadneuron.report.cells import percent
from deadneuron.report.style import printable


class Value(NamedTuple):
    """A share of units, and the least and most of its seeds where there are several."""

    share: float
    low: float | None
    high: float | None
    said: str


@dataclass(frozen=True, slots=True)
class Dose:
    """One rate that was tried."""

    rate: float
    values: Mapping[str, Value]  # by kind
    lost: str = ""  # what diverged or failed there


@dataclass(frozen=True, slots=True)
class Reading:
    """All rates that were tried, read at one moment."""

    title: str
    doses: tuple[Dose, ...]
    judged: bool  # these are the shares that the limit is held against


@dataclass(frozen=True, slots=True)
class Response:
    """All readings of a trial."""

    title: str
    axis: str
    readings: tuple[Reading, ...]
    limit: float | None


def response_of(trial: Trial) -> Response:
    return _sweep(trial) if trial.kind == "sweep" else _branch(trial)


def holm_of(trials: Sequence[Trial]) -> dict[RateLink, float]:
    """Holm's p of each link of a sweep that has one: links stand in the order of its contrasts."""
    found: dict[RateLink, float] = {}
    for trial in trials:
        contrasts = _entries(trial.result, "contrasts")
        if trial.kind == "sweep" and len(contrasts) == len(trial.links):
            corrected = ((link, _number(one.get("p_all"))) for link, one in zip(trial.links, contrasts, strict=True))
            found |= {link: p for link, p in corrected if p is not None}
    return found


def _sweep(trial: Trial) -> Response:
    result = trial.result
    doses = [dose for dose in _entries(result, "doses") if _rate(dose.get("lr")) is not None]
    made = []
    for matching in ("steps", "rate sum"):
        own = [dose for dose in doses if dose.get("matching") == matching]
        if own:
            made.append(Reading(_moment(matching, own, result), tuple(map(_dose, own)), matching == "steps"))
    units = _number(result.get("units"))
    of = "units" if units is None else f"{units:,.0f} units"
    title = f"sweep: share of {of} against the learning rate; mean of the seeds, whiskers from least to most"
    return Response(title, "learning rate", tuple(made), _number(result.get("limit")))


def _moment(matching: str, doses: list[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
    if matching == "steps":
        step = next((int(step) for dose in doses for step in _numbers(dose, "steps")), None)
        return "at the same step" + ("" if step is None else f": by update {step:,}")
    total = _number(result.get("rate_sum"))
    return "at the same sum of rates" + ("" if total is None else f": Σlr = {total:.4g}")


def _dose(dose: Mapping[str, Any]) -> Dose:
    rate = _rate(dose.get("lr")) or 0.0
    values = {}
    for kind, words in (("died", "died"), ("revived", "revived"), ("dead", "were dead then")):
        shares = [share for share in _numbers(dose, kind) if 0 <= share <= 1]
        if shares:
            several = len(shares) > 1
            low, high = (min(shares), max(shares)) if several else (None, None)
            values[kind] = Value(float(np.mean(shares)), low, high, f"rate {rate:g}: {percent(shares)} {words}")
    lost = [f"{count:.0f} {what}" for what in ("diverged", "failed") if (count := _number(dose.get(what)))]
    return Dose(rate, values, f"rate {rate:g}: {' and '.join(lost)}" if lost else "")


def _branch(trial: Trial) -> Response:
    result = trial.result
    points = _entries(result, "points")
    lead = next((place for place, rate in enumerate(_numbers(points[0], "rates")) if rate), 0) if points else 0
    doses = tuple(dose for point in points if (dose := _point(point, lead)) is not None)
    groups = [printable(str(name)) for name in _list(result, "groups")]
    axis = "learning rate" + (f" of {groups[lead]}" if lead < len(groups) and len(groups) > 1 else "")
    steps, step = _number(result.get("steps")), _number(result.get("step"))
    where = "" if step is None else f" before step {step:,.0f}"
    took = "" if steps is None else f", after {steps:.0f} step{'s' * (steps != 1)} at each"
    title = f"branch{where}: share of the units that had fired{took}"
    reading = (Reading("from one state of this training", doses, judged=True),) if doses else ()
    return Response(title, axis, reading, _number(result.get("threshold")))


def _point(point: Mapping[str, Any], lead: int) -> Dose | None:
    rates = _list(point, "rates")
    rate = _rate(rates[lead]) if lead < len(rates) else None
    if rate is None:
        return None
    named = f"lr {rate:.4g}" + ("" if (times := _number(point.get("multiplier"))) is None else f" (×{times:g})")
    if point.get("diverged") is True:
        step = _number(point.get("steps"))
        return Dose(rate, {}, f"{named}: diverged" + ("" if step is None else f" in step {step:.0f}"))
    share, deaths, values = _number(point.get("share")), _number(point.get("new_deaths")), {}
    if share is not None and 0 <= share <= 1:
        count = "" if deaths is None else f", {deaths:,.0f} units"
        values["died"] = Value(share, None, None, f"{named}: {share:.1%} died{count}")
    layers = list(_layers(point))
    if len(layers) > 1:
        worst, name = max(layers)
        values["worst"] = Value(worst, None, None, f"{named}: {worst:.1%} of {name} died, of no layer more")
    return Dose(rate, values)


def _layers(point: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    for layer in _entries(point, "layers"):
        fired, deaths = _number(layer.get("fired")), _number(layer.get("new_deaths"))
        if fired and deaths is not None and 0 <= deaths <= fired:
            yield deaths / fired, printable(str(layer.get("name", "")))


def _list(mapping: Mapping[str, Any], key: str) -> list[Any]:
    found = mapping.get(key)
    return list(found) if isinstance(found, (list, tuple)) else []


def _entries(mapping: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    return [one for one in _list(mapping, key) if isinstance(one, Mapping)]


def _numbers(mapping: Mapping[str, Any], key: str) -> list[float]:
    return [number for one in _list(mapping, key) if (number := _number(one)) is not None]


def _rate(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None
