"""Observed facts: how many units died, and revived, at which learning rates. No test is made of them.

Within one schedule rate and time move together, and at one constant rate there is nothing to compare. A p-value of
deaths against such rates would be wrong nine times out of ten; what stands here are counts with their uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deadneuron.analysis.hazards import Series, hazard_series
from deadneuron.analysis.rates import RateTable, deaths_of, worst_steps
from deadneuron.causes import Observed, RateBand, RateLink
from deadneuron.frames import Run
from deadneuron.records import Episode, Floats, Ints, Thresholds

BOOTSTRAPS = 1_000
_SEED = 20261125  # of the bootstrap: the same run always gets the same interval
_BANDS = 3
_SAME = 1e-6  # relative difference below which two rates are one: a rate in float32 was multiplied and divided back
_FEWEST = 4  # blocks of a band below which a bootstrap says nothing
_MOST = 2_000  # blocks; of a longer run they hold more steps each
_RULE = 3  # no event in n unit-steps: at most 3/n (95 %)


def observe(run: Run, episodes: Sequence[Episode], thresholds: Thresholds) -> tuple[Observed, ...]:
    """What each parameter group's rates show.

    Each rate is a band where there are at most three; else three bands hold about as many steps each. Under a dither
    the bands are those of the rate that it multiplied. Intervals: a bootstrap over blocks of `sampling.window` steps;
    where nothing happened (0, 3φ/n) with the dispersion φ, and None where a band has too few blocks.
    """
    made = []
    for series in hazard_series(run, episodes, thresholds):
        blocks = _Blocks(series, run.info.sampling.window)
        bands, name = blocks.bands(), run.info.groups[series.group]
        last, why = int(series.steps[-1]), _why_no_test(series, bands)
        made.append(Observed(series.group, name, bands, blocks.dispersion, _safe(series), last, why))
    return tuple(made)


def observed_links(run: Run, episodes: Sequence[Episode], thresholds: Thresholds) -> tuple[RateLink, ...]:
    """One description of each parameter group whose updates killed: never a test, so p is always None.

    rate_ratio: the hazard of deaths in the band of the highest rates over that in the band of the lowest, where both
    had any.
    """
    of_group = {series.group: series for series in hazard_series(run, episodes, thresholds)}
    by_group, links = _by_group(run, episodes), []
    for group, name in enumerate(run.info.groups):
        note, series = _told(by_group.get(group, []), name), of_group.get(group)
        if note:
            found = (None, None, None) if series is None else _Blocks(series, run.info.sampling.window).ratio()
            links.append(RateLink(None, group, "observed", "deaths", *found, None, note))
    return tuple(links)


class _Blocks:
    """One series in blocks of steps: events and exposure of each block and band."""

    def __init__(self, series: Series, window: int) -> None:
        drawn = np.where(np.isfinite(series.multipliers), series.multipliers, 1.0)
        self.rates = series.rates / drawn
        self.band = _band_of(self.rates)
        self.count = int(self.band.max()) + 1
        self.steps = np.bincount(self.band)
        size = max(window, -(-len(series) // _MOST))
        block = np.arange(len(series)) // size
        self.tables = {
            name: self._table(block, getattr(series, name))
            for name in ("deaths", "at_risk", "revivals", "dead_at_risk")
        }
        self.dispersion = _dispersion(self.tables["deaths"], self.tables["at_risk"])
        weights = np.random.default_rng(_SEED).poisson(1.0, (BOOTSTRAPS, int(block[-1]) + 1)).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.draws = {
                of: (weights @ self.tables[of]) / (weights @ self.tables[risk]) for of, risk in _RISKS.items()
            }

    def bands(self) -> tuple[RateBand, ...]:
        return tuple(
            RateBand(
                float(self.rates[self.band == band].min()),
                float(self.rates[self.band == band].max()),
                int(self.steps[band]),
                *self._hazard("deaths", band),
                *self._hazard("revivals", band),
            )
            for band in range(self.count)
        )

    def ratio(self) -> tuple[float | None, float | None, float | None]:
        """Hazard of deaths at the highest rates over that at the lowest, with its interval."""
        counts, risks = self.tables["deaths"].sum(axis=0), self.tables["at_risk"].sum(axis=0)
        if self.count < 2 or not all(counts[[0, -1]]):
            return None, None, None
        ratio = float(counts[-1] / risks[-1] / (counts[0] / risks[0]))
        if not all(self._is_enough("at_risk", band) for band in (0, -1)):
            return ratio, None, None
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = _interval(self.draws["deaths"][:, -1] / self.draws["deaths"][:, 0])
        return ratio, low, high if high is not None and np.isfinite(high) else None

    def _table(self, block: Ints, values: Ints) -> Ints:
        flat = np.bincount(block * self.count + self.band, values, minlength=(int(block[-1]) + 1) * self.count)
        return flat.reshape(-1, self.count).astype(np.int64)

    def _hazard(self, of: str, band: int) -> tuple[int, int, float | None, float | None, float | None]:
        """(units at risk, events, hazard, its interval) of a band."""
        events, risk = (int(self.tables[name][:, band].sum()) for name in (of, _RISKS[of]))
        if not risk:
            return risk, events, None, None, None
        if not events:
            return risk, 0, 0.0, 0.0, min(1.0, _RULE * max(self.dispersion or 1.0, 1.0) / risk)
        enough = self._is_enough(_RISKS[of], band)
        return risk, events, events / risk, *(_interval(self.draws[of][:, band]) if enough else (None, None))

    def _is_enough(self, risk: str, band: int) -> bool:
        return int((self.tables[risk][:, band] > 0).sum()) >= _FEWEST


_RISKS = {"deaths": "at_risk", "revivals": "dead_at_risk"}


def _band_of(rates: Floats) -> Ints:
    """The band of each step, from 0 for the lowest rates on. Rates that are the same share one."""
    ordered = np.sort(rates)
    starts: list[float] = []
    place = 0
    while place < len(ordered) and len(starts) <= _BANDS:
        starts.append(float(ordered[place]))
        place = int(np.searchsorted(ordered, starts[-1] * (1 + _SAME), side="right"))
    if len(starts) > _BANDS:
        starts = [float(ordered[len(ordered) * third // _BANDS]) * (1 - _SAME) for third in range(_BANDS)]
    band = np.searchsorted(starts, rates, side="right")
    return np.unique(band, return_inverse=True)[1].reshape(-1)


def _dispersion(deaths: Ints, at_risk: Ints) -> float | None:
    """Pearson's statistic of deaths over blocks, against each band's own hazard, by its degrees of freedom."""
    hazards = deaths.sum(axis=0) / np.maximum(at_risk.sum(axis=0), 1)
    expected = at_risk @ hazards
    freedom = int((expected > 0).sum()) - int((hazards > 0).sum())
    if freedom < 1:
        return None
    chosen = expected > 0
    return float(((deaths.sum(axis=1) - expected)[chosen] ** 2 / expected[chosen]).sum() / freedom)


def _interval(draws: Floats) -> tuple[float | None, float | None]:
    known = draws[~np.isnan(draws)]  # a draw without any block of the band has none
    if not len(known):
        return None, None
    low, high = np.quantile(known, [0.025, 0.975], method="nearest")
    return float(low), float(high)


def _safe(series: Series) -> float | None:
    """The largest rate above zero, as used, that is lower than every death's."""
    killers = series.rates[series.deaths > 0]
    lowest = killers.min() * (1 - _SAME) if len(killers) else np.inf
    below = series.rates[(series.rates < lowest) & (series.rates > 0) & (series.at_risk > 0)]
    return float(below.max()) if len(below) else None


