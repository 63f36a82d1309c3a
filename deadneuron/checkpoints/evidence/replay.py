"""Two checkpoints: the earlier one's rows are stepped with zero gradients and held against the later one's.

A row of weights and optimizer state follows its optimizer's rule. If no gradient came in between, then the rule with
gradients of 0 leads from one checkpoint to the other: the state bit for bit, the weights up to what kernels round. A
unit is still where that holds for the rows of all its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from deadneuron.checkpoints.contents import Checkpoint, Interval, Layer, Progress, Rates
from deadneuron.checkpoints.evidence.agreeing import ALL_NEAR, BITS, level_of
from deadneuron.checkpoints.evidence.blocks import is_square
from deadneuron.checkpoints.evidence.freemotion import in_free_motion
from deadneuron.checkpoints.evidence.kinship import are_strangers
from deadneuron.checkpoints.evidence.owners import Owner, owners_of
from deadneuron.checkpoints.evidence.plans import Plan, plan_of
from deadneuron.checkpoints.evidence.rounding import steps_apart
from deadneuron.checkpoints.evidence.rows import RowLevels, judge_rows, unchanged
from deadneuron.checkpoints.evidence.threads import one_thread
from deadneuron.records import Bools, Forensics


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
            found.append(_look(earlier, later, layer, owners, rates, forensics, screened))
            done += size
            told.advance(done, sum(sizes))
    level = _level(found)
    first = Interval("", earlier.step, later.step, None)
    if not any(_moved_alone(one, level) for one in found) and are_strangers(earlier, later, layers, forensics):
        return tuple(replace(first, layer=layer.name, reason=_STRANGERS) for layer in layers)
    return tuple(_interval(one, level, replace(first, layer=one.layer.name), rates, forensics) for one in found)


def _bytes(checkpoint: Checkpoint, layer: Layer, owners: dict[str, Owner]) -> int:
    own = [part.name for part in layer.parts if part.name in checkpoint.weights]
    moments = [moment for name in own if name in owners for moment in owners[name].moments.values()]
    return 2 * (sum(checkpoint.weights[name].nbytes for name in own) + sum(moment.nbytes for moment in moments))


@dataclass(frozen=True, slots=True)
class _Looked:
    """One layer's parts, and at which level their rows agree."""

    layer: Layer
    plans: tuple[Plan, ...]
    group: int | None  # of the first part that has a plan
    reasons: Mapping[str, str]  # why parts have none
    rows: tuple[RowLevels, ...]  # of each plan
    strayed: Bools  # [units] whose weights are not where the rates lead, though the state had no gradient


def _look(
    earlier: Checkpoint,
    later: Checkpoint,
    layer: Layer,
    owners: tuple[dict[str, Owner], dict[str, Owner]],
    rates: Rates | None,
    forensics: Forensics,
    screened: bool,
) -> _Looked:
    plans: list[Plan] = []
    reasons: dict[str, str] = {}
    for part in layer.parts:
        own = (owners[0].get(part.name), owners[1].get(part.name))
        plan = plan_of(part, earlier, later, own, rates)
        if isinstance(plan, Plan) and unchanged(plan):
            plan = "its momentum did not decay: it was frozen or unused in between"
        if isinstance(plan, Plan):
            plans.append(plan)
        else:
            reasons[part.name] = plan
    wanted = np.ones(layer.units, dtype=np.bool_)
    rows: list[RowLevels] = []
    strayed = ~wanted
    for plan in plans:
        rows.append(_rows(_by_state(plan), wanted, forensics, screened, alone=len(plans) == 1))
        wanted = rows[-1].still(ALL_NEAR)
        if _by_state(plan) is not plan and wanted.any():
            strayed |= wanted & ~_rows(plan, wanted, forensics, screened, alone=True).still(ALL_NEAR)
    group = owners[1][plans[0].part.name].group if plans else None
    return _Looked(layer, tuple(plans), group, reasons, tuple(rows), strayed)


def _by_state(plan: Plan) -> Plan:
    """Of Adam and its kin the state alone decides: the first moment forgets no gradient, it is counted by steps of its
    own, and it depends neither on rates nor on weights, which may have been changed by hand or be an average. So does
    SGD's momentum without decay, as long as it has not shrunk below what its dtype holds."""
    decides = plan.compared and not plan.coupled and ("exp_avg" in plan.keys or _remembers(plan))
    return replace(plan, compared=False, rates=None) if decides else plan


def _remembers(plan: Plan) -> bool:
    """Whether the first gradient of the interval would still be in SGD's buffer at its end."""
    if plan.kinds != ("SGD",) or plan.keys != ("momentum_buffer",) or plan.settings.get("dampening", 0) == 1:
        return False
    least = plan.settings.get("momentum", 0.0) if plan.momenta is None else float(plan.momenta.min())
    return bool(plan.states[0]) and least**plan.updates > torch.finfo(plan.states[1][plan.keys[0]].dtype).tiny / _SMALL


