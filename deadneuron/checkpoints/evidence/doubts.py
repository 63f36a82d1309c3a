"""Why nothing is known of a layer between two checkpoints, though its rows were compared."""

from __future__ import annotations

from deadneuron.checkpoints.evidence.agreeing import BITS
from deadneuron.checkpoints.evidence.freemotion import in_free_motion
from deadneuron.checkpoints.evidence.looking import Looked, by_state, rows_of
from deadneuron.checkpoints.evidence.rounding import steps_apart
from deadneuron.records import Bools, Forensics


def doubt_of(one: Looked, still: Bools, level: int, forensics: Forensics) -> str:
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


def _astray(one: Looked, at: int, still: Bools, level: int, forensics: Forensics) -> int:
    """How many rows of one part moved as without a gradient, though not as the replay says.

    None do where another row agrees with it in every bit of a motion that other numbers of updates and other rates
    would have changed: what is told is so, and those had gradients that are tiny.
    """
    plan, rows = one.plans[at], one.rows[at]
    free = in_free_motion(plan, ~still)
    if free.sum() > 1:  # a row behind dead inputs moves as the replay says while the unit's bias has a gradient
        free &= ~rows_of(by_state(plan), free, forensics, True, alone=True).still(level)
    if free.sum() > 1 and level == BITS and in_free_motion(plan, still & rows.moved).any():
        return 0
    return int(free.sum())


STRANGERS = (
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
