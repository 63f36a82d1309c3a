"""Two checkpoints: the earlier one's rows are stepped with zero gradients and held against the later one's.

A row of weights and optimizer state follows its optimizer's rule. If no gradient came in between, then the rule with
gradients of 0 leads from one checkpoint to the other: the state bit for bit, the weights up to what kernels round. A
unit is still where that holds for the rows of all its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deadneuron.checkpoints.blocks import is_square
from deadneuron.checkpoints.contents import Checkpoint, Interval, Layer, Progress, Rates
from deadneuron.checkpoints.freemotion import in_free_motion
from deadneuron.checkpoints.owners import Owner, owners_of
from deadneuron.checkpoints.plans import Plan, plan_of
from deadneuron.checkpoints.rows import still_rows, unchanged
from deadneuron.checkpoints.threads import one_thread
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
            found.append(_interval(earlier, later, layer, owners, rates, forensics, screened))
            done += size
            told.advance(done, sum(sizes))
    return tuple(found)


def _bytes(checkpoint: Checkpoint, layer: Layer, owners: dict[str, Owner]) -> int:
    own = [part.name for part in layer.parts if part.name in checkpoint.weights]
    moments = [moment for name in own if name in owners for moment in owners[name].moments.values()]
    return 2 * (sum(checkpoint.weights[name].nbytes for name in own) + sum(moment.nbytes for moment in moments))


def _interval(
    earlier: Checkpoint,
    later: Checkpoint,
    layer: Layer,
    owners: tuple[dict[str, Owner], dict[str, Owner]],
    rates: Rates | None,
    forensics: Forensics,
    screened: bool,
) -> Interval:
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
    said = Interval(layer.name, earlier.step, later.step, None)
    if not plans:
        return replace(said, reason="; ".join(dict.fromkeys(reasons.values())) or "it has no parts")
    still, exact = np.ones(layer.units, dtype=np.bool_), True
    strayed = ~still
    for plan in plans:
        wanted = still
        still, bits = _still(_by_state(plan), wanted, forensics, screened, alone=len(plans) == 1)
        exact &= bits
        if _by_state(plan) is not plan and still.any():
            strayed |= still & ~_still(plan, still, forensics, screened, alone=True)[0]
    free, updates = max((int(in_free_motion(plan, ~still).sum()), plan.updates) for plan in plans)
    if free > 1:  # one may have had a tiny gradient; what is told wrong shows in every unit without one
        return replace(said, reason=_MISTOLD.format(free=free, updates=updates))
    if still.all() and all(plan.identical for plan in plans):
        reason = "none of its weights changed: it was frozen or unused, or all of its units had no gradient"
        return replace(said, reason=f"{reason}; its optimizer keeps no state that would tell")
    span = _span(plans[0], owners[1].get(plans[0].part.name), rates)
    evidence = _evidence(plans, reasons, rates, forensics, exact)
    if (strayed & still).any():
        count = int((strayed & still).sum())
        evidence += f"; the weights of {count} of these units moved otherwise: by hand, or they are an average"
    return replace(said, still=still, evidence=evidence, rates=span)


_MISTOLD = (
    "{free} units moved as units without a gradient do, but not over {updates} updates at the rates that are told: "
    "steps were skipped or counted otherwise, rates were set by hand, it was frozen for a while, or the weights are an "
    "average"
)


def _by_state(plan: Plan) -> Plan:
    """Of Adam and its kin the state alone decides: the first moment forgets no gradient, it is counted by steps of its
    own, and it depends neither on rates nor on weights, which may have been changed by hand."""
    decides = plan.compared and not plan.coupled and "exp_avg" in plan.keys
    return replace(plan, compared=False) if decides else plan


def _still(plan: Plan, wanted: Bools, forensics: Forensics, screened: bool, alone: bool) -> tuple[Bools, bool]:
    """[units] of the wanted ones, those that the part leaves still; a square weight is tried along both axes."""
    still, exact = still_rows(plan, wanted, forensics, screened)
    if alone or not is_square(plan.weights[0]) or not wanted.any() or still.any():
        return still, exact
    # The other parts leave units still and the weight gainsays all of them: its units may lie along the other axis.
    turned = replace(plan, part=replace(plan.part, axis=1 - plan.part.axis))
    return still_rows(turned, wanted, forensics, screened)


def _span(plan: Plan, owner: Owner | None, rates: Rates | None) -> tuple[float, float] | None:
    if rates is None or owner is None or not len(rates.by_update):
        return None
    own = rates.by_update[:, owner.group]
    return float(own.min()), float(own.max())


def _evidence(
    plans: Sequence[Plan], reasons: dict[str, str], rates: Rates | None, forensics: Forensics, exact: bool
) -> str:
    plan = max(plans, key=lambda one: len(one.keys))
    kind, updates = plan.names, plan.updates
    if plan.identical:
        said = "weights that stayed the same bit for bit: SGD without momentum and decay moves only what has a gradient"
    else:
        bits = "bit for bit" if exact else "up to the rounding of another kernel"
        limit = f"to {forensics.tolerance:g}"
        if plan.coupled:
            how = f"state and weights {limit}" if plan.keys else f"weights {limit}"
        elif plan.compared:
            how = f"state {bits}, weights {'bit for bit' if plan.resting else limit}"
        else:
            how = f"state {bits}; weights were not compared, because {plan.why}"
        said = f"zero-gradient replay of {kind} over {updates} step{'s' * (updates != 1)}: {how}"
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(name for name, one in reasons.items() if one == reason)
        said += f"; without {names}, because {reason}"
    return said
