"""Two diagnoses side by side: which layers got worse or better, which findings are new, which are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from deadneuron.records import LEVELS, Diagnosis, Finding, Level, Status, Verdict

DIFFERENCE_VERSION = 1
"""Version of the JSON of a comparison."""

Way = Literal["worse", "better", "same", "only before", "only after", "unknown"]
Key = tuple[str, str]
"""(code, where): what makes two findings the same one."""
Baseline = Mapping[Key, Level]
"""Findings that are known, and how grave they were then."""

_GRAVITY: tuple[Status, ...] = ("healthy", "warning", "severe")


@dataclass(frozen=True, slots=True)
class Change:
    """One layer in both diagnoses, told by its name."""

    name: str
    way: Way
    before: Verdict | None
    after: Verdict | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of `before` in `after`."""

    version: int
    before: str  # names
    after: str
    status_before: Status
    status_after: Status
    changes: tuple[Change, ...]
    new: tuple[Finding, ...]  # findings of `after` that `before` does not have
    graver: tuple[Finding, ...]  # … that were lighter in `before`
    known: tuple[Finding, ...]  # … that would be new or graver, were they not in the baseline
    lighter: tuple[Finding, ...]  # … that were graver in `before`
    gone: tuple[Finding, ...]  # findings of `before` that `after` does not have
    notes: tuple[str, ...]  # why the two may not be comparable


def compare(before: Diagnosis, after: Diagnosis, baseline: Baseline | None = None) -> Difference:
    """Hold `after` against `before`; findings that `baseline` names are known, unless they are graver than there.

    A layer is worse if its status is graver, or if it is as grave and the share of its dead units rose by at least the
    share that a warning takes (`thresholds.warning`, the smaller one where they differ); better the other way round.
    "unknown" is neither. Without a baseline, compare(b, a) says the reverse of compare(a, b).
    """
    old, now = _gravest(before.findings), _gravest(after.findings)
    worse = [key for key, one in now.items() if key not in old or _graver(one.level, old[key].level)]
    known = {key for key in worse if baseline and key in baseline and not _graver(now[key].level, baseline[key])}
    return Difference(
        version=DIFFERENCE_VERSION,
        before=before.run,
        after=after.run,
        status_before=before.status,
        status_after=after.status,
        changes=tuple(_changes(before, after)),
        new=tuple(now[key] for key in worse if key not in known and key not in old),
        graver=tuple(now[key] for key in worse if key not in known and key in old),
        known=tuple(now[key] for key in worse if key in known),
        lighter=tuple(one for key, one in now.items() if key in old and _graver(old[key].level, one.level)),
        gone=tuple(one for key, one in old.items() if key not in now),
        notes=tuple(_notes(before, after)),
    )


def worsened(difference: Difference, level: Level) -> bool:
    """Whether a finding that is new or graver is at or above `level`."""
    return any(not _graver(level, one.level) for one in (*difference.new, *difference.graver))


def baseline_of(diagnosis: Diagnosis) -> dict[Key, Level]:
    """All findings of a diagnosis, as known from now on."""
    return {key: one.level for key, one in _gravest(diagnosis.findings).items()}


def _gravest(findings: Iterable[Finding]) -> dict[Key, Finding]:
    """By key; of several with one key the gravest, in the order of the first."""
    found: dict[Key, Finding] = {}
    for one in findings:
        key = (one.code, one.where)
        if key not in found or _graver(one.level, found[key].level):
            found[key] = one
    return found


def _graver(level: Level, than: Level) -> bool:
    return LEVELS.index(level) > LEVELS.index(than)


def _changes(before: Diagnosis, after: Diagnosis) -> Iterator[Change]:
    share = min(before.thresholds.warning, after.thresholds.warning)
    old = {verdict.name: verdict for verdict in before.verdicts}
    new = {verdict.name: verdict for verdict in after.verdicts}
    for name in dict.fromkeys([*new, *old]):
        one, two = old.get(name), new.get(name)
        if one is None:
            yield Change(name, "only after", None, two)
        elif two is None:
            yield Change(name, "only before", one, None)
        else:
            yield Change(name, _way(one, two, share), one, two)


def _way(before: Verdict, after: Verdict, share: float) -> Way:
    if before.status == "unknown" or after.status == "unknown" or not before.units or not after.units:
        return "unknown"
    graver = _GRAVITY.index(after.status) - _GRAVITY.index(before.status)
    # Cross-multiplied: k more of n units are then exactly the share k/n that a profile names.
    risen = (after.dead or 0) * before.units - (before.dead or 0) * after.units
    least = max(round(share * (before.units * after.units), 6), 1)
    if graver > 0 or (graver == 0 and risen >= least):
        return "worse"
    return "better" if graver < 0 or risen <= -least else "same"


def _notes(before: Diagnosis, after: Diagnosis) -> Iterator[str]:
    if before.thresholds != after.thresholds:
        yield "they were judged by different thresholds: say --profile to judge both by the same"
    if before.source != after.source:
        yield "one is made from a run, the other from checkpoints, which show less"
    elif before.last_step is not None and after.last_step is not None:
        short, long = sorted((before.last_step + 1, after.last_step + 1))
        if long > 1.5 * short:
            yield f"one has {short:,} steps and the other {long:,}: more steps have more deaths"
    if before.model != after.model and before.source == after.source == "run":
        yield f"their models differ: {before.model} and {after.model}"
    shared = {verdict.name for verdict in before.verdicts} & {verdict.name for verdict in after.verdicts}
    if before.verdicts and after.verdicts and not shared:
        yield "they have no layer of the same name, so none can be held against another"
    for lost, where in ((_blind(before, after), "first"), (_blind(after, before), "second")):
        if lost:
            yield f"seen in the {where} only: {', '.join(lost[:4])}{' …' if len(lost) > 4 else ''}"


def _blind(here: Diagnosis, there: Diagnosis) -> Sequence[str]:
    """Layers of both that were seen here and not there."""
    unseen = {verdict.name for verdict in there.verdicts if not verdict.units}
    return [verdict.name for verdict in here.verdicts if verdict.units and verdict.name in unseen]
