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

from deadneuron.checkpoints.blocks import heads, width
from deadneuron.checkpoints.plans import Plan
from deadneuron.records import Bools

_COLUMNS = 64  # of a row
_FEWEST = 8  # columns that moved: any vector of one or two lies in some span
_BUFFER, _WEIGHTS = 1e-3, 1e-5  # relative residual: rounding leaves less, a gradient leaves about 1 or the whole move
_MOVED = 1e-4  # of a row's weights: a move that is far above rounding


def in_free_motion(plan: Plan, wanted: Bools) -> Bools:
    """[units] of the wanted ones those whose rows moved freely, for whatever number of updates and rates.

    None for other optimizers than SGD, which count their steps, and for parameters of few values a unit.
    """
    found = np.zeros(len(wanted), dtype=np.bool_)
    if plan.kinds != ("SGD",) or plan.identical or plan.part.axis != 0 or not wanted.any():
        return found
    columns = min(width(plan.weights[0], 0), _COLUMNS)
    if columns < _FEWEST:
        return found
    w0, w1 = (heads(stored, wanted, columns)[0].double() for stored in plan.weights)
    before, after = (state.get("momentum_buffer") for state in plan.states)
    if before is not None and after is not None:
        b0, b1 = (heads(stored, wanted, columns)[0].double() for stored in (before, after))
        basis = torch.stack([w0, b0], 2) if plan.coupled else b0[:, :, None]
        free = (_residual(basis, b1) < _BUFFER) & (b1.norm(dim=1) > 0) & ((b1 != 0).sum(1) >= _FEWEST)
    elif plan.coupled:
        moved = (w1 - w0).norm(dim=1) > _MOVED * w1.norm(dim=1)
        free = (_residual(w0[:, :, None], w1) < _WEIGHTS) & moved & ((w1 != 0).sum(1) >= _FEWEST)
    else:
        return found
    made: Bools = free.numpy() & wanted
    return made


def _residual(basis: Tensor, target: Tensor) -> Tensor:
    """[rows] the part of `target` [rows, n] outside the span of `basis` [rows, n, k], relative to its length."""
    sizes = basis.norm(dim=1, keepdim=True)
    unit = basis / torch.where(sizes > 0, sizes, 1)
    gram = unit.transpose(1, 2) @ unit + 1e-12 * torch.eye(unit.shape[2], dtype=unit.dtype)
    weights = torch.linalg.solve(torch.nan_to_num(gram), torch.nan_to_num(unit.transpose(1, 2) @ target[:, :, None]))
    rest = (target - (unit @ weights)[:, :, 0]).norm(dim=1)
    size = target.norm(dim=1)
    return torch.where(size > 0, rest / torch.where(size > 0, size, 1), torch.inf)
