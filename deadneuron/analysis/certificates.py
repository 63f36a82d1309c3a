"""Death certificates: when a unit died, at which rate, how fast it fell, and what that is consistent with.

What tells causes apart is how many steps a unit took from common to silent, and whether it still fires on examples
that never change. A death is certified only if the unit had been established: one that hardly ever fired has nothing
to fall from. Every cause is "consistent with", never "caused by": that needs an intervention on the rate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np

from deadneuron.analysis.rates import RateTable
from deadneuron.causes import Cause, Certificate
from deadneuron.frames import Run
from deadneuron.records import Episode, Floats, Ints, Thresholds, Window
from deadneuron.states import NEVER, Timeline


def certify(run: Run, episodes: Sequence[Episode], thresholds: Thresholds) -> tuple[Certificate, ...]:
    """A certificate for every episode of a unit that was born dead, and for every death of an established unit."""
    schedules = Schedules(run)
    by_site: dict[int, list[Episode]] = {}
    for episode in episodes:
        by_site.setdefault(episode.site, []).append(episode)
    made: list[Certificate] = []
    for site, own in by_site.items():
        timeline = run.timelines[site]
        made += _of_site(timeline, own, run.references.get(site, []), schedules, thresholds)
    return tuple(made)


def _of_site(
    timeline: Timeline,
    episodes: Sequence[Episode],
    references: Sequence[Window],
    schedules: Schedules,
    thresholds: Thresholds,
) -> Iterator[Certificate]:
    shares = timeline.active / np.array([[window.rows] for window in timeline.windows])
    common = _last_common(timeline)
    firsts = np.array([window.first_step for window in timeline.windows])
    unseen = _Unseen(timeline)
    lives_since: dict[int, int] = {}  # index of the first window of each unit's present life
    for episode in episodes:  # by unit and then by step
        unit = episode.unit
        if episode.born:
            on_reference = _on_reference(references, unit, timeline.first_step - 1)
            yield Certificate(timeline.site.number, unit, "born dead", None, None, None, None, None, on_reference)
        else:
            begin, end = lives_since.get(unit, 0), int(np.searchsorted(firsts, episode.first_step, side="right"))
            if (shares[begin:end, unit] > thresholds.established).any():
                last = None if common is None else int(common[begin:end, unit].max())
                yield _certificate(timeline, episode, last, unseen, references, schedules, thresholds)
        if episode.last_step is not None:
            lives_since[unit] = max(int(np.searchsorted(firsts, episode.last_step, side="right")) - 1, 0)


def _certificate(
    timeline: Timeline,
    episode: Episode,
    common: int | None,
    unseen: _Unseen,
    references: Sequence[Window],
    schedules: Schedules,
    thresholds: Thresholds,
) -> Certificate:
    death = schedules.update(episode.first_step, timeline.site.groups)
    rate, rise, height = (None, None, None) if death is None else schedules.around(*death, thresholds)
    fall = None if common is None or common == NEVER else episode.first_step + 1 - common
    # A rarely firing unit dies some steps after it was last seen to fire: a pass soon after that tells nothing.
    on_reference = _on_reference(references, episode.unit, episode.first_step + thresholds.gradual_steps - 1)
    return Certificate(
        site=episode.site,
        unit=episode.unit,
        cause=_cause(
            fall,
            0 if fall is None else unseen.since(episode.first_step + 1 - fall, fall),
            rise,
            height,
            on_reference,
            thresholds,
        ),
        last_active=episode.first_step,
        death=None if death is None else death[0],
        rate=rate,
        rise=rise,
        fall=fall,
        on_reference=on_reference,
    )


def _cause(
    fall: int | None,
    unseen: int,
    rise: float | None,
    height: float | None,
    on_reference: float | None,
    thresholds: Thresholds,
) -> Cause:
    """The fall may have taken as many steps more, or fewer, as were not seen."""
    if on_reference is not None and on_reference > thresholds.shift:
        return "data shift"
    if fall is not None and fall - unseen >= thresholds.gradual_steps:
        return "gradual"
    if fall is None or fall + unseen > thresholds.kick_steps:
        return "unknown"
    risen = rise is not None and rise >= thresholds.kick_rise
    high = height is not None and height >= thresholds.kick_rate
    return "kick" if risen or high else "unknown"


class _Unseen:
    """How many steps a site was not seen in: a pause, a branch of the model that runs in some steps, evaluation."""

    def __init__(self, timeline: Timeline) -> None:
        windows = timeline.windows
        self.firsts, self.ends = (np.array([getattr(w, end) for w in windows]) for end in ("first_step", "last_step"))
        # As `states.Walker` counts: a window may begin with the step that ended the one before.
        before = np.concatenate([self.firsts[:1] - 1, np.maximum(self.firsts[1:] - 1, self.ends[:-1])])
        self.inside = np.maximum(self.ends - before - np.array([w.steps for w in windows]), 0)
        ends_before = np.concatenate([before[:1], self.ends[:-1]])
        self.total = np.cumsum(self.inside + before - ends_before)  # up to each window's end

    def since(self, step: int, steps: int) -> int:
        """At most so many of the `steps` steps behind `step`: windows tell how many were seen, not which."""
        begin = max(int(np.searchsorted(self.firsts, step, side="right")) - 1, 0)
        end = min(int(np.searchsorted(self.ends, step + steps)), len(self.ends) - 1)
        return int(self.total[end] - self.total[begin] + self.inside[begin])


def _last_common(timeline: Timeline) -> Ints | None:
    """[windows, units]; None where an older run did not note it."""
    noted = [window.last_common for window in timeline.windows if window.last_common is not None]
    return np.stack(noted) if len(noted) == len(timeline.windows) else None


def _on_reference(references: Sequence[Window], unit: int, step: int) -> float | None:
    """The share of the reference batch's rows that a unit fired on in the first pass after `step`."""
    place = bisect_right(references, step, key=lambda window: window.last_step)
    return float(references[place].active[unit] / references[place].rows) if place < len(references) else None


