"""The learning rates that deaths used: facts, described. Nothing here says that a rate caused a death.

A test of deaths against rates within one smooth schedule would be wrong (time and rate move together), so none is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deadneuron.frames import Run
from deadneuron.records import Episode, RateLink


class RateTable:
    """Which rate each update used, by parameter group."""

    def __init__(self, run: Run) -> None:
        ticks = run.ticks[~run.ticks["skipped"]]
        self.steps = ticks["step"].to_numpy()
        self.groups = [ticks[f"lr:{group}"].to_numpy(dtype=float) for group in run.info.groups]

    def at(self, step: int, group: int | None) -> float | None:
        """The rate of update `step`; of the next one that moved the group where that one did not (skipped, or a step
        of another optimizer). None where no rate is known."""
        if group is None or group >= len(self.groups):
            return None
        for index in range(int(np.searchsorted(self.steps, step)), len(self.steps)):
            rate = self.groups[group][index]
            if np.isfinite(rate):
                return float(rate)
        return None


def deaths_of(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes that began in the run: deaths with a date."""
    return [episode for episode in episodes if not episode.born]


def worst_steps(deaths: Sequence[Episode], most: int = 5) -> list[tuple[int, int, float | None]]:
    """(step, deaths, rate) of the steps in which most units died, most first."""
    counts = Counter(death.first_step for death in deaths)
    rates = {death.first_step: death.rate for death in deaths}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(step, count, rates[step]) for step, count in ranked[:most]]


def observed_links(run: Run, episodes: Sequence[Episode]) -> tuple[RateLink, ...]:
    """One description a parameter group: at which rates its units died."""
    group_of = {site.number: site.group for site in run.sites}
    links = []
    for group, name in enumerate(run.info.groups):
        deaths = [d for d in deaths_of(episodes) if group_of[d.site] == group and d.rate is not None]
        if not deaths:
            continue
        rates = sorted(d.rate for d in deaths if d.rate is not None)
        span = f"{rates[0]:.3g}" if rates[0] == rates[-1] else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        many = "1 death by an update" if len(deaths) == 1 else f"{len(deaths)} deaths by updates"
        back = sum(death.last_step is not None for death in deaths)
        note = f"{many} of {name} that used rate {span}" + (f"; {back} of them revived later" if back else "")
        steps = ", ".join(f"{step} ({count})" for step, count, _ in worst_steps(deaths, 3) if count > 1)
        note += f"; most in steps {steps}" if steps else ""
        links.append(RateLink(None, group, "observed", None, rates[0], rates[-1], None, note))
    return tuple(links)
