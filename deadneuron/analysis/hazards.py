"""Deaths and revivals step by step, beside how many units could have died or revived: what hazards are made of.

A unit that was last active in forward s died by update s, or by the next one that moved its parameters where that one
did not (a skipped step, a step of another optimizer). A unit that fired again in forward s was revived by the last
update before it. Units in an episode are not at risk of death; they are at risk of revival once they are known to be
dead, since a shorter silence would have been no episode. At the end of a run deaths cannot be told any longer: those
steps are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deadneuron.analysis.rates import RateTable
from deadneuron.frames import Run
from deadneuron.records import Bools, Episode, Floats, Ints, Thresholds
from deadneuron.states import Timeline

_LASTS = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Series:
    """One parameter group's updates, in order, of which deaths could be told. Arrays have shape [updates]."""

    group: int
    steps: Ints
    rates: Floats  # as used
    multipliers: Floats  # of a dither, within these rates; NaN for none
    deaths: Ints
    at_risk: Ints  # units that were not dead
    revivals: Ints
    dead_at_risk: Ints  # units that were known to be dead

    def __len__(self) -> int:
        return len(self.steps)


def hazard_series(run: Run, episodes: Sequence[Episode], thresholds: Thresholds) -> tuple[Series, ...]:
    """The series of each parameter group that moves a site, summed over its sites; one without a step is left out.

    The work grows with steps × sites and with the number of episodes, not with units × steps.
    """
    if run.phase != "train":  # evaluation passes do not follow each update
        return ()
    table = RateTable(run)
    spans = _spans(episodes)
    made = []
    for group, rates in enumerate(table.groups):
        moved = np.isfinite(rates)
        steps = table.steps[moved]
        sums = np.zeros((4, len(steps)), dtype=np.int64)
        seen = np.zeros(len(steps), dtype=bool)
        for timeline in run.timelines.values():
            if group not in timeline.site.groups:
                continue
            watched = _Watched(timeline, thresholds)
            told = watched.told(steps)
            anybody = table.steps[table.moved(timeline.site.groups)]
            counts = _count(steps, anybody, watched, spans.get(timeline.site.number, _NO_SPANS))
            sums += np.where(told, counts, 0)
            seen |= told
        if seen.any():
            parts = (steps, rates[moved], table.multipliers[group][moved], *sums)
            made.append(Series(group, *(part[seen] for part in parts)))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class _Spans:
    """One site's episodes as arrays."""

    first: Ints
    last: Ints  # _LASTS where it lasts
    born: Bools


_NO_SPANS = _Spans(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


def _spans(episodes: Sequence[Episode]) -> dict[int, _Spans]:
    rows = ((e.site, e.first_step, _LASTS if e.last_step is None else e.last_step, e.born) for e in episodes)
    table = np.array(list(rows), dtype=np.int64).reshape(-1, 4)
    return {
        int(site): _Spans(own[:, 1], own[:, 2], own[:, 3].astype(bool))
        for site in np.unique(table[:, 0])
        for own in [table[table[:, 0] == site]]
    }


class _Watched:
    """When one site was watched, and from when on a silence that began at a step is known to be death."""

    def __init__(self, timeline: Timeline, thresholds: Thresholds) -> None:
        windows = timeline.windows
        self.units = timeline.site.units
        self.firsts = np.array([w.first_step for w in windows], dtype=np.int64)
        self.ends = np.array([w.last_step for w in windows], dtype=np.int64)
        self.seen = np.array([w.steps for w in windows], dtype=np.int64)
        # As `states.Walker` counts: a window may begin with the step that ended the one before.
        before = np.concatenate([self.firsts[:1] - 1, np.maximum(self.firsts[1:] - 1, self.ends[:-1])])
        self.lengths = np.cumsum(np.minimum(self.ends - before, self.seen))
        self.samples = np.cumsum(np.array([w.samples for w in windows], dtype=np.int64))
        self.patience, self.needed = thresholds.patience, min(thresholds.samples, timeline.most)

    def known_at(self, last_active: Ints, never: Bools) -> Ints:
        """The window's end at which a unit that fell silent behind `last_active` is dead; _LASTS if none is.

        never: where it was silent from the beginning on.
        """
        window = np.maximum(np.searchsorted(self.firsts, last_active, side="right") - 1, 0)
        since = np.clip(self.ends[window] - last_active, 0, self.seen[window])
        steps = np.where(never, self.patience, self.patience - since + self.lengths[window])
        samples = np.where(never, self.needed, self.needed + self.samples[window])
        end = np.maximum(np.searchsorted(self.lengths, steps), np.searchsorted(self.samples, samples))
        return np.append(self.ends, _LASTS)[end]

    def told(self, steps: Ints) -> Bools:
        """Whether the site was watched at each of these steps, and a death by its update could still be told."""
        change = np.zeros(len(steps) + 1, dtype=np.int64)
        np.add.at(change, np.searchsorted(steps, self.firsts), 1)
        np.add.at(change, np.searchsorted(steps, self.ends, side="right"), -1)
        return (np.cumsum(change[:-1]) > 0) & (steps <= self._last_told())

    def _last_told(self) -> int:
        low, high = int(self.firsts[0]) - 1, int(self.ends[-1])
        while low < high:
            middle = (low + high + 1) // 2
            known = self.known_at(np.array([middle]), np.array([False]))[0] < _LASTS
            low, high = (middle, high) if known else (low, middle - 1)
        return low


def _count(steps: Ints, anybody: Ints, watched: _Watched, spans: _Spans) -> Ints:
    """[4, steps]: deaths, at_risk, revivals, dead_at_risk of one site; `anybody`: steps that moved its parameters."""
    size = len(steps)
    # Behind the last of `steps` stands one more place for what belongs to none of them.
    killer = np.append(anybody, _LASTS)[np.searchsorted(anybody, spans.first)]
    # Where nothing moved it between its last activity and its next, no update killed it.
    died_at = np.where(spans.born | (killer > spans.last), size, _place(steps, killer))
    leaves = np.searchsorted(steps, spans.first) + (~spans.born & (died_at < size))
    returns = np.searchsorted(steps, spans.last, side="right")

    reviver = np.append(-1, anybody)[np.searchsorted(anybody, spans.last, side="right")]
    known = watched.known_at(spans.first, spans.born)
    counted = (spans.last < _LASTS) & (reviver >= known)
    revived_at = np.where(counted, _place(steps, reviver), size)

    dead = _covered(size, leaves, returns)
    known_dead = _covered(size, np.maximum(leaves, np.searchsorted(steps, known)), returns)
    deaths, revivals = (np.bincount(at, minlength=size + 1)[:size] for at in (died_at, revived_at))
    return np.stack([deaths, watched.units - dead, revivals, known_dead])


def _place(steps: Ints, wanted: Ints) -> Ints:
    """The index of each wanted step; the number of steps where it is none of them."""
    place = np.searchsorted(steps, wanted)
    return np.where(np.append(steps, -1)[place] == wanted, place, len(steps))


def _covered(size: int, begin: Ints, end: Ints) -> Ints:
    """How many of the half-open ranges [begin, end) hold each index."""
    change = np.bincount(begin, minlength=size + 1) - np.bincount(np.maximum(begin, end), minlength=size + 1)
    return np.cumsum(change)[:size]
