"""Death certificates: when a unit died, at which rate, how fast it fell, and what that is consistent with.

What tells causes apart is how many steps a unit took from established to silent, and whether it still fires on examples
that never change. A death is certified only if the unit had been established: one that hardly ever fired has nothing
to fall from. Every cause is "consistent with", never "caused by": that needs an intervention on the rate.
"""

from __future__ import annotations

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
    established = _established(timeline)
    firsts = np.array([window.first_step for window in timeline.windows])
    revived = NEVER  # the step after which this unit's present life began
    unit = -1
    for episode in episodes:  # by unit and then by step
        if episode.unit != unit:
            unit, revived = episode.unit, NEVER
        if episode.born:
            yield Certificate(
                site=episode.site,
                unit=unit,
                cause="born dead",
                last_active=None,
                death=None,
                rate=None,
                rise=None,
                fall=None,
                on_reference=_on_reference(references, unit, timeline.first_step - 1),
            )
        elif established is not None:
            window = int(np.searchsorted(firsts, episode.first_step, side="right")) - 1
            last = int(established[window, unit])
            if last > revived:
                yield _certificate(timeline, episode, last, references, schedules, thresholds)
        revived = NEVER if episode.last_step is None else episode.last_step


def _certificate(
    timeline: Timeline,
    episode: Episode,
    established: int,
    references: Sequence[Window],
    schedules: Schedules,
    thresholds: Thresholds,
) -> Certificate:
    death = schedules.update(episode.first_step, timeline.site.groups)
    rate, rise, high = (None, None, None) if death is None else schedules.around(*death, thresholds.patience)
    fall = episode.first_step + 1 - established
    on_reference = _on_reference(references, episode.unit, episode.first_step)
    return Certificate(
        site=episode.site,
        unit=episode.unit,
        cause=_cause(fall, rise, high, on_reference, thresholds),
        last_active=episode.first_step,
        death=None if death is None else death[0],
        rate=rate,
        rise=rise,
        fall=fall,
        on_reference=on_reference,
    )


def _cause(
    fall: int, rise: float | None, high: float | None, on_reference: float | None, thresholds: Thresholds
) -> Cause:
    if on_reference is not None and on_reference > thresholds.shift:
        return "data shift"
    if fall >= thresholds.gradual_steps:
        return "gradual"
    if fall > thresholds.kick_steps or rise is None or high is None:
        return "unknown"
    return "kick" if high >= thresholds.kick_rate or rise >= thresholds.kick_rise else "unknown"


def _established(timeline: Timeline) -> Ints | None:
    """[windows, units] the last established step up to each window; None where an older run did not note it."""
    noted = [window.last_established for window in timeline.windows]
    known = [steps for steps in noted if steps is not None]
    return np.maximum.accumulate(np.stack(known)) if len(known) == len(noted) else None


def _on_reference(references: Sequence[Window], unit: int, step: int) -> float | None:
    """The share of the reference batch's rows that a unit fired on in the first pass after `step`."""
    after = next((window for window in references if window.last_step > step), None)
    return None if after is None else float(after.active[unit] / after.rows)


class Schedules:
    """Each parameter group's rates, without a dither's part, for what a rate was like among those before it."""

    def __init__(self, run: Run) -> None:
        self._table = RateTable(run)
        ticks = run.ticks[~run.ticks["skipped"]]
        drawn = [ticks[f"dither:{group}"].to_numpy(dtype=float) for group in run.info.groups]
        pairs = zip(self._table.groups, drawn, strict=True)
        self._plain = [rates / np.where(np.isfinite(by), by, 1.0) for rates, by in pairs]
        self._highest = [_running_maximum(rates) for rates in self._plain]

    def update(self, step: int, groups: Sequence[int]) -> tuple[int, int, int] | None:
        """(step, group, place) of the update that ended what was active in `step`; None where none is known."""
        steps = self._table.steps
        known = [group for group in groups if group < len(self._plain)]
        for place in range(int(np.searchsorted(steps, step)), len(steps)) if known else ():
            for group in known:
                if np.isfinite(self._table.groups[group][place]):
                    return int(steps[place]), group, place
        return None

    def around(self, step: int, group: int, place: int, patience: int) -> tuple[float, float | None, float | None]:
        """(rate used, the rate over the lowest of the `patience` steps before, over the highest so far)."""
        rates, steps = self._plain[group], self._table.steps
        recent = rates[int(np.searchsorted(steps, step - patience)) : place + 1]
        lowest, highest = float(np.nanmin(recent)), float(self._highest[group][place])
        used, plain = float(self._table.groups[group][place]), float(rates[place])
        return used, plain / lowest if lowest > 0 else None, plain / highest if highest > 0 else None


def _running_maximum(rates: Floats) -> Floats:
    return np.fmax.accumulate(rates) if len(rates) else rates
