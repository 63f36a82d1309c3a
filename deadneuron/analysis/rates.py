"""The learning rates that deaths used: facts, described. Nothing here says that a rate caused a death.

A test of deaths against rates within one smooth schedule would be wrong (time and rate move together), so none is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deadneuron.causes import RateLink
from deadneuron.frames import Run
from deadneuron.records import Episode


class RateTable:
    """Which rate each update used, by parameter group."""

    def __init__(self, run: Run) -> None:
        ticks = run.ticks[~run.ticks["skipped"]]
        self.steps = ticks["step"].to_numpy()
        self.groups = [ticks[f"lr:{group}"].to_numpy(dtype=float) for group in run.info.groups]

    def at(self, step: int, groups: Sequence[int]) -> float | None:
        """The rate of update `step`; of the next one that moved one of the groups where that one did not (skipped, or
        a step of another optimizer). None where no rate is known."""
        used = self.used(step, groups)
        return used[1] if used is not None else None

    def used(self, step: int, groups: Sequence[int]) -> tuple[int, float] | None:
        """(group, rate) of that update."""
        known = [group for group in groups if group < len(self.groups)]
        if not known:
            return None
        for index in range(int(np.searchsorted(self.steps, step)), len(self.steps)):
            for group in known:
                rate = self.groups[group][index]
                if np.isfinite(rate):
                    return group, float(rate)
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
    groups_of = {site.number: site.groups for site in run.sites}
    table = RateTable(run)
    links = []

    def group_of(death: Episode) -> int | None:
        used, own = table.used(death.first_step, groups_of[death.site]), groups_of[death.site]
        return used[0] if used is not None else own[0] if own else None

    by_group = [(group_of(death), death) for death in deaths_of(episodes)]
    for group, name in enumerate(run.info.groups):
        deaths = [death for own, death in by_group if own == group and death.rate is not None]
        if not deaths:
            continue
        rates = sorted(d.rate for d in deaths if d.rate is not None)
        span = f"{rates[0]:.3g}" if rates[0] == rates[-1] else f"{rates[0]:.3g} to {rates[-1]:.3g}"
        many = "1 death by an update" if len(deaths) == 1 else f"{len(deaths)} deaths by updates"
        back = sum(death.last_step is not None for death in deaths)
        note = f"{many} of {name} that used rate {span}" + (f"; {back} of them revived later" if back else "")
        steps = ", ".join(f"{step} ({count})" for step, count, _ in worst_steps(deaths, 3) if count > 1)
        note += f"; most in steps {steps}" if steps else ""
        links.append(RateLink(None, group, "observed", "deaths", None, None, None, None, note))
    return tuple(links)
