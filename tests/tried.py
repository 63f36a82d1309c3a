"""Trials of the learning rate, made by hand: a sweep and a branch whose numbers are plain to see."""

from __future__ import annotations

from dataclasses import replace

from deadneuron.analysis.comparison import Comparison, Contrast, Dose, Matching
from deadneuron.analysis.sweeptrial import trial_of
from deadneuron.causes import RateLink, Trial
from deadneuron.experiments.curve import Branch, LayerPoint, Point

WRITTEN = "2024-02-29T13:00:00+00:00"
RATES = (0.01, 0.1, 1.0, 10.0)
DIED = ((0.0, 0.02), (0.04, 0.06, 0.08), (0.3, 0.4, 0.5), ())


def make_dose(lr: float, died: tuple[float, ...], matching: Matching = "steps", **changes) -> Dose:
    half = tuple(share / 2 for share in died)
    more = tuple(share + 0.05 for share in died)
    dose = Dose(matching, lr, (206,) * len(died), died, half, more, (0.5,) * len(died), lr, 0)
    return replace(dose, **changes)


def make_sweep(**changes) -> Trial:
    """Four rates: the first two are under the threshold of 15 %, one run of the third diverged, all of the fourth."""
    lost = {1.0: 1, 10.0: 3}
    doses = [
        make_dose(lr, died, matching, diverged=lost.get(lr, 0))
        for matching in ("steps", "rate sum")
        for lr, died in zip(RATES, DIED, strict=True)
    ]
    contrasts = (
        Contrast("steps", "deaths", 0.1, 0.01, 6.0, False, 2.0, 18.0, 0.1, 0.2, 0.1),
        Contrast("steps", "deaths", 1.0, 0.01, 40.0, False, 20.0, 80.0, 0.1, 0.2, 0.1),
        Contrast("steps", "revivals", 1.0, 0.01, 0.5, False, 0.25, 1.5, None, None, None, "one seed"),
    )
    made = Comparison("model", 183, 100, 306, 2.5, tuple(doses), contrasts, 2, 0.1, 1.0, 0.15, ())
    return trial_of(replace(made, **changes), WRITTEN)


def make_point(multiplier: float, deaths: tuple[int, int], *, diverged: bool = False) -> Point:
    layers = (LayerPoint("layers.0.act", 101, 80, deaths[0], 3), LayerPoint("layers.1.act", 53, 20, deaths[1], 0))
    rates = (0.0, 0.02 * multiplier)
    if diverged:
        return Point(multiplier, rates, 7, True, 2.0, None, None, None, None, 54, None, ())
    died = sum(deaths)
    return Point(multiplier, rates, 20, False, 2.0, 1.0, 100 - died + 3, died, died / 100, 54, 3, layers)


def make_branch() -> Trial:
    """Rates of the second group, since the first has none: 0.01, 0.02, 0.2 and one at which it diverged."""
    counted = [make_point(times, deaths) for times, deaths in ((0.5, (0, 0)), (1, (2, 3)), (10, (40, 20)))]
    points = (*counted, make_point(100, (0, 0), diverged=True))
    return Branch(points, ("SGD[0]", "SGD[1]"), 20, 154, 100, 640, True, 0.15, step=41).trial(WRITTEN)


def make_links(sweep: Trial, branch: Trial) -> tuple[RateLink, ...]:
    """Those of a dither, of the trials, and of what was merely seen."""
    note = "a dither of SGD[0]: deaths were 2 times as frequent"
    dither = RateLink(None, 0, "dither", "deaths", 2.0, 0.5, 8.0, 0.25, note)
    seen = RateLink(None, 0, "observed", "deaths", None, None, None, None, "13 deaths by updates of SGD[0]")
    return (dither, *sweep.links, *branch.links, seen)
