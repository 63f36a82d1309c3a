"""Two checkpoints: the earlier one's rows are stepped with zero gradients and held against the later one's.

A row of weights and optimizer state follows its optimizer's rule. If no gradient came in between, then the rule with
gradients of 0 leads from one checkpoint to the other: the state bit for bit, the weights up to what kernels round. A
unit is still where that holds for the rows of all its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deadneuron.checkpoints.contents import Checkpoint, Interval, Layer, Progress, Rates
from deadneuron.checkpoints.evidence.agreeing import ALL_NEAR, BITS, level_of
from deadneuron.checkpoints.evidence.doubts import STRANGERS, doubt_of
from deadneuron.checkpoints.evidence.kinship import are_strangers
from deadneuron.checkpoints.evidence.looking import Looked, look
from deadneuron.checkpoints.evidence.owners import Owner, owners_of
from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.checkpoints.evidence.threads import one_thread
from deadneuron.records import Forensics


def replay(
    earlier: Checkpoint,
    later: Checkpoint,
    layers: Sequence[Layer],
    rates: Rates | None,
    forensics: Forensics,
    progress: Progress | None = None,
    *,
    screened: bool = True,
) -> tuple[Interval, ...]:
    """One `Interval` a layer, in the order given.

    rates: of the updates in between; None where they are not known: then the state alone is compared, where it does
    not depend on them. screened: rule rows out by closed forms before any are stepped; the answer is the same without
    it. Raises `CheckpointError` where a file has changed since it was opened.
    """
    owners = (owners_of(earlier), owners_of(later))
    told = progress or Progress()
    sizes = [_bytes(later, layer, owners[1]) for layer in layers]
    done = 0
    found = []
    with one_thread():
        for layer, size in zip(layers, sizes, strict=True):
            found.append(look(earlier, later, layer, owners, rates, forensics, screened))
            done += size
            told.advance(done, sum(sizes))
    level = _level(found)
    first = Interval("", earlier.step, later.step, None)
    if not any(_moved_alone(one, level) for one in found) and are_strangers(earlier, later, layers, forensics):
        return tuple(replace(first, layer=layer.name, reason=STRANGERS) for layer in layers)
    return tuple(_interval(one, level, replace(first, layer=one.layer.name), rates, forensics) for one in found)


def _bytes(checkpoint: Checkpoint, layer: Layer, owners: dict[str, Owner]) -> int:
    own = [part.name for part in layer.parts if part.name in checkpoint.weights]
    moments = [moment for name in own if name in owners for moment in owners[name].moments.values()]
    return 2 * (sum(checkpoint.weights[name].nbytes for name in own) + sum(moment.nbytes for moment in moments))


def _level(found: Sequence[Looked]) -> int:
    """The level at which this training's rows agree: its kernels were the same for all of them.

    The widest part of each layer tells: rows of one number agree bit for bit by luck, whichever kernels there were.
    """
    last = [one.rows[-1] for one in found if one.rows]
    fused = any(plan.settings.get("fused") for one in found for plan in one.plans)
    if not last or fused:  # a fused kernel rounds otherwise, if only now and then: many of its rows agree bit for bit
        return ALL_NEAR
    return level_of(np.concatenate([one.levels for one in last]), np.concatenate([one.moved for one in last]))


def _moved_alone(one: Looked, level: int) -> bool:
    """Whether a unit moved, and as the replay leads: that shows one training, even if all else was forgotten."""
    still = [rows.still(level) for rows in one.rows]
    return bool(still) and bool((np.logical_and.reduce(still) & one.rows[-1].moved).any())


def _interval(one: Looked, level: int, said: Interval, rates: Rates | None, forensics: Forensics) -> Interval:
    if not one.plans:
        return replace(said, reason="; ".join(dict.fromkeys(one.reasons.values())) or "it has no parts")
    still = np.logical_and.reduce([rows.still(level) for rows in one.rows])
    if reason := doubt_of(one, still, level, forensics):
        return replace(said, reason=reason)
    evidence = _evidence(one.plans, one.reasons, forensics, level)
    if count := int((one.strayed & still).sum()):
        evidence += f"; the weights of {count} of these units moved otherwise: by hand, or they are an average"
    return replace(said, still=still, evidence=evidence, rates=_span(one.group, rates))


def _span(group: int | None, rates: Rates | None) -> tuple[float, float] | None:
    if rates is None or group is None or not len(rates.by_update):
        return None
    own = rates.by_update[:, group]
    return float(own.min()), float(own.max())


def _evidence(plans: Sequence[Plan], reasons: Mapping[str, str], forensics: Forensics, level: int) -> str:
    plan = max(plans, key=lambda one: len(one.keys))
    kind, updates = plan.names, plan.updates
    if plan.identical:
        said = "weights that stayed the same bit for bit: SGD without momentum and decay moves only what has a gradient"
    else:
        bits, limit = "bit for bit", f"to {forensics.tolerance:g}"
        weights = bits if level == BITS or plan.resting else limit
        state = bits if level < ALL_NEAR else limit if plan.coupled else "up to the rounding of another kernel"
        if not plan.compared:
            how = f"state {state}; weights were not compared, because {plan.why}"
        elif not plan.keys:
            how = f"weights {weights}"
        else:
            how = f"state and weights {state}" if state == weights else f"state {state}, weights {weights}"
        said = f"zero-gradient replay of {kind} over {updates} step{'s' * (updates != 1)}: {how}"
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name, one in reasons.items() if one == reason)
        said += f"; without {names}, because {reason}"
    return said
