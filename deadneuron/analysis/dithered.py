"""What a dither tells: hazards in steps with a high multiplier against steps with a low one.

The multipliers were drawn by lot, so that high and low steps differ in nothing but the rate: the ratio of their hazards
is an effect, and the lot gives a p-value. Units die in bursts, and hazards change while a net trains; both tests and
intervals therefore take the step, not the unit, as what was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from deadneuron.analysis.hazards import Series, hazard_series
from deadneuron.causes import RateLink
from deadneuron.frames import Run
from deadneuron.records import Bools, Episode, Floats, Ints, Thresholds

PERMUTATIONS = 1_999  # with the labels as they were 2,000: the smallest p is 0.0005
_SEED = 20261125  # of the permutations: the same run always gets the same p
_LEVEL = 0.975
_FREEDOM = 3.0  # degrees of freedom that are granted to a few bursts: in simulations intervals still hold 95 %
Of = Literal["deaths", "revivals"]
_KINDS: tuple[Of, ...] = ("deaths", "revivals")


@dataclass(frozen=True, slots=True)
class Contrast:
    """Hazards of high against low steps. None where there is nothing to compare."""

    high_events: int
    low_events: int
    high_steps: int
    low_steps: int
    ratio: float | None
    low: float | None  # 95 % interval
    high: float | None
    p: float | None
    corrected: bool  # half an event was added to both counts, since one was zero


def hazard_ratio(series: Sequence[Series], of: Of = "deaths", permutations: int = PERMUTATIONS) -> Contrast:
    """Pool the dithered steps of these series (one a run) in which a unit was at risk.

    ratio: events per unit-step at risk in steps with a multiplier above 1, over those in steps with one below; where
    one of the two counts is zero, half an event is added to both. Interval: the logarithm's variance is that of sums
    over independent steps (a sandwich, robust against bursts, but never below that of Poisson counts), with Student's
    t at Satterthwaite's degrees of freedom over the steps that carry it. p: two-sided, by permuting multipliers over
    the steps of each run; the statistic is the difference of mean hazards, summed over runs, each less its expectation.
    benchmarks/proof_dither.py measures size, power and coverage.
    """
    parts = [_arms(one, of) for one in series]
    highs = np.concatenate([np.zeros(0, dtype=bool), *(part[0] for part in parts)])
    events, at_risk = (np.concatenate([np.zeros(0, dtype=np.int64), *(part[i] for part in parts)]) for i in (1, 2))
    high_events, low_events = int(events[highs].sum()), int(events[~highs].sum())
    corrected = not (high_events and low_events)
    bare = Contrast(high_events, low_events, int(highs.sum()), int((~highs).sum()), None, None, None, None, False)
    if not high_events + low_events or not bare.high_steps or not bare.low_steps:
        return bare
    high, low = (_log_hazard(events[arm], at_risk[arm], corrected) for arm in (highs, ~highs))
    middle, variance = high.log - low.log, high.variance + low.variance
    freedom = variance**2 / (high.variance**2 / high.freedom + low.variance**2 / low.freedom)
    half = float(stats.t.ppf(_LEVEL, freedom)) * math.sqrt(variance)
    return replace(
        bare,
        ratio=_exp(middle),
        low=_exp(middle - half),
        high=_exp(middle + half),
        p=_permutation_p(parts, permutations),
        corrected=corrected,
    )


def dither_links(run: Run, episodes: Sequence[Episode], thresholds: Thresholds) -> tuple[RateLink, ...]:
    """One link for deaths and one for revivals of each parameter group that was dithered."""
    links = []
    for series in hazard_series(run, episodes, thresholds):
        if not np.isfinite(series.multipliers).any():
            continue
        for of in _KINDS:
            found = hazard_ratio([series], of)
            note = _told(found, of, series, run.info.groups[series.group])
            links.append(RateLink(None, series.group, "dither", of, found.ratio, found.low, found.high, found.p, note))
    return tuple(links)


def _arms(series: Series, of: Of) -> tuple[Bools, Ints, Ints]:
    """(whether it was a high step, events, units at risk) of the dithered steps with anybody at risk."""
    events, at_risk = (series.deaths, series.at_risk) if of == "deaths" else (series.revivals, series.dead_at_risk)
    chosen = np.isfinite(series.multipliers) & (series.multipliers != 1) & (at_risk > 0)
    return series.multipliers[chosen] > 1, events[chosen], at_risk[chosen]


@dataclass(frozen=True, slots=True)
class _Hazard:
    """The logarithm of a hazard, its variance, and the degrees of freedom of that variance."""

    log: float
    variance: float
    freedom: float


def _log_hazard(events: Ints, at_risk: Ints, corrected: bool) -> _Hazard:
    count, exposure, add = float(events.sum()), float(at_risk.sum()), 0.5 * corrected
    squares = (events - count / exposure * at_risk) ** 2
    clusters = max(int((events > 0).sum()), 2)
    variance = (float(squares.sum()) + add) / (count + add) ** 2 * clusters / (clusters - 1)
    variance = max(variance, 1 / (count + add))  # events that fall more evenly than by chance do so by chance
    carried = float((squares**2).sum())
    effective = float(squares.sum()) ** 2 / carried if carried else 1.0
    return _Hazard(math.log((count + add) / exposure), variance, max(effective - 1, _FREEDOM))


def _permutation_p(parts: Sequence[tuple[Bools, Ints, Ints]], permutations: int) -> float | None:
    """Only steps with events matter: their labels are drawn without replacement from those of all steps of a run."""
    rng = np.random.default_rng(_SEED)
    seen, drawn, free = 0.0, np.zeros(permutations), False
    for highs, events, at_risk in parts:
        steps, high = len(highs), int(highs.sum())
        free |= 0 < high < steps
        hazards = events / at_risk
        expected = float(hazards.sum()) * high / max(steps, 1)
        seen += float(hazards[highs].sum()) - expected
        drawn += _draw_sums(hazards[events > 0], steps, high, permutations, rng) - expected
    if not free:
        return None
    scale = sum(float((events / at_risk).sum()) for _, events, at_risk in parts)
    as_far = np.abs(drawn) >= abs(seen) - 1e-12 * scale
    return (1 + int(as_far.sum())) / (permutations + 1)


def _draw_sums(hazards: Floats, steps: int, high: int, count: int, rng: np.random.Generator) -> Floats:
    """`count` sums of hazards over random high steps, where `high` of `steps` steps are high."""
    sums, left = np.zeros(count), np.full(count, float(high))
    for drawn, hazard in enumerate(hazards.tolist()):
        is_high = rng.random(count) * (steps - drawn) < left
        sums += hazard * is_high
        left -= is_high
    return sums


def _told(found: Contrast, of: Of, series: Series, name: str) -> str:
    numbers = series.multipliers[np.isfinite(series.multipliers)]
    steps = found.high_steps + found.low_steps
    if not steps:
        return f"a dither of {name} tells nothing of {of}: no unit was at risk"
    if not found.high_steps or not found.low_steps:
        return f"a dither of {name} tells nothing of {of}: its {steps} updates all drew the same"
    if found.ratio is None:
        return f"a dither of {name}: no {of} in {steps} updates"
    sides = [
        f"{count} in {steps} updates at ×{factor:.3g}"
        for count, steps, factor in (
            (found.high_events, found.high_steps, numbers.max()),
            (found.low_events, found.low_steps, numbers.min()),
        )
    ]
    p = "" if found.p is None else f", p = {found.p:.2g}"
    more = ", half was added to both since one is zero" if found.corrected else ""
    return (
        f"a dither of {name}: {of} were {_short(found.ratio)} times as frequent at high rates "
        f"(95 %: {_short(found.low)} to {_short(found.high)}{p}): {' against '.join(sides)}{more}"
    )


def _short(number: float | None) -> str:
    if number is None:
        return "unknown"
    return f"{number:.2g}" if number < 100 else f"{number:.0f}" if number < 1e6 else f"{number:.1e}"


def _exp(x: float) -> float:
    return math.exp(min(x, 700.0))
