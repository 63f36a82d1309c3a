"""One layer of a series of checkpoints, judged by its looks: the same `Verdict` as a run's, with its evidence named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deadneuron.checkpoints.lives import Lives, Look, find_lives
from deadneuron.records import Bools, Episode, History, Status, Thresholds, Verdict
from deadneuron.states import bound


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: a layer of weights, or an activation that was measured on data."""

    number: int
    name: str
    op: str
    units: int
    looks: tuple[Look, ...]  # in order of steps
    evidence: str  # in a word or two: "replay", "Adam's state", "measured" …; empty where nothing is known
    never: Bools | None = None  # [units] never active before the first look
    partial: bool = False  # only that a unit is closed can be told, not that it is open
    nonfinite: int = 0  # units with NaN or Inf at the last checkpoint
    dated: bool = True  # whether the looks' steps are known; else they only stand in order
    facts: tuple[str, ...] = ()  # what the evidence rests on and how reliable it is, a sentence each
    numbers: dict[str, Any] = field(default_factory=dict)  # further fields of the verdict (rare, dormant …)


@dataclass(frozen=True, slots=True)
class Judged:
    """A subject with its verdict and what that was made from."""

    subject: Subject
    verdict: Verdict
    lives: Lives | None  # None where nothing is known
    history: History | None
    lost: bool = False  # nothing is known of it for a whole patience before the last checkpoint

    @property
    def lasting(self) -> list[Episode]:
        """The episodes that last."""
        return [] if self.lives is None else [one for one in self.lives.episodes if one.last_step is None]


def judge(subject: Subject, thresholds: Thresholds, last_step: int | None = None) -> Judged:
    """The verdict on one layer; "unknown" without numbers where no look is known.

    `last_step` is that of the last checkpoint: what was known long before it says nothing of the end.
    """
    known = [look for look in subject.looks if look.still is not None]
    if not known:
        status: Status = "severe" if subject.nonfinite else "unknown"
        verdict = Verdict(subject.number, subject.name, subject.op, status)
        if subject.nonfinite:
            verdict = replace(verdict, units=subject.units, nonfinite=subject.nonfinite)
        return Judged(subject, verdict, None, None)
    lost = _is_lost(subject, known, last_step, thresholds)
    lives = find_lives(subject.number, subject.units, subject.looks, thresholds.patience, subject.never)
    if not subject.dated:  # then nobody's death can be dated, nor be told from a birth
        lives = replace(lives, episodes=())
    lasting = [one for one in lives.episodes if one.last_step is None]
    deaths = sorted((one for one in lasting if not one.born), key=lambda one: (one.first_step, one.latest or 0))
    middle = deaths[(len(deaths) - 1) // 2] if deaths else None
    dead, silent = int(lives.dead.sum()), int(lives.silent.sum())
    died = len(deaths) if subject.dated else dead
    samples = known[-1].samples
    steps = sum(look.covers for look in known)
    verdict = Verdict(
        site=subject.number,
        name=subject.name,
        op=subject.op,
        status=_status(subject, dead, died, silent, steps, thresholds, lost=lost),
        units=subject.units,
        dead=dead,
        born_dead=dead - died,
        died=died,
        revived=len(lives.episodes) - len(lasting),
        silent=silent,
        silent_samples=samples if silent else None,
        stuck=dead / subject.units >= thresholds.severe,
        steps=steps,
        enough=_enough(known, samples, steps, thresholds),
        since=middle.first_step if middle else None,
        since_latest=middle.latest if middle else None,
        rate=middle.rate if middle else None,
        rates=middle.rates if middle else None,
        samples=samples,
        bound=bound(samples),
        window=(known[0].first, known[-1].last) if subject.dated else None,
        evidence=subject.evidence,
        nonfinite=subject.nonfinite or None,
        **subject.numbers,
    )
    return Judged(subject, verdict, lives, _history(subject, lives) if subject.dated else None, lost)


def _enough(known: Sequence[Look], samples: int | None, steps: int, thresholds: Thresholds) -> bool:
    """Whether a unit could have been called dead at all."""
    return steps >= thresholds.patience and (samples is None or samples >= thresholds.samples)


def _is_lost(subject: Subject, known: Sequence[Look], last_step: int | None, thresholds: Thresholds) -> bool:
    return subject.dated and last_step is not None and last_step - 1 - known[-1].last >= thresholds.patience


def _status(
    subject: Subject, dead: int, died: int, silent: int, steps: int, thresholds: Thresholds, *, lost: bool
) -> Status:
    if subject.nonfinite:
        return "severe"
    if lost:
        return "unknown"
    if dead / subject.units >= thresholds.severe:
        return "severe"
    if died / subject.units >= thresholds.warning:
        return "warning"
    undecided = silent > 0 and (died + silent) / subject.units >= thresholds.warning
    if undecided or subject.partial or steps < thresholds.patience:
        return "unknown"
    return "healthy"


def _history(subject: Subject, lives: Lives) -> History:
    units = subject.units
    rare = np.zeros(len(lives.steps))
    return History(
        site=subject.number,
        steps=lives.steps,
        dead=tuple(count / units for count in lives.dead_then),
        silent=tuple(count / units for count in lives.silent_then),
        rare=tuple(rare.tolist()),
        active=(),
    )
