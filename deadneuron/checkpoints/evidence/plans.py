"""How a parameter's rows can be replayed between two checkpoints, or why they cannot."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from deadneuron.checkpoints.contents import Checkpoint, Part, Rates, Stored
from deadneuron.checkpoints.evidence.blocks import is_real
from deadneuron.checkpoints.evidence.owners import HALVES, KINDS, Owner
from deadneuron.records import Floats

_MOVED = {"params", "lr", "foreach", "fused", "capturable", "differentiable"}  # no part of the rule


@dataclass(frozen=True, slots=True)
class Plan:
    """One part's replay."""

    part: Part
    kinds: tuple[str, ...]  # classes to step: several where the file does not tell which it was
    settings: Mapping[str, Any]
    updates: int
    rates: Floats | None  # [updates]; None where no weights are compared
    momenta: Floats | None  # [updates] momentum or beta1, where a schedule moved it
    keys: tuple[str, ...]  # of the state's tensors, all stepped and compared
    scalars: Mapping[str, float]  # of the earlier state: step, mu_product
    states: tuple[Mapping[str, Stored], Mapping[str, Stored]]  # earlier, later; earlier is empty where it begins here
    weights: tuple[Stored, Stored]
    compared: bool  # whether weights are compared
    coupled: bool  # the decay is part of the gradient: state is compared with a tolerance, and needs the weights
    resting: bool  # a row without a gradient keeps its weights bit for bit, whatever the rates
    why: str = ""  # why weights are not compared

    @property
    def names(self) -> str:
        """The classes, as people read them."""
        return " or ".join(self.kinds)

    @property
    def identical(self) -> bool:
        """Plain SGD without decay: a row without a gradient is the same bit for bit, whatever the rates."""
        return not self.keys and not self.coupled


def plan_of(
    part: Part, earlier: Checkpoint, later: Checkpoint, owners: tuple[Owner | None, Owner | None], rates: Rates | None
) -> Plan | str:
    """The plan of one part, or in plain words why there is none."""
    first, last = owners
    before, after = earlier.weights.get(part.name), later.weights.get(part.name)
    if before is None or after is None:
        return "it is in one of the two checkpoints only"
    if before.shape != after.shape or before.dtype != after.dtype:
        return "its shape or dtype is another one in the later checkpoint"
    if first is None or last is None:
        nothing = not earlier.optimizers or not later.optimizers
        return "there is no optimizer state" if nothing else "no optimizer lists it: it is not trained, or was not told"
    if first.kind != last.kind or _rule(first) != _rule(last):
        return "the optimizer's settings changed in between"
    kinds = _kinds(first)
    if isinstance(kinds, str):
        return kinds
    updates = _updates(earlier, later, first, last, rates)
    if isinstance(updates, str):
        return updates
    moments = _moments(first, last, before, earlier)
    if isinstance(moments, str):
        return moments
    own, momenta = _own(rates, last.group, updates), _own_momenta(rates, last.group, updates)
    why = _why_no_weights(earlier, later, before, moments[1]) or ("" if first.resting else _why_no_rates(rates, own))
    coupled = first.coupled or (len(kinds) > 1 and first.number("weight_decay") != 0)
    keys = tuple(sorted(moments[1]))
    if not keys and not first.coupled and (reason := _why_not_identical(earlier, later, before, own, first)):
        return reason
    if why and (coupled or (not keys and first.coupled)):
        return f"its weight decay is part of the gradient, and the weights cannot be replayed: {why}"
    if momenta is None and _cycled(earlier, later, first, last):
        # Second moments alone would not do: a small gradient is lost in their rounding.
        return "a schedule moved the momentum in between, and it is not known how"
    return Plan(
        *(part, kinds, first.settings, updates, None if why else own, momenta, keys, _scalars(first)),
        *(moments, (before, after), not why, coupled, first.resting, why),
    )


def _rule(owner: Owner) -> dict[str, Any]:
    """The settings that make the optimizer's rule, without what schedules move."""
    known = inspect.signature(KINDS.get(owner.kind or "Adam", torch.optim.Adam)).parameters
    rule = {
        key: owner.settings.get(key, parameter.default)
        for key, parameter in known.items()
        if key not in _MOVED and (key != "momentum" or owner.kind != "SGD")
    }
    if owner.betas is not None:
        rule["betas"] = owner.betas[1]
    return rule


def _kinds(owner: Owner) -> tuple[str, ...] | str:
    if owner.kind in KINDS:
        return (owner.kind,)
    if owner.kind is None and {"betas", "amsgrad"} <= owner.settings.keys() and "exp_avg_sq" in owner.state:
        return ("AdamW",) if owner.number("weight_decay") == 0 else ("AdamW", "Adam")
    return f"{owner.kind or 'its optimizer'} cannot be replayed: these can be: {', '.join(KINDS)}"


