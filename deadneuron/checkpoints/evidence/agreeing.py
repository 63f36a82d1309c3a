"""Whether rows after a replay are those of the later checkpoint: bit for bit, or up to what another kernel rounds.

There are three levels, each wider than the one before. Where the training's kernels round as those here do, all rows
without a gradient agree at the first one, and it is the surest: no row with a gradient does, unless that changed no
bit. Rows that moved tell which level a training needs: see `level_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.records import Bools, Ints

BITS, WEIGHTS_NEAR, ALL_NEAR, NONE = range(4)
"""All bit for bit; weights up to the tolerance; the state up to it too, or where it does not depend on the weights up
to one rounding a step; no agreement."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """[rows] of booleans."""

    levels: tuple[Tensor, Tensor, Tensor]
    moved: Tensor  # anything differs between the two checkpoints

    def either(self, other: Agreement) -> Agreement:
        """Rows that agree with one of two replays."""
        first, second, third = (a | b for a, b in zip(self.levels, other.levels, strict=True))
        return Agreement((first, second, third), self.moved)


def level_of(levels: Ints, moved: Bools) -> int:
    """The first level at which most of those rows agree that agree at the last one; of rows that moved.

    levels: [rows] the first level at which a row agrees, NONE for none. Rows at rest agree at every level, whichever
    kernels there were: zeros stay zeros.
    """
    own = levels[moved & (levels <= ALL_NEAR)]
    return next((level for level in (BITS, WEIGHTS_NEAR) if 2 * (own <= level).sum() >= len(own)), ALL_NEAR)


def agreement(
    plan: Plan,
    ours: tuple[Tensor | None, Mapping[str, Tensor]],
    before: tuple[Tensor | None, Mapping[str, Tensor]],
    theirs: tuple[Tensor | None, Mapping[str, Tensor]],
    tolerance: float,
) -> Agreement:
    """Weights and state after the replay, in the earlier and in the later checkpoint, [rows, values] each. NaN never
    agrees.
    """
    some = theirs[0] if theirs[0] is not None else next(iter(theirs[1].values()))
    everything = torch.ones(some.shape, dtype=torch.bool)
    state, state_near, weights, weights_near = (everything.clone() for _ in range(4))
    moved = torch.zeros(some.shape, dtype=torch.bool)
    for key in plan.keys:
        mine, seen = ours[1][key], theirs[1][key]
        same = _same(mine, seen)
        state &= same
        state_near &= same | _rounded(plan, mine, seen, tolerance)
        moved |= seen != before[1].get(key, 0)
    if plan.compared and ours[0] is not None and theirs[0] is not None and before[0] is not None:
        weights &= ours[0] == theirs[0]
        weights_near &= weights
        if not plan.resting:  # no kernel rounds what it adds 0 to
            scale = torch.maximum(before[0].abs(), theirs[0].abs())
            weights_near |= _close(ours[0], theirs[0], scale, _tolerance(tolerance, theirs[0]))
        moved |= theirs[0] != before[0]
    levels = (state & weights, state & weights_near, state_near & weights_near)
    return Agreement((levels[0].all(1), levels[1].all(1), levels[2].all(1)), moved.any(1))


def first_level(agrees: Agreement) -> Ints:
    """[rows] the first level at which a row agrees."""
    found: Ints = np.stack([(~level).numpy() for level in agrees.levels]).sum(0)
    return found


def _same(mine: Tensor, seen: Tensor) -> Tensor:
    """Equal, or both below the normal numbers: a training that flushed denormals has zeros there."""
    tiny = torch.finfo(seen.dtype).tiny
    return (mine == seen) | ((mine.abs() < tiny) & (seen.abs() < tiny))


def _rounded(plan: Plan, mine: Tensor, seen: Tensor, tolerance: float) -> Tensor:
    """Within what another kernel may round."""
    if plan.coupled:
        return _close(mine, seen, _row_scale(seen), _tolerance(tolerance, seen))
    steps = plan.updates * torch.finfo(seen.dtype).eps
    if seen.dtype not in (torch.float32, torch.float64) or steps > _TOO_MANY:
        return torch.zeros_like(seen, dtype=torch.bool)
    return _close(mine, seen, seen.abs(), steps)


_TOO_MANY = 1e-2  # relative: half-precision averages may be a step of their grid away after each update


def _close(mine: Tensor, seen: Tensor, scale: Tensor, tolerance: float) -> Tensor:
    close: Tensor = (mine.double() - seen.double()).abs() <= scale.double() * tolerance
    return close


def _row_scale(seen: Tensor) -> Tensor:
    """What rounding errors of a row are measured by: an entry itself, or the row's root mean square if that is more."""
    wide = seen.double()
    return torch.maximum(wide.abs(), wide.square().mean(1, keepdim=True).sqrt())


def _tolerance(tolerance: float, seen: Tensor) -> float:
    """No dtype can be held to less than a few of its roundings."""
    return max(tolerance, 4 * torch.finfo(seen.dtype).eps)
