"""Runs at several learning rates and seeds, compared: at matched steps, and at matched sums of rates.

Fewer deaths at a lower rate may be no more than less training: so runs are read at the same step, and again each at the
step where the rates that it used have summed up to the same. The seed is the replicate: units of one net are not
independent, nets of different seeds are.

Deaths are counted by the update that they are dated by, and each run is followed for the patience after the step it is
read at: all deaths by then are known, in every run alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deadneuron.analysis.exact import holm, mann_whitney, ratio_of_means, smallest_p
from deadneuron.analysis.outcomes import Outcome, Reading, read_at

Matching = Literal["steps", "rate sum"]
Of = Literal["deaths", "revivals"]
HALVED = "~"  # marks a ratio that half a unit was added to on both sides
_TWINS = "identical replicates"
_ALPHA = 0.05  # what a p-value is usually held against; it decides here only whether more seeds are advised


@dataclass(frozen=True, slots=True)
class Dose:
    """All runs at one rate, read at matched steps or sums of rates. Lists go over seeds; diverged runs are left out."""

    matching: Matching
    lr: float
    steps: tuple[int, ...]  # the step that each was read at
    died: tuple[float, ...]  # shares of the units
    revived: tuple[float, ...]
    dead: tuple[float, ...]
    losses: tuple[float, ...]  # of those whose loss is known; at the last step that all have, or at matched sums there
    highest: float  # rate that a step used
    diverged: int  # runs
    failed: int = 0  # trainings that ended without a result: a crash at a high rate is a result too


@dataclass(frozen=True, slots=True)
class Contrast:
    """A higher rate against the lowest one (of those with a run that did not diverge)."""

    matching: Matching
    of: Of
    lr: float
    base: float
    ratio: float | None  # of mean shares of units; None where nothing died, or nothing revived, at either
    halved: bool  # half a unit was added on both sides, since nothing died (or revived) on one
    low: float | None  # 95 %, by a bootstrap over seeds; None for fewer than four, or where half a unit was added
    high: float | None
    p: float | None  # exact Mann-Whitney over seeds, two-sided
    p_all: float | None  # Holm's, for all rates that are held against the lowest one in the same question
    smallest: float | None  # p that so many seeds can give
    why: str = ""  # there is no p


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a sweep shows of one model."""

    model: str
    units: int
    follow: int  # steps that each run was followed for after the step it is read at, at least
    last_step: int  # that all runs have
    rate_sum: float | None  # that runs are matched at
    doses: tuple[Dose, ...]
    contrasts: tuple[Contrast, ...]
    tests: int  # p-values for each question (deaths or revivals, at matched steps or sums): what Holm's is for
    safe: float | None  # the largest rate such that it and all lower ones stayed under the threshold
    over: float | None  # the lowest rate that did not
    limit: float  # the threshold: mean share of units that died, at matched steps
    notes: tuple[str, ...]


def compare(
    outcomes: Sequence[Outcome], *, model: str, limit: float, failed: Mapping[float, int] | None = None
) -> Comparison:
    """Compare runs of one model by the rate that was asked for; `limit` is a profile's `thresholds.branch`.

    `failed`: how many trainings ended without a result, by rate.

    A rate is under the limit if, on average over its seeds and at matched steps, a smaller share of units died, and no
    run diverged or ended without a result.
    """
    failed = failed or {}
    rates = sorted({one.lr for one in outcomes} | {lr for lr, count in failed.items() if count})
    sound = [one for one in outcomes if not one.diverged]
    units, follow = max((o.units for o in outcomes), default=0), max((o.follow for o in outcomes), default=0)
    nothing = Comparison(model, units, follow, -1, None, (), (), 0, None, None, limit, ())
    if not sound:
        return replace(nothing, notes=("every run diverged, or none was seen: there is nothing to compare",))
    final = min(one.last_step for one in sound)
    last = final - follow
    if last < 0:
        words = f"the shortest run has {final + 1} steps, and a death is known after {follow}: train for longer"
        return replace(nothing, notes=(words,))
    if len({one.lr for one in outcomes}) > 1 and _same_rates(outcomes):
        words = "all runs used the same rates, whatever was asked for: the script sets its own, past its optimizer's"
        return replace(nothing, notes=(words,))
    total = min(float(one.rate_sums[one.last_step - follow]) for one in sound)
    doses = [_dose("steps", lr, outcomes, {id(one): last for one in sound}, final) for lr in rates]
    if total > 0:
        at = {id(one): int(np.searchsorted(one.rate_sums, total * (1 - 1e-9))) for one in sound}
        doses += [_dose("rate sum", lr, outcomes, at) for lr in rates]
    twins = {lr for lr in rates if _has_twins([one for one in sound if one.lr == lr])}
    contrasts: list[Contrast] = []
    for matching in ("steps", "rate sum"):
        contrasts += _contrasts([dose for dose in doses if dose.matching == matching], twins, 0.5 / units)
    doses = [replace(dose, failed=failed.get(dose.lr, 0)) for dose in doses]
    safe, over = _safe([dose for dose in doses if dose.matching == "steps"], limit)
    return Comparison(
        model=model,
        units=units,
        follow=follow,
        last_step=final,
        rate_sum=total if total > 0 else None,
        doses=tuple(doses),
        contrasts=tuple(contrasts),
        tests=max(Counter((c.matching, c.of) for c in contrasts if c.p is not None).values(), default=0),
        safe=safe,
        over=over,
        limit=limit,
        notes=(*_of_lengths(sound), *_notes(doses, twins, contrasts)),
    )