def _updates(earlier: Checkpoint, later: Checkpoint, first: Owner, last: Owner, rates: Rates | None) -> int | str:
    between = None if earlier.step is None or later.step is None else later.step - earlier.step
    if between is not None and between < 1:
        return "no update lies in between"
    counted = last.step is not None and (first.step is not None or earlier.step == 0)
    if counted:
        updates = (last.step or 0) - (first.step or 0)
        if updates < 0:
            return "its optimizer's state was reset in between: its step went back"
        stated = None if earlier.stated is None or later.stated is None else later.stated - earlier.stated
        if stated is not None and updates < stated / 2:
            return f"its optimizer counts {updates:,} steps and the training {stated:,}: it was begun anew in between"
        if updates == 0:
            return "its optimizer never stepped it in between: it was frozen or unused, or its state was reset"
        return updates
    if between is None and rates is not None:
        between = len(rates.by_update)
    if between is None:
        # Only plain SGD without decay does without: there a row moves or does not.
        return 1 if first.plain and not first.coupled else "how many updates lie in between is not known"
    return between


def _moments(
    first: Owner, last: Owner, weight: Stored, earlier: Checkpoint
) -> tuple[Mapping[str, Stored], Mapping[str, Stored]] | str:
    before, after = first.moments, last.moments
    if first.plain:
        return {}, {}
    if not after:
        return "its optimizer has no state: it was frozen or unused, or its state was not saved"
    if not before and earlier.step != 0:
        return "the earlier checkpoint has no optimizer state of it"
    if before and before.keys() != after.keys():
        return "its optimizer's state has other keys in the later checkpoint: it was reset or changed"
    if any(one.shape != weight.shape or not is_real(one) for one in (*before.values(), *after.values())):
        return "its optimizer's state does not lie row by row beside the weights: quantised, factored or sharded"
    if any(before[key].dtype != after[key].dtype for key in before) or len({one.dtype for one in after.values()}) > 1:
        return "its optimizer's state has several dtypes"
    return before, after


def _own(rates: Rates | None, group: int, updates: int) -> Floats | None:
    """[updates] the parameter's own rates; None where they are not known for each of them."""
    if rates is None or group >= rates.by_update.shape[1]:
        return None
    own: Floats = rates.by_update[:, group]
    if len(own) == updates:
        return own
    # GradScaler skips updates: which of them is not known, and does not matter where the rate stood still.
    return np.full(updates, own[0]) if len(own) and (own == own[0]).all() else None


def _own_momenta(rates: Rates | None, group: int, updates: int) -> Floats | None:
    if rates is None or rates.momenta is None or rates.momenta.shape != rates.by_update.shape:
        return None
    own: Floats = rates.momenta[:, group]
    return own if len(own) == updates and np.isfinite(own).all() else None


def _why_no_weights(
    earlier: Checkpoint,
    later: Checkpoint,
    weight: Stored,
    moments: Mapping[str, Stored],
) -> str:
    if earlier.averaged or later.averaged:
        return "they are an average over steps"
    if not is_real(weight):
        return "they are quantised"
    if moments and any(moment.dtype != weight.dtype for moment in moments.values()):
        return f"they are a copy in {str(weight.dtype).removeprefix('torch.')}"
    return ""


def _why_no_rates(rates: Rates | None, own: Floats | None) -> str:
    if own is None:
        return "the rates are not known"
    return "" if rates is not None and rates.exact else "the rates are not known exactly"


def _why_not_identical(earlier: Checkpoint, later: Checkpoint, weight: Stored, own: Floats | None, owner: Owner) -> str:
    """Why rows that did not change would tell nothing."""
    if earlier.averaged or later.averaged:
        return "its optimizer keeps no state, and the weights are an average over steps"
    if weight.dtype in HALVES or not is_real(weight):
        kind = str(weight.dtype).removeprefix("torch.")
        return f"its optimizer keeps no state, and small updates are lost in the rounding of {kind}"
    if (owner.number("lr") == 0 and (own is None or not own.any())) or (own is not None and not own.any()):
        return "the learning rate is 0: nothing moves"
    return ""


def _cycled(earlier: Checkpoint, later: Checkpoint, first: Owner, last: Owner) -> bool:
    """Whether a schedule moved momentum or beta1: one-cycle schedules do unless they are told not to."""
    ends = (first.betas or (first.number("momentum"),), last.betas or (last.number("momentum"),))
    scheduled = any(bool(one.get("cycle_momentum")) for one in (*earlier.schedulers, *later.schedulers))
    return (scheduled and first.kind != "RMSprop") or ends[0][0] != ends[1][0]


def _scalars(owner: Owner) -> dict[str, float]:
    return {key: float(value) for key, value in owner.state.items() if isinstance(value, (int, float))}