_SMALL = 1e-8  # a gradient that shrinks from here must still be a normal number; in float16 no interval is that short


def _rows(plan: Plan, wanted: Bools, forensics: Forensics, screened: bool, alone: bool) -> RowLevels:
    """Of the wanted units; a square weight is tried along both axes."""
    found = judge_rows(plan, wanted, forensics, screened)
    if alone or not is_square(plan.weights[0]) or not wanted.any() or found.still(ALL_NEAR).any():
        return found
    # The other parts leave units still and the weight gainsays all of them: its units may lie along the other axis.
    turned = replace(plan, part=replace(plan.part, axis=1 - plan.part.axis))
    return judge_rows(turned, wanted, forensics, screened)


def _level(found: Sequence[_Looked]) -> int:
    """The level at which this training's rows agree: its kernels were the same for all of them.

    The widest part of each layer tells: rows of one number agree bit for bit by luck, whichever kernels there were.
    """
    last = [one.rows[-1] for one in found if one.rows]
    fused = any(plan.settings.get("fused") for one in found for plan in one.plans)
    if not last or fused:  # a fused kernel rounds otherwise, if only now and then: many of its rows agree bit for bit
        return ALL_NEAR
    return level_of(np.concatenate([one.levels for one in last]), np.concatenate([one.moved for one in last]))


def _moved_alone(one: _Looked, level: int) -> bool:
    """Whether a unit moved, and as the replay leads: that shows one training, even if all else was forgotten."""
    still = [rows.still(level) for rows in one.rows]
    return bool(still) and bool((np.logical_and.reduce(still) & one.rows[-1].moved).any())


def _interval(one: _Looked, level: int, said: Interval, rates: Rates | None, forensics: Forensics) -> Interval:
    if not one.plans:
        return replace(said, reason="; ".join(dict.fromkeys(one.reasons.values())) or "it has no parts")
    still = np.logical_and.reduce([rows.still(level) for rows in one.rows])
    if reason := _doubt(one, still, level, forensics):
        return replace(said, reason=reason)
    evidence = _evidence(one.plans, one.reasons, forensics, level)
    if count := int((one.strayed & still).sum()):
        evidence += f"; the weights of {count} of these units moved otherwise: by hand, or they are an average"
    return replace(said, still=still, evidence=evidence, rates=_span(one.group, rates))


def _doubt(one: _Looked, still: Bools, level: int, forensics: Forensics) -> str:
    """Why nothing is known of units that agree with the replay, or of those that do not; empty if it is."""
    free, updates = max((_astray(one, at, still, level, forensics), plan.updates) for at, plan in enumerate(one.plans))
    if free > 1:  # one may have had a tiny gradient; what is told wrong shows in every unit without one
        return _MISTOLD.format(free=free, updates=updates)
    if not still.any() or any(plan.keys for plan in one.plans):
        return ""
    if still.all() and all(plan.identical for plan in one.plans):
        return _NONE_CHANGED
    if still.all() and level == BITS:  # all decayed to the bit as the rates lead
        return ""
    others = still if still.all() else ~still
    apart = steps_apart(one.plans, others, None if level == BITS else forensics.tolerance)
    return _LOST if apart < forensics.roundings else ""


def _astray(one: _Looked, at: int, still: Bools, level: int, forensics: Forensics) -> int:
    """How many rows of one part moved as without a gradient, though not as the replay says.

    None do where another row agrees with it in every bit of a motion that other numbers of updates and other rates
    would have changed: what is told is so, and those had gradients that are tiny.
    """
    plan, rows = one.plans[at], one.rows[at]
    free = in_free_motion(plan, ~still)
    if free.sum() > 1:  # a row behind dead inputs moves as the replay says while the unit's bias has a gradient
        free &= ~_rows(_by_state(plan), free, forensics, True, alone=True).still(level)
    if free.sum() > 1 and level == BITS and in_free_motion(plan, still & rows.moved).any():
        return 0
    return int(free.sum())


_STRANGERS = (
    "their weights have nothing in common: they are of two trainings, or all was forgotten in between; give "
    "checkpoints of one training that lie closer"
)
_NONE_CHANGED = (
    "none of its weights changed: it was frozen or unused, or all of its units had no gradient; its optimizer keeps no "
    "state that would tell"
)
_MISTOLD = (
    "{free} units moved as units without a gradient do, but not over {updates} updates at the rates that are told: "
    "steps were skipped or counted otherwise, rates were set by hand, it was frozen for a while, or the weights are an "
    "average"
)
_LOST = (
    "its weights moved so little that smaller updates than most would have been lost in rounding, and its optimizer "
    "keeps no state that would tell; measure it with the model and data"
)


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
