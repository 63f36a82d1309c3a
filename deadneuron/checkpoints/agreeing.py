"""Whether rows after a replay are those of the later checkpoint: bit for bit, or up to what another kernel rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deadneuron.checkpoints.plans import Plan


@dataclass(frozen=True, slots=True)
class Agreement:
    """[rows, values] of booleans."""

    exact: Tensor  # state bit for bit where it does not depend on the weights, the rest up to the tolerance
    near: Tensor  # state up to one rounding a step too: another kernel than the ones that are here


def agreement(
    plan: Plan,
    ours: tuple[Tensor | None, Mapping[str, Tensor]],
    before: Tensor | None,
    theirs: tuple[Tensor | None, Mapping[str, Tensor]],
    tolerance: float,
) -> Agreement:
    """ours, theirs: weights and state after the replay and in the later checkpoint, [rows, values]; before: the weights
    that it began with. NaN never agrees.
    """
    shape = next(iter(theirs[1].values())).shape if theirs[1] else theirs[0].shape  # type: ignore[union-attr]
    exact = torch.ones(shape, dtype=torch.bool)
    near = exact.clone()
    for key in plan.keys:
        mine, seen = ours[1][key], theirs[1][key]
        same = _same(mine, seen)
        if plan.coupled:
            same |= _close(mine, seen, _row_scale(seen), _tolerance(tolerance, seen))
            exact &= same
            near &= same
        else:
            exact &= same
            steps = plan.updates * torch.finfo(seen.dtype).eps
            # Half-precision averages may be a whole step of their grid away after each update: nothing is near there.
            near &= (
                same | _close(mine, seen, seen.abs(), steps)
                if seen.dtype in (torch.float32, torch.float64) and steps < 1e-2
                else same
            )
    if plan.compared and ours[0] is not None and theirs[0] is not None and before is not None:
        scale = torch.maximum(before.abs(), theirs[0].abs())
        same = ours[0] == theirs[0]
        if not plan.resting:  # no kernel rounds what it adds 0 to
            same |= _close(ours[0], theirs[0], scale, _tolerance(tolerance, theirs[0]))
        exact &= same
        near &= same
    return Agreement(exact, near)


def _same(mine: Tensor, seen: Tensor) -> Tensor:
    """Equal, or both below the normal numbers: a training that flushed denormals has zeros there."""
    tiny = torch.finfo(seen.dtype).tiny
    return (mine == seen) | ((mine.abs() < tiny) & (seen.abs() < tiny))


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
