"""What one run of a sweep came to, read at any of its steps: deaths, revivals, dead units, loss, rates used."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from deadneuron.analysis.divergence import output_of
from deadneuron.analysis.episodes import find_episodes
from deadneuron.frames import Run
from deadneuron.records import Bools, Floats, Ints

_TAIL = 20  # steps that a loss is the mean of
_NOT_ENDED = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: its rate, its seed, and the spells in which units were dead (arrays [spells])."""

    lr: float  # the rate that was asked for
    replicate: int
    units: int  # hidden ones that were seen
    last_step: int
    follow: int  # steps after a death until it is known
    unit: Ints  # whose spell it is, over all sites
    first: Ints  # it was last active in this step
    last: Ints  # last silent step
    born: Bools  # the spell began before the run
    rates: Floats  # [steps] of the first parameter group that took part; 0 where the step was skipped
    losses: Floats  # [steps] NaN where unknown
    diverged: bool
    digest: str  # equal for runs that counted and lost the same

    @property
    def rate_sums(self) -> Floats:
        """[steps] The sum of rates up to each step."""
        return np.cumsum(self.rates)


@dataclass(frozen=True, slots=True)
class Reading:
    """An outcome as of one of its steps; shares of the units."""

    step: int
    died: float  # units that died by this update, whether or not they revived
    revived: float  # units that were dead (born so, or died) and came back by this step
    dead: float  # units that are dead in this step: born dead or died
    loss: float | None  # mean of the 20 steps that end with it, or with the one that was asked for


def outcome_of(run: Run, lr: float, replicate: int, *, diverged: bool = False) -> Outcome | None:
    """What is compared of a run; None where nothing of it was seen. `diverged`: known to be so from elsewhere."""
    thresholds = run.info.thresholds
    unit: list[int] = []
    spells: list[tuple[int, int, bool]] = []
    units, last_step, follow = 0, -1, thresholds.patience
    digest = hashlib.sha256()
    for site in run.sites:
        timeline = run.timelines.get(site.number)
        if timeline is None or site.is_output:
            continue
        for episode in find_episodes(timeline, thresholds, lambda step: None):
            unit.append(units + episode.unit)
            ended = _NOT_ENDED if episode.last_step is None else episode.last_step
            spells.append((episode.first_step, ended, episode.born))
        for window in timeline.windows:
            digest.update(np.array([window.site, window.first_step, window.last_step, window.rows]).tobytes())
            digest.update(window.active.tobytes() + window.mean.tobytes())
        seen = sum(window.samples for window in timeline.windows) / max(sum(w.steps for w in timeline.windows), 1)
        follow = max(follow, math.ceil(thresholds.samples / max(seen, 1)))
        units += site.units
        last_step = max(last_step, timeline.last_step)
    ticks = run.ticks[run.ticks["step"] <= last_step]
    if not units or not len(ticks):
        return None
    steps = ticks["step"].to_numpy()
    rates, losses = np.zeros(last_step + 1), np.full(last_step + 1, np.nan)
    used = ticks[[f"lr:{group}" for group in run.info.groups]].bfill(axis=1).iloc[:, 0].to_numpy(dtype=float)
    rates[steps] = np.where(np.isfinite(used) & ~ticks["skipped"].to_numpy(), used, 0.0)
    losses[steps] = ticks["loss"].to_numpy(dtype=float)
    digest.update(losses.tobytes())
    return Outcome(
        lr=lr,
        replicate=replicate,
        units=units,
        last_step=last_step,
        follow=follow,
        unit=np.array(unit, dtype=np.int64),
        first=np.array([spell[0] for spell in spells], dtype=np.int64),
        last=np.array([spell[1] for spell in spells], dtype=np.int64),
        born=np.array([spell[2] for spell in spells], dtype=bool),
        rates=rates,
        losses=losses,
        diverged=diverged or output_of(run).since is not None,
        digest=digest.hexdigest(),
    )


def read_at(outcome: Outcome, step: int, loss_at: int | None = None) -> Reading:
    """The outcome as of a step that is at least `follow` steps before its end, so that each death by then is known.

    `loss_at`: another step that the loss is read at.
    """
    begun, ended = outcome.first <= step, outcome.last < step
    loss_at = step if loss_at is None else loss_at
    tail = outcome.losses[max(0, loss_at + 1 - _TAIL) : loss_at + 1]
    known = tail[np.isfinite(tail)]

    def share(spells: Bools) -> float:
        return len(np.unique(outcome.unit[spells])) / outcome.units

    return Reading(
        step=step,
        died=share(begun & ~outcome.born),
        revived=share(begun & ended),
        dead=share((begun | outcome.born) & ~ended),
        loss=float(known.mean()) if len(known) else None,
    )
