"""Which rows of one parameter had no gradient between two checkpoints: screened, gathered and stepped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.agreeing import ALL_NEAR, BITS, NONE, Agreement, agreement, first_level
from deadneuron.checkpoints.evidence.blocks import by_unit, heads, pieces, spans, units_in, width
from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.checkpoints.evidence.screening import screen_of
from deadneuron.checkpoints.evidence.stepping import step_rows
from deadneuron.records import Bools, Forensics, Ints

_COLUMNS = 32  # of a row are asked first: a gradient that spares so many of its weights is rare

_ENTRIES = 1 << 18  # of a tensor that are gathered before they are stepped

Rows = dict[str, Tensor]
"""[rows, values] by name: "weight 0" of the earlier checkpoint, "exp_avg 1" of the later one …"""


@dataclass(frozen=True, slots=True)
class RowLevels:
    """Arrays have shape [units]."""

    levels: Ints  # the first level (`agreeing`) at which a row agrees with the replay; 3 for none, or if not asked
    moved: Bools  # the row is not the same in both checkpoints

    def still(self, level: int) -> Bools:
        found: Bools = self.levels <= level
        return found


def judge_rows(plan: Plan, wanted: Bools, forensics: Forensics, screened: bool = True) -> RowLevels:
    """How the rows of the wanted units agree. Those that agree at a level had no gradient, if that is the training's.

    screened: rule rows out by closed forms first; the answer is the same without it. Raises `CheckpointError`.
    """
    still = wanted.copy()
    if plan.identical:
        for where, rows in _blocks(plan, ("weight",), still):
            still[where] &= (rows["weight 0"] == rows["weight 1"]).all(1).numpy()
        return RowLevels(np.where(still, BITS, NONE), np.zeros(len(still), dtype=np.bool_))
    if screened:
        _screen(plan, still, forensics)
    keys = (*plan.keys, *(("weight",) if plan.compared or plan.coupled else ()))
    if plan.part.axis == 0 and width(plan.weights[0], 0) > _COLUMNS:
        _ask_heads(plan, keys, still, forensics)
    levels = np.where(still, BITS, NONE)
    moved = np.zeros(len(still), dtype=np.bool_)
    gathered: list[tuple[Ints, Rows]] = []
    entries = 0
    for where, rows in _blocks(plan, keys, still):
        at = np.flatnonzero(still[where])
        index = torch.from_numpy(at)
        gathered.append((at + (where.start or 0), {name: value.index_select(0, index) for name, value in rows.items()}))
        entries += len(at) * next(iter(rows.values())).shape[1]
        # Along another axis than the first every block has a little of each unit, and the last one has less.
        if entries >= _ENTRIES or plan.part.axis != 0:
            _settle(plan, gathered, levels, moved, forensics)
            gathered, entries = [], 0
            still &= levels < NONE
    _settle(plan, gathered, levels, moved, forensics)
    return RowLevels(levels, moved)


def _settle(plan: Plan, gathered: list[tuple[Ints, Rows]], levels: Ints, moved: Bools, forensics: Forensics) -> None:
    """Step what has been gathered from blocks, and note at which level rows agree and whether they moved."""
    if not gathered:
        return
    at = np.concatenate([where for where, _ in gathered])
    rows = {name: torch.cat([one[name] for _, one in gathered]) for name in gathered[0][1]}
    for piece in pieces(next(iter(rows.values()))):
        agrees = _agreed(plan, {name: value[piece] for name, value in rows.items()}, forensics)
        levels[at[piece]] = np.maximum(levels[at[piece]], first_level(agrees))
        moved[at[piece]] |= agrees.moved.numpy()


def _ask_heads(plan: Plan, keys: tuple[str, ...], still: Bools, forensics: Forensics) -> None:
    """Strike the rows whose first columns do not agree: many rows in one go, since a step of few entries takes as long
    as one of many."""
    asked = still.copy()
    read = {name: heads(source, asked, _COLUMNS)[0] for name, source in _sources(plan, keys).items()}
    at = np.flatnonzero(asked)
    chosen = {name: value.index_select(0, torch.from_numpy(at)) for name, value in read.items()}
    for piece in pieces(next(iter(chosen.values()))):
        agrees = _agreed(plan, {name: value[piece] for name, value in chosen.items()}, forensics)
        still[at[piece]] &= agrees.levels[ALL_NEAR].numpy()


def unchanged(plan: Plan) -> bool:
    """Whether SGD's buffer stands still though steps passed: the parameter was frozen or unused in between.

    Such a buffer would decay if the optimizer stepped it, and other optimizers count their steps.
    """
    before, after = (state.get("momentum_buffer") for state in plan.states)
    if plan.kinds[0] == "SGD" and before is None and plan.coupled and plan.rates is not None and plan.rates.any():
        before, after = plan.weights  # they would have decayed
    if before is None or after is None or plan.kinds[0] != "SGD":
        return False
    for first, last in spans(before, 0, np.ones(before.length, dtype=np.bool_)):
        rows = before.read(first, last)
        if not torch.equal(rows, after.read(first, last)):
            return False
        if rows.any():
            return True
    return False


def _blocks(plan: Plan, keys: tuple[str, ...], still: Bools) -> Iterator[tuple[slice, Rows]]:
    """Blocks that hold units which are still in question when their turn comes."""
    axis = plan.part.axis
    for first, last in spans(plan.weights[0], axis, still.copy()):
        where = units_in(axis, first, last)
        if still[where].any():
            sources = _sources(plan, keys)
            yield where, {name: by_unit(source.read(first, last), axis) for name, source in sources.items()}


def _sources(plan: Plan, keys: tuple[str, ...]) -> dict[str, Stored]:
    """What to read of both checkpoints for these keys. A state that begins in between has no earlier half."""
    named = {
        f"{key} {end}": plan.weights[end] if key == "weight" else plan.states[end].get(key)
        for key in keys
        for end in (0, 1)
    }
    return {name: source for name, source in named.items() if source is not None}


def _screen(plan: Plan, still: Bools, forensics: Forensics) -> None:
    found = screen_of(plan, forensics.slack)
    if found is None:
        return
    keys, screen = found
    for where, rows in _blocks(plan, keys, still):
        earlier, later = (
            {key: rows[f"{key} {end}"][:, :_COLUMNS] for key in keys if f"{key} {end}" in rows} for end in (0, 1)
        )
        still[where] &= screen(earlier, later).all(1).numpy()


def _agreed(plan: Plan, rows: Rows, forensics: Forensics) -> Agreement:
    """Of rows, under whichever of the possible classes."""
    before, seen = rows.get("weight 0"), rows.get("weight 1")
    earlier = {key: rows[f"{key} 0"] for key in plan.keys if f"{key} 0" in rows}
    theirs = {key: rows[f"{key} 1"] for key in plan.keys}
    some = next(iter(theirs.values())) if theirs else next(iter(rows.values()))
    start = before if before is not None else torch.zeros_like(some)
    found: Agreement | None = None
    for kind in plan.kinds:
        weights, state = step_rows(
            kind, plan.settings, start, earlier, plan.scalars, plan.updates, plan.rates, plan.momenta
        )
        mine = weights if before is not None else None
        own = agreement(plan, (mine, state), (before, earlier), (seen, theirs), forensics.tolerance)
        found = own if found is None else found.either(own)
    assert found is not None
    return found
