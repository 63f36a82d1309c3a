"""The learning rates that deaths used: facts. Nothing here says that a rate caused a death."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deadneuron.frames import Run
from deadneuron.records import Bools, Episode


class RateTable:
    """Which rate each update used, by parameter group."""

    def __init__(self, run: Run) -> None:
        ticks = run.ticks[~run.ticks["skipped"]]
        self.steps = ticks["step"].to_numpy()
        self.groups = [ticks[f"lr:{group}"].to_numpy(dtype=float) for group in run.info.groups]
        self.multipliers = [ticks[f"dither:{group}"].to_numpy(dtype=float) for group in run.info.groups]
        self._found: dict[tuple[int, tuple[int, ...]], tuple[int, int] | None] = {}  # many deaths share a step
        self._moves = [np.flatnonzero(np.isfinite(rates)) for rates in self.groups]

    def moved(self, groups: Sequence[int]) -> Bools:
        """Whether each of `steps` moved one of the groups."""
        known = [np.isfinite(self.groups[group]) for group in groups if group < len(self.groups)]
        return np.logical_or.reduce(known) if known else np.zeros(len(self.steps), dtype=bool)

    def at(self, step: int, groups: Sequence[int]) -> float | None:
        """The rate of update `step`; of the next one that moved one of the groups where that one did not (skipped, or
        a step of another optimizer). None where no rate is known."""
        used = self.used(step, groups)
        return used[1] if used is not None else None

    def used(self, step: int, groups: Sequence[int]) -> tuple[int, float] | None:
        """(group, rate) of that update."""
        found = self.update(step, groups)
        return None if found is None else (found[0], float(self.groups[found[0]][found[1]]))

    def update(self, step: int, groups: Sequence[int]) -> tuple[int, int] | None:
        """(group, place in `steps`) of that update: of the first group where several moved in it."""
        key = (step, tuple(groups))
        if key not in self._found:
            self._found[key] = self._look_up(*key)
        return self._found[key]

    def _look_up(self, step: int, groups: tuple[int, ...]) -> tuple[int, int] | None:
        place, found = int(np.searchsorted(self.steps, step)), None
        for group in groups:
            moves = self._moves[group] if group < len(self._moves) else self.steps[:0]
            later = int(np.searchsorted(moves, place))
            if later < len(moves) and (found is None or moves[later] < found[1]):
                found = group, int(moves[later])
        return found


def deaths_of(episodes: Sequence[Episode]) -> list[Episode]:
    """The episodes that began in the run: deaths with a date."""
    return [episode for episode in episodes if not episode.born]


def worst_steps(deaths: Sequence[Episode], most: int = 5) -> list[tuple[int, int, float | None]]:
    """(step, deaths, rate) of the steps in which most units died, most first."""
    counts = Counter(death.first_step for death in deaths)
    rates = {death.first_step: death.rate for death in deaths}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(step, count, rates[step]) for step, count in ranked[:most]]
