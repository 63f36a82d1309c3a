"""Two diagnoses side by side: which layers got worse or better, which findings are new, which are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from deadneuron.records import LEVELS, Diagnosis, Finding, Level, Status, Verdict

Way = Literal["worse", "better", "same", "only before", "only after", "unknown"]
_GRAVITY: tuple[Status, ...] = ("healthy", "warning", "severe")
Key = tuple[str, str]
"""(code, where): what makes two findings the same one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One layer in both diagnoses, told by its name."""

    name: str
    way: Way
    before: Verdict | None
    after: Verdict | None
    text: str  # in a few words


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of `before` in `after`."""

    before: str  # names
    after: str
    status_before: Status
    status_after: Status
    changes: tuple[Change, ...]
    new: tuple[Finding, ...]  # findings of `after` that neither `before` nor the baseline has, or that are graver now
    known: tuple[Finding, ...]  # findings of `after` that the baseline names
    gone: tuple[Finding, ...]  # findings of `before` that `after` does not have
    notes: tuple[str, ...]  # why the two may not be comparable


def compare(before: Diagnosis, after: Diagnosis, baseline: Collection[Key] = ()) -> Difference:
    """Hold `after` against `before`; findings that `baseline` names are not new.

    A layer is worse if its status is graver, or if the share of its dead units rose by at least the share that a
    warning takes (`thresholds.warning` of `after`); better the other way round. "unknown" is neither.
    """
    old = {(one.code, one.where): one for one in before.findings}
    now = {(one.code, one.where): one for one in after.findings}
    fresh = [one for key, one in now.items() if key not in old or _graver(one.level, old[key].level)]
    return Difference(
        before=before.run,
        after=after.run,
        status_before=before.status,
        status_after=after.status,
        changes=tuple(_changes(before, after)),
        new=tuple(one for one in fresh if (one.code, one.where) not in baseline),
        known=tuple(one for key, one in now.items() if key in baseline),
        gone=tuple(one for key, one in old.items() if key not in now),
        notes=tuple(_notes(before, after)),
    )


def worsened(difference: Difference, level: Level) -> bool:
    """Whether a new finding is at or above `level`."""
    return any(not _graver(level, one.level) for one in difference.new)


def _graver(level: Level, than: Level) -> bool:
    return LEVELS.index(level) > LEVELS.index(than)


def _changes(before: Diagnosis, after: Diagnosis) -> Iterator[Change]:
    old = {verdict.name: verdict for verdict in before.verdicts}
    new = {verdict.name: verdict for verdict in after.verdicts}
    for name in dict.fromkeys([*new, *old]):
        one, two = old.get(name), new.get(name)
        if one is None or two is None:
            way: Way = "only after" if one is None else "only before"
            there = two if one is None else one
            yield Change(name, way, one, two, f"{_dead(there)}, in {'the second' if one is None else 'the first'} only")
            continue
        yield Change(name, _way(one, two, after.thresholds.warning), one, two, f"{_dead(one)} → {_dead(two)}")


def _way(before: Verdict, after: Verdict, share: float) -> Way:
    if before.units is None or after.units is None or "unknown" in (before.status, after.status):
        return "unknown"
    graver = _GRAVITY.index(after.status) - _GRAVITY.index(before.status)
    risen = (after.dead or 0) / after.units - (before.dead or 0) / before.units
    if graver > 0 or (graver == 0 and risen >= share):
        return "worse"
    return "better" if graver < 0 or risen <= -share else "same"


def _dead(verdict: Verdict | None) -> str:
    if verdict is None or not verdict.units:
        return "not seen"
    return f"{verdict.dead:,} of {verdict.units:,} dead ({(verdict.dead or 0) / verdict.units:.0%})"


def _notes(before: Diagnosis, after: Diagnosis) -> Iterator[str]:
    if before.thresholds != after.thresholds:
        yield "they were judged by different thresholds: say --profile to judge both by the same"
    if before.source != after.source:
        yield f"one is made from a run, the other from {'checkpoints' if after.source == 'checkpoints' else 'a run'}"
    elif before.last_step is not None and after.last_step is not None:
        short, long = sorted((before.last_step + 1, after.last_step + 1))
        if long > 1.5 * short:
            yield f"one has {short:,} steps and the other {long:,}: more steps have more deaths"
    lost = _blind(before, after)
    if lost:
        yield f"seen before and not now: {', '.join(lost[:4])}{' …' if len(lost) > 4 else ''}"


def _blind(before: Diagnosis, after: Diagnosis) -> Sequence[str]:
    unseen = {verdict.name for verdict in after.verdicts if verdict.units is None}
    return [verdict.name for verdict in before.verdicts if verdict.units is not None and verdict.name in unseen]
