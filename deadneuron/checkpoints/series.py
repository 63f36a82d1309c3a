"""A series of checkpoints as looks at its layers: replay where two can be compared, else what one says of its past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from deadneuron.checkpoints.contents import Checkpoint, Interval, Layer, Rates, Traces
from deadneuron.checkpoints.judging import Subject
from deadneuron.checkpoints.lives import Look, Span
from deadneuron.records import Bools, Floats, Gap, Ints

REPLAY, STATE, WEIGHTS = "replay", "optimizer state", "weights"
"""Verdict.evidence: two checkpoints compared; the moments in one; the signs of weights alone."""


def subjects_of(
    layers: Sequence[Layer],
    traces: Sequence[Sequence[Traces]],
    intervals: Sequence[Sequence[Interval]],
    patience: int,
    begun_anew: bool = False,
    nonfinite: Sequence[int] = (),
) -> list[Subject]:
    """One subject a layer. `traces` has one entry a checkpoint, `intervals` one for each two that follow each other;
    their inner order is that of `layers`. `begun_anew`: the first checkpoint's optimizer is younger than its training.
    `nonfinite`: of each layer the units with NaN or Inf at the end.
    """
    return [
        _subject(
            number,
            layer,
            [of[number] for of in traces],
            [of[number] for of in intervals],
            patience,
            begun_anew,
            nonfinite[number] if nonfinite else 0,
        )
        for number, layer in enumerate(layers)
    ]


def is_hint(layer: Layer) -> bool:
    """Whether `Traces.closed` of this layer is a hint from its norm, and no certificate."""
    return layer.op.endswith("+ norm")


def settings_of(checkpoint: Checkpoint, parameter: str | None) -> Mapping[str, Any]:
    """Momentum, betas … of the parameter group that a parameter is in; empty where none is known."""
    groups = (group for optimizer in checkpoint.optimizers for group in optimizer.groups)
    return next((group.settings for group in groups if parameter in group.parameters), {})


def rate_span(rates: Rates | None, checkpoint: Checkpoint, parameter: str | None) -> Span | None:
    """Lowest and highest rate that a parameter's group used between two checkpoints; None where it is not known."""
    groups = [group for optimizer in checkpoint.optimizers for group in optimizer.groups]
    own = [index for index, group in enumerate(groups) if parameter in group.parameters]
    if rates is None or not own or not len(rates.by_update) or own[0] >= rates.by_update.shape[1]:
        return None
    used = rates.by_update[:, own[0]]
    return (float(used.min()), float(used.max())) if np.isfinite(used).all() else None


def gaps_of(intervals: Sequence[Sequence[Interval]]) -> Iterator[Gap]:
    """What could not be compared, and why: one gap for all layers of two checkpoints that share a reason."""
    for of in intervals:
        layers: dict[tuple[str, int, int], list[str]] = {}
        for one in of:
            if one.still is None:
                layers.setdefault((one.reason, one.first or 0, one.last or 0), []).append(one.layer)
        for (reason, first, last), names in layers.items():
            where = "all layers" if len(names) == len(of) > 1 else ", ".join(names[:3])
            where += f" and {len(names) - 3} more" if len(names) > 3 and len(names) < len(of) else ""
            yield Gap(where, f"steps {first:,}–{last:,} not compared: {reason}" if last else reason, first)


def _subject(
    number: int,
    layer: Layer,
    traces: Sequence[Traces],
    intervals: Sequence[Interval],
    patience: int,
    begun_anew: bool,
    nonfinite: int,
) -> Subject:
    looks: list[Look] = []
    facts: list[str] = []
    kinds: list[str] = []
    opening = _opening(traces[0], intervals[0] if intervals else None, patience)
    if opening is not None:
        looks.append(opening)
        kinds.append(STATE)
        facts += traces[0].evidence
    for interval, before, after in zip(intervals, traces[:-1], traces[1:], strict=True):
        look = _compared(interval, before)
        if look is not None:
            kinds.append(REPLAY)
            facts.append(interval.evidence)
        elif (look := _of_state(after, patience)) is not None:
            kinds.append(STATE)
            facts += after.evidence
        if look is not None:
            looks.append(look)
    closed = None if looks or is_hint(layer) else traces[-1].closed
    partial = closed is not None and bool(closed.any())  # no unit that is closed for sure says nothing of the others
    if partial:
        looks.append(_closed(traces[-1], patience))
        kinds.append(WEIGHTS)
        facts.append(traces[-1].closing)
    evidence = next((kind for kind in (REPLAY, STATE, WEIGHTS) if kind in kinds), "")
    told = tuple(dict.fromkeys(fact for fact in facts if fact))
    dated = all(one.step is not None for one in traces)
    never = None if begun_anew else traces[0].never  # a state that is younger than the training knows of no birth
    place = (number, layer.name, layer.op, layer.units, tuple(looks), evidence)
    return Subject(*place, never=never, partial=partial, dated=dated, facts=told, nonfinite=nonfinite)