def _why_no_test(series: Series, bands: Sequence[RateBand]) -> str:
    if np.isfinite(series.multipliers).any():
        return "the rate was dithered: the ratio of hazards between its high and low steps has the p-value, not this"
    if len(bands) == 1:
        return "the rate was constant: there is no other to compare deaths with, so no p-value can be given"
    return (
        "rate and time move together on one schedule: what looks like the rate's doing may be the time's, so no "
        "p-value can be given"
    )


def _by_group(run: Run, episodes: Sequence[Episode]) -> dict[int, list[Episode]]:
    """Deaths whose rate is known, by the parameter group whose update killed."""
    groups_of, table = {site.number: site.groups for site in run.sites}, RateTable(run)
    found: dict[int, list[Episode]] = {}
    for death in deaths_of(episodes):
        used = table.used(death.first_step, groups_of[death.site]) if death.rate is not None else None
        if used is not None:
            found.setdefault(used[0], []).append(death)
    return found


def _told(deaths: Sequence[Episode], name: str) -> str:
    """The deaths by updates of one group in one line, "" if there is none."""
    rates = sorted(d.rate for d in deaths if d.rate is not None)
    if not rates:
        return ""
    span = f"{rates[0]:.3g}" if rates[0] == rates[-1] else f"{rates[0]:.3g} to {rates[-1]:.3g}"
    many = "1 death by an update" if len(deaths) == 1 else f"{len(deaths)} deaths by updates"
    back = sum(death.last_step is not None for death in deaths)
    note = f"{many} of {name} that used rate {span}" + (f"; {back} of them revived later" if back else "")
    steps = ", ".join(f"{step} ({count})" for step, count, _ in worst_steps(deaths, 3) if count > 1)
    return note + (f"; most in steps {steps}" if steps else "")
