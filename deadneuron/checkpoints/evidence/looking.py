"""One layer in two checkpoints: the plans of its parts, and at which level their rows agree with the replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from deadneuron.checkpoints.contents import Checkpoint, Layer, Rates
from deadneuron.checkpoints.evidence.agreeing import ALL_NEAR
from deadneuron.checkpoints.evidence.blocks import is_square
from deadneuron.checkpoints.evidence.owners import Owner
from deadneuron.checkpoints.evidence.plans import Plan, plan_of
from deadneuron.checkpoints.evidence.rows import RowLevels, judge_rows, unchanged
from deadneuron.records import Bools, Forensics


@dataclass(frozen=True, slots=True)
class Looked:
    """One layer's parts, and at which level their rows agree."""

    layer: Layer
    plans: tuple[Plan, ...]
    group: int | None  # of the first part that has a plan
    reasons: Mapping[str, str]  # why parts have none
    rows: tuple[RowLevels, ...]  # of each plan
    strayed: Bools  # [units] whose weights are not where the rates lead, though the state had no gradient


def look(
    earlier: Checkpoint,
    later: Checkpoint,
    layer: Layer,
    owners: tuple[dict[str, Owner], dict[str, Owner]],
    rates: Rates | None,
    forensics: Forensics,
    screened: bool,
) -> Looked:
    """All parts in turn; of units that one part shows to have had a gradient the others are not asked.

    owners: of the earlier and of the later checkpoint. Raises `CheckpointError` where a file has changed.
    """
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
        rows.append(rows_of(by_state(plan), wanted, forensics, screened, alone=len(plans) == 1))
        wanted = rows[-1].still(ALL_NEAR)
        if by_state(plan) is not plan and wanted.any():
            strayed |= wanted & ~rows_of(plan, wanted, forensics, screened, alone=True).still(ALL_NEAR)
    group = owners[1][plans[0].part.name].group if plans else None
    return Looked(layer, tuple(plans), group, reasons, tuple(rows), strayed)


def by_state(plan: Plan) -> Plan:
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


def rows_of(plan: Plan, wanted: Bools, forensics: Forensics, screened: bool, alone: bool) -> RowLevels:
    """Of the wanted units; a square weight is tried along both axes."""
    found = judge_rows(plan, wanted, forensics, screened)
    if alone or not is_square(plan.weights[0]) or not wanted.any() or found.still(ALL_NEAR).any():
        return found
    # The other parts leave units still and the weight gainsays all of them: its units may lie along the other axis.
    turned = replace(plan, part=replace(plan.part, axis=1 - plan.part.axis))
    return judge_rows(turned, wanted, forensics, screened)