def _opening(traces: Traces, following: Interval | None, patience: int) -> Look | None:
    """What the first checkpoint says of what was before it. Where a unit that seems dead by its moments gets a
    gradient in the interval that follows, the estimate is not believed."""
    look = _of_state(traces, patience)
    if look is None or look.still is None or following is None or following.still is None:
        return look
    never = np.zeros_like(look.still) if traces.never is None else traces.never
    return replace(look, still=look.still & (following.still | never), waning=None)


def _compared(interval: Interval, before: Traces) -> Look | None:
    """Two checkpoints compared; None where they cannot be. Without steps nothing is known of how long that was."""
    if interval.still is None:
        return None
    if interval.first is None or interval.last is None or interval.last <= interval.first:
        return Look(0, 0, 0, interval.still, interval.rates)
    earliest = _earliest(before)
    length = interval.last - interval.first
    return Look(interval.first, interval.last - 1, length, interval.still, interval.rates, None, earliest)


def _of_state(traces: Traces, patience: int) -> Look | None:
    """What the moments in one checkpoint say of the updates before it."""
    if traces.step is None or (traces.age is None and traces.never is None):
        return None
    if traces.age is None:  # nothing but rows that never had a gradient can be told
        return None
    if np.isnan(traces.age).all():  # NaN in its state, which came to no life by that
        return None
    still: Bools = traces.age >= patience  # NaN is not; inf, never, is
    if traces.age_most is None and traces.never is None:
        # SGD's momentum under decay: on nets with batch norm it takes living units for old ones, and may only doubt.
        still = np.zeros_like(still)
    first = max(traces.step - patience, 0)
    covers = min(patience, traces.step)
    span = (first, traces.step - 1, covers)
    hint, waning = traces.age_most is None, _waning(traces, still, covers)
    return Look(*span, still, None, None, _earliest(traces), _latest(traces), hint, waning)


def _waning(traces: Traces, still: Bools, covers: int) -> Bools:
    """[units] those that are not known to have had a gradient within the look. Where nothing can be proved (momentum),
    an estimate of half the time is doubt enough."""
    if traces.age_most is not None:
        alive: Bools = traces.age_most < covers
    else:
        assert traces.age is not None
        alive = traces.age < covers / 2  # NaN is not
    return ~alive & ~still


def _closed(traces: Traces, patience: int) -> Look:
    step = traces.step or 0
    return Look(step, step, patience, traces.closed)


def _earliest(traces: Traces) -> Ints | None:
    """The step before which a unit cannot have had its last gradient: proved from its moments."""
    if traces.age_most is None or traces.step is None:
        return None
    return _steps(traces.step - 1 - np.ceil(traces.age_most))


def _latest(traces: Traces) -> Ints | None:
    """The step that a unit's last gradient came at the latest: as far after the estimate as the proof lies before."""
    if traces.age is None or traces.age_most is None or traces.step is None:
        return None
    with np.errstate(invalid="ignore"):  # inf - inf: a unit that never had one, which is born dead
        least = 2 * traces.age - traces.age_most
    least = np.where(np.isfinite(least), least, traces.age)  # saturated: it is at least the age
    return _steps(traces.step - 1 - np.floor(least))


def _steps(values: Floats) -> Ints:
    """As steps; what is not finite is step 0: nothing better is known."""
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(min=0).astype(np.int64)