class Schedules:
    """Each parameter group's rates, without a dither's part, for what a rate was like among those before it."""

    def __init__(self, run: Run) -> None:
        self._table = RateTable(run)
        ticks = run.ticks[~run.ticks["skipped"]]
        drawn = [ticks[f"dither:{group}"].to_numpy(dtype=float) for group in run.info.groups]
        pairs = zip(self._table.groups, drawn, strict=True)
        self._plain = [rates / np.where(np.isfinite(by), by, 1.0) for rates, by in pairs]
        self._around: dict[tuple[int, int], tuple[float, float | None, float | None]] = {}  # many deaths share a step
        self._highest = [_running_maximum(rates) for rates in self._plain]

    def update(self, step: int, groups: Sequence[int]) -> tuple[int, int, int] | None:
        """(step, group, place) of the update that ended what was active in `step`; None where none is known."""
        found = self._table.update(step, groups)
        return None if found is None else (int(self._table.steps[found[1]]), *found)

    def around(
        self, step: int, group: int, place: int, thresholds: Thresholds
    ) -> tuple[float, float | None, float | None]:
        """(rate used, rise, height) of an update.

        Its own rate tells less than the highest one of the `kick_steps` up to it: a kick rings on for a few steps. The
        rise is that rate over the lowest within the patience, the height is that rate over the highest so far.
        """
        key = (group, place)
        if key not in self._around:
            self._around[key] = self._look_around(step, group, place, thresholds)
        return self._around[key]

    def _look_around(
        self, step: int, group: int, place: int, thresholds: Thresholds
    ) -> tuple[float, float | None, float | None]:
        rates, steps = self._plain[group], self._table.steps
        lately = float(np.nanmax(rates[int(np.searchsorted(steps, step - thresholds.kick_steps)) : place + 1]))
        lowest = float(np.nanmin(rates[int(np.searchsorted(steps, step - thresholds.patience)) : place + 1]))
        highest = float(self._highest[group][place])
        used = float(self._table.groups[group][place])
        return used, lately / lowest if lowest > 0 else None, lately / highest if highest > 0 else None


def _running_maximum(rates: Floats) -> Floats:
    return np.fmax.accumulate(rates) if len(rates) else rates
