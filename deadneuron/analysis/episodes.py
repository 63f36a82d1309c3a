"""From states to lives: who was born dead, died at which step, revived, relapsed.

Hysteresis on both sides. Death needs the patience; revival needs firing in `revival_windows` windows. A dead unit that
flickers in fewer and falls silent again stays in its episode: dated by its first death.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deadneuron.records import Episode, Thresholds
from deadneuron.states import DEAD, NEVER, Moment, Timeline, walk

RateAt = Callable[[int], float | None]


@dataclass(slots=True)
class _Open:
    """An episode that has not ended."""

    died: int  # last active step, NEVER for born dead
    number: int  # of this unit's episodes, from 0
    samples: int = 0
    fired_windows: int = 0  # since the unit last met the criterion
    fired_at: int = NEVER


def find_episodes(timeline: Timeline, thresholds: Thresholds, rate_at: RateAt) -> list[Episode]:
    """All episodes of one site's units, by unit and then by step; `rate_at` gives the rate of an update."""
    opened: dict[int, _Open] = {}
    numbers = np.zeros(timeline.site.units, dtype=np.int64)
    ended: list[Episode] = []

    def end(unit: int, last_step: int | None) -> None:
        ended.append(_episode(timeline, unit, opened.pop(unit), last_step, rate_at))

    dead_last = np.zeros(timeline.site.units, dtype=bool)
    for moment in walk(timeline, thresholds):
        dead_last = moment.states == DEAD
        for unit in [unit for unit in opened if moment.fired[unit]]:
            episode = opened[unit]
            if episode.fired_windows == 0:
                episode.fired_at = int(timeline.first_active[moment.window, unit])
            episode.fired_windows += 1
            if episode.fired_windows >= thresholds.revival_windows:
                end(unit, episode.fired_at - 1)
        for unit in np.flatnonzero(dead_last).tolist():
            _is_dead(opened, numbers, unit, moment)
    for unit in sorted(opened):
        if dead_last[unit]:
            end(unit, None)
        else:  # fired again, in too few windows before the run's end to be sure, or a gradient reached it
            end(unit, opened[unit].fired_at - 1 if opened[unit].fired_windows else timeline.last_step)
    return sorted(ended, key=lambda episode: (episode.unit, episode.first_step))


def _is_dead(opened: dict[int, _Open], numbers: np.ndarray, unit: int, moment: Moment) -> None:
    if unit not in opened:
        opened[unit] = _Open(died=int(moment.last_seen[unit]), number=int(numbers[unit]))
        numbers[unit] += 1
    opened[unit].samples = int(moment.silent_samples[unit])
    opened[unit].fired_windows = 0


def _episode(timeline: Timeline, unit: int, made: _Open, last_step: int | None, rate_at: RateAt) -> Episode:
    born = made.died == NEVER
    return Episode(
        site=timeline.site.number,
        unit=unit,
        state="born dead" if born else "relapsed" if made.number else "died",
        first_step=timeline.first_step if born else made.died,
        last_step=last_step,
        born=born,
        rate=None if born else rate_at(made.died),
        samples=made.samples,
    )