def _dose(
    matching: Matching, lr: float, outcomes: Sequence[Outcome], at: dict[int, int], loss_at: int | None = None
) -> Dose:
    own = [one for one in outcomes if one.lr == lr]
    readings: list[Reading] = [read_at(one, at[id(one)], loss_at) for one in own if id(one) in at]
    return Dose(
        matching=matching,
        lr=lr,
        steps=tuple(reading.step for reading in readings),
        died=tuple(reading.died for reading in readings),
        revived=tuple(reading.revived for reading in readings),
        dead=tuple(reading.dead for reading in readings),
        losses=tuple(reading.loss for reading in readings if reading.loss is not None),
        highest=max((float(one.rates.max()) for one in own), default=lr),
        diverged=sum(one.diverged for one in own),
    )


def _contrasts(doses: Sequence[Dose], twins: set[float], half: float) -> list[Contrast]:
    """Each higher rate against the lowest that has a run to compare: deaths of all of them, then revivals."""
    made = []
    sound = [dose for dose in doses if dose.died]
    questions: tuple[Of, ...] = ("deaths", "revivals")
    for of in questions:
        own = []
        for base, dose in ((sound[0], dose) for dose in sound[1:]):
            high, low = (one.died if of == "deaths" else one.revived for one in (dose, base))
            ratio, least, most = ratio_of_means(high, low, half)
            halved = ratio is not None and not (any(high) and any(low))
            why = _why_no_p(dose, base, twins)
            p = None if why else mann_whitney(high, low)
            if why == _TWINS:
                least = most = None  # equal runs have no spread
            smallest = None if why else smallest_p(len(high), len(low))
            found = (ratio, halved, least, most, p, None, smallest, why)
            own.append(Contrast(dose.matching, of, dose.lr, base.lr, *found))
        made += _corrected(own)
    return made


def _why_no_p(dose: Dose, base: Dose, twins: set[float]) -> str:
    if dose.lr in twins or base.lr in twins:
        return _TWINS
    if min(len(dose.died), len(base.died)) < 2:
        return "one seed"
    return ""


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    tested = [contrast for contrast in contrasts if contrast.p is not None]
    values = iter(holm([contrast.p for contrast in tested if contrast.p is not None]))
    return [replace(c, p_all=next(values)) if c.p is not None else c for c in contrasts]


def _safe(doses: Sequence[Dose], limit: float) -> tuple[float | None, float | None]:
    safe = None
    for dose in doses:
        if dose.diverged or dose.failed or not dose.died or float(np.mean(dose.died)) >= limit:
            return safe, dose.lr
        safe = dose.lr
    return safe, None


def _has_twins(outcomes: Sequence[Outcome]) -> bool:
    return len({one.digest for one in outcomes}) < len(outcomes)


def _same_rates(outcomes: Sequence[Outcome]) -> bool:
    shortest = min(len(one.rates) for one in outcomes)
    first = outcomes[0].rates[:shortest]
    return all(np.array_equal(one.rates[:shortest], first) for one in outcomes)


def _notes(doses: Sequence[Dose], twins: set[float], contrasts: Sequence[Contrast]) -> list[str]:
    notes = []
    if twins:
        at = ", ".join(f"{lr:g}" for lr in sorted(twins))
        notes.append(
            f"replicates at rate {at} are identical, so there is no p-value: the script seeds itself in a way that "
            "cannot be moved from outside (a torch.Generator, numpy's default_rng), or draws no random numbers"
        )
    crashed = {dose.lr: dose.failed for dose in doses if dose.failed}
    if crashed:
        at = ", ".join(f"{count} at rate {lr:g}" for lr, count in crashed.items())
        notes.append(f"trainings that ended without a result are in no mean: {at}")
    if any(dose.diverged for dose in doses):
        notes.append("runs that ended in NaN or Inf are counted apart, and are in no mean")
    if not twins and any(contrast.why == "one seed" for contrast in contrasts):
        notes.append("one seed at a rate shows no spread, so there is no p-value: give more seeds")
    notes += _of_power(contrasts)
    if any(contrast.halved for contrast in contrasts):
        notes.append(f"{HALVED}: nothing died, or revived, at one of the rates; half a unit is added on both sides")
    return notes


def _of_lengths(outcomes: Sequence[Outcome]) -> list[str]:
    shortest, longest = (end(one.last_step for one in outcomes) + 1 for end in (min, max))
    if longest < 1.5 * shortest:
        return []
    return [f"runs have {shortest:,} to {longest:,} steps: all are read as far as the shortest one goes"]


def _of_power(contrasts: Sequence[Contrast]) -> list[str]:
    """What p so few seeds can give at best, where that is not enough, and how many seeds could."""
    deaths = [one for one in contrasts if one.of == "deaths" and one.matching == "steps" and one.smallest is not None]
    if not deaths:
        return []
    best = min(len(deaths) * (one.smallest or 1.0) for one in deaths)
    if best <= _ALPHA:
        return []
    seeds = next(n for n in range(2, 100) if len(deaths) * smallest_p(n, n) <= _ALPHA)
    of = f" for {len(deaths)} rates" if len(deaths) > 1 else ""
    words = f"so few seeds cannot give a p below {min(best, 1.0):.2g}{of}, however clear the effect is"
    return [f"{words}: {seeds} at each rate can give {len(deaths) * smallest_p(seeds, seeds):.2g}"]
