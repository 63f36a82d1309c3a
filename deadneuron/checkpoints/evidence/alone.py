"""What one checkpoint alone says of its layers' units: rows without any gradient, ages, rows closed by their weights.

Everything is read once and row by row, and only where a row is still in question; memory is a few chunks. What it says
is of gradients and weights. That a unit without a gradient is a dead one holds where a gated activation stands behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from deadneuron.checkpoints.contents import Checkpoint, Layer, Part, Progress, Stored, Traces
from deadneuron.checkpoints.evidence.ages import Decay, decay_of
from deadneuron.checkpoints.evidence.blocks import by_unit, is_real, is_square, spans, units_in
from deadneuron.checkpoints.evidence.closing import certified, norm_closed
from deadneuron.checkpoints.evidence.moments import Asked, Moments, moments_of
from deadneuron.checkpoints.evidence.momentum import momentum_of
from deadneuron.checkpoints.evidence.owners import Owner, owners_of
from deadneuron.checkpoints.evidence.reliability import SAYS
from deadneuron.checkpoints.evidence.threads import one_thread
from deadneuron.records import Bools, Forensics

_SUMS = {"RMSprop": "square_avg", "Adadelta": "square_avg", "Adagrad": "sum"}


def traces_of(
    checkpoint: Checkpoint,
    layers: Sequence[Layer],
    patience: int,
    forensics: Forensics,
    progress: Progress | None = None,
) -> tuple[Traces, ...]:
    """One `Traces` a layer, in the order given.

    patience: steps; rows proved to have had a gradient within them are not read further. Raises `CheckpointError`
    where the file has changed since it was opened.
    """
    owners = owners_of(checkpoint)
    told = progress or Progress()
    total = sum(_bytes(checkpoint, layer, owners) for layer in layers)
    done = 0
    found = []
    with one_thread():
        for layer in layers:
            found.append(_traces(checkpoint, layer, owners, patience, forensics))
            done += _bytes(checkpoint, layer, owners)
            told.advance(done, total)
    return tuple(found)


def _bytes(checkpoint: Checkpoint, layer: Layer, owners: dict[str, Owner]) -> int:
    return sum(
        checkpoint.weights[part.name].nbytes
        + sum(moment.nbytes for moment in (owners[part.name].moments.values() if part.name in owners else ()))
        for part in layer.parts
    )


@dataclass(frozen=True, slots=True)
class _Sound:
    """A part whose state can be read row by row."""

    part: Part
    owner: Owner
    weight: Stored


def _traces(
    checkpoint: Checkpoint,
    layer: Layer,
    owners: dict[str, Owner],
    patience: int,
    forensics: Forensics,
) -> Traces:
    sound = [
        _Sound(part, owners[part.name], checkpoint.weights[part.name])
        for part in layer.parts
        if part.name in owners and _fits(owners[part.name], checkpoint.weights[part.name])
    ]
    traces = _of_state(layer, sound, patience, Traces(layer.name, checkpoint.step))
    closed, says = _closed(checkpoint, layer, forensics)
    return replace(traces, closed=closed, closing=says)


def _fits(owner: Owner, weight: Stored) -> bool:
    """Whether the state has begun and lies row by row beside the weights: no quantised, factored or sharded one."""
    moments = owner.moments
    return bool(moments) and all(m.shape == weight.shape and is_real(m) for m in moments.values()) and owner.step != 0


def _of_state(layer: Layer, sound: list[_Sound], patience: int, traces: Traces) -> Traces:
    if not sound:
        return traces
    if any(one.owner.coupled for one in sound) and sound[-1].owner.kind != "SGD":
        return replace(traces, evidence=(SAYS["coupled"],))
    decays = [decay_of(one.owner) for one in sound]
    pairs = [(one, decay) for one, decay in zip(sound, decays, strict=True) if decay is not None]
    if pairs:
        return _of_moments(layer, pairs, patience, traces)
    wide = sound[-1]  # the weight: the whole-sized part comes last
    momentum = wide.owner.number("momentum")
    if wide.owner.kind == "SGD" and 0 < momentum < 1 and "momentum_buffer" in wide.owner.moments:
        if wide.owner.coupled and len(wide.weight.shape) < 2:
            return traces  # one number is always parallel to another
        weight = wide.weight if wide.owner.coupled else None
        said = momentum_of(wide.part, wide.owner.moments["momentum_buffer"], weight, momentum, layer.units)
        says = (SAYS["momentum with decay"],) if weight is not None else (SAYS["momentum"], SAYS["never momentum"])
        return _told(traces, said, says, never=weight is None)
    key = _SUMS.get(wide.owner.kind or "")
    if key is not None and all(key in one.owner.moments for one in sound):
        return replace(traces, never=_untouched(sound, key, layer.units), evidence=(SAYS["never"],))
    return traces


def _of_moments(layer: Layer, pairs: list[tuple[_Sound, Decay]], patience: int, traces: Traces) -> Traces:
    asked = [Asked(one.part, decay, one.owner.moments, one.owner.step, one.owner.number("eps")) for one, decay in pairs]
    said = moments_of(asked, layer.units, patience)
    wide = pairs[-1][0]
    if len(pairs) > 1 and is_square(wide.weight):
        # The shape does not tell which axis has the units. Where the other parts leave units in question and the weight
        # gainsays all of them, its units may lie along the other one.
        without = moments_of(asked[:-1], layer.units, patience)
        if _unproved(without, patience) and not _unproved(said, patience):
            turned = [*asked[:-1], replace(asked[-1], part=replace(wide.part, axis=1 - wide.part.axis))]
            other = moments_of(turned, layer.units, patience)
            said = other if _unproved(other, patience) else said
    half = any(moment.dtype == torch.float16 for one, _ in pairs for moment in one.owner.moments.values())
    says = (SAYS["age"], SAYS["proof"], SAYS["float16"] if half else SAYS["never"])
    return _told(traces, said, says, never=not half)


def _unproved(said: Moments, patience: int) -> bool:
    return bool((said.age_most >= patience).any())


def _told(traces: Traces, said: Moments, says: tuple[str, ...], never: bool) -> Traces:
    return replace(
        traces,
        never=said.never if never else None,
        age=said.age,
        age_most=said.age_most if np.isfinite(said.age_most).any() else None,
        saturates=said.saturates,
        evidence=says,
    )


def _untouched(sound: list[_Sound], key: str, units: int) -> Bools:
    """[units] rows whose sum of squares is what it was before the first gradient."""
    never = np.ones(units, dtype=np.bool_)
    for one in sound:
        stored, axis = one.owner.moments[key], one.part.axis
        start = one.owner.number("initial_accumulator_value")
        for first, last in spans(stored, axis, never.copy()):
            rows = by_unit(stored.read(first, last), axis)
            never[units_in(axis, first, last)] &= (rows == rows.new_tensor(start)).all(1).numpy()
    return never


def _closed(checkpoint: Checkpoint, layer: Layer, forensics: Forensics) -> tuple[Bools | None, str]:
    parts, weights = layer.parts, checkpoint.weights
    if layer.op.endswith(" + norm"):
        if len(parts) < 2 or not all(len(weights[part.name].shape) == 1 for part in parts[:2]):
            return None, ""
        beta, gamma = (weights[part.name] for part in parts[:2])
        return norm_closed(beta, gamma, forensics.norm_closed), SAYS["norm"].format(limit=forensics.norm_closed)
    wide = parts[-1]
    if layer.previous is None or len(weights[wide.name].shape) < 2 or len(parts) > 2:
        return None, ""  # weight norm: the sign of the weight is that of its direction if the magnitude is positive
    bias = weights[parts[0].name] if len(parts) == 2 else None
    return certified(weights[wide.name], wide, bias, layer.units), SAYS["certificate"].format(previous=layer.previous)
