"""Rows that moved as rows without a gradient do, though not as the replay says: then the replay was told wrong.

SGD keeps no count of its steps, and a checkpoint may count others (skipped by a GradScaler, micro-batches); rates may
have been set by hand; weights may be an average. Then a row without a gradient disagrees with the replay, and would be
called alive. But whatever the number of updates and the rates, its rule is linear: without a gradient the later buffer
(and the later weights, under decay) lie in the span of the earlier weights and buffer. Rows with a gradient do not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.blocks import heads, width
from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.records import Bools, Ints

_COLUMNS = 64  # of a row are asked first
_FEWEST = 8  # columns that moved: any vector of one or two lies in some span
_REST = 1e-6  # relative residual: rounding leaves less, and a gradient leaves about all of the move
_MOVED = 1e-4  # of a row's weights: a move that is far above rounding


def in_free_motion(plan: Plan, wanted: Bools) -> Bools:
    """[units] of the wanted ones those whose rows moved freely, for whatever number of updates and rates.

    None for other optimizers than SGD, which count their steps, and for parameters of few values a unit. The first
    columns of a row may lie behind dead units and have no gradient, so that what moved freely there is asked whole.
    """
    found = np.zeros(len(wanted), dtype=np.bool_)
    wide = width(plan.weights[0], 0)
    if plan.kinds != ("SGD",) or plan.identical or plan.part.axis != 0 or not wanted.any() or wide < _FEWEST:
        return found
    sources = [*plan.weights, *(state.get("momentum_buffer") for state in plan.states)]
    found = wanted.copy()
    for columns in dict.fromkeys((min(wide, _COLUMNS), wide)):
        for at in np.array_split(np.flatnonzero(found), max(int(found.sum()) * columns // _ENTRIES, 1)):
            found[at] = _free(plan, [_rows(one, at, columns) for one in sources]) if len(at) else False
    return found


_ENTRIES = 1 << 20  # of a tensor that are looked at in one go


def _rows(stored: Stored | None, at: Ints, columns: int) -> Tensor | None:
    """[rows, columns] in float64."""
    if stored is None:
        return None
    chosen = np.zeros(stored.length, dtype=np.bool_)
    chosen[at] = True
    return heads(stored, chosen, columns)[0][torch.from_numpy(at)].double()


def _free(plan: Plan, rows: list[Tensor | None]) -> Bools:
    w0, w1, b0, b1 = rows
    assert w0 is not None
    assert w1 is not None
    if b0 is not None and b1 is not None:
        basis = torch.stack([w0, b0], 2) if plan.coupled else b0[:, :, None]
        free = (_residual(basis, b1) < 10 * _REST) & (b1.norm(dim=1) > 0) & ((b1 != 0).sum(1) >= _FEWEST)
        # A gradient early in the interval has left the buffer by its end, and is in the weights.
        free &= _residual(torch.stack([w0, b0], 2), w1) < _REST
    elif plan.coupled:
        moved = (w1 - w0).norm(dim=1) > _MOVED * w1.norm(dim=1)
        free = (_residual(w0[:, :, None], w1) < _REST) & moved & ((w1 != 0).sum(1) >= _FEWEST)
    else:
        free = torch.zeros(len(w0), dtype=torch.bool)
    made: Bools = free.numpy()
    return made


def _residual(basis: Tensor, target: Tensor) -> Tensor:
    """[rows] the part of `target` [rows, n] outside the span of `basis` [rows, n, k], relative to its length."""
    rest = target
    known: list[Tensor] = []  # Gram and Schmidt: orthogonal directions of length 1 or 0
    for vector in basis.unbind(2):
        for one in known:
            vector = vector - (vector * one).sum(1, keepdim=True) * one
        size = vector.norm(dim=1, keepdim=True)
        known.append(torch.where(size > 0, vector / torch.where(size > 0, size, 1), 0))
        rest = rest - (rest * known[-1]).sum(1, keepdim=True) * known[-1]
    size = target.norm(dim=1)
    found: Tensor = torch.where(size > 0, rest.norm(dim=1) / torch.where(size > 0, size, 1), torch.inf)
    return found
