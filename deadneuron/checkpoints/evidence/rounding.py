"""Whether updates are so small that a gradient may have changed nothing: then a row that stayed the same tells nothing.

SGD without momentum keeps nothing but the weights. An update of less than half the distance to the next number is lost
in rounding, and at a rate of 1e-7 most are. How near a layer is to that shows in its units that moved: if they moved by
few such distances a step, then others with smaller gradients may have moved by none.

At a limit of 1,000, of 168 layers at rates of 1e-7 to 0.1, 4 of 499 units were called dead that had a gradient, and 18
layers were a gap for nothing; at 100 it was 18 of 618 and 5, at 10,000 3 of 383 and 40.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deadneuron.checkpoints.evidence.blocks import corner
from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.records import Bools, Floats

_UNITS, _VALUES = 64, 64  # of each part at most so many are asked


def steps_apart(plans: Sequence[Plan], moved: Bools, tolerance: float | None = None) -> float:
    """The median over units that moved of how far their farthest weight did, in the smallest moves that would be seen.

    Where rows are compared bit for bit, that is the distance to the next number in each step, and steps are taken to
    point anywhere, so that K of them lead √K as far as one (where all point one way this is too much by √K). Where they
    are compared to a relative `tolerance`, it is that, once. moved: [units]. Infinite if none moved.
    """
    at = np.flatnonzero(moved)
    if not len(at):
        return float("inf")
    chosen = np.zeros(len(moved), dtype=np.bool_)
    chosen[at[:: -(-len(at) // _UNITS)]] = True
    farthest: Floats = np.max([_farthest(plan, chosen, tolerance) for plan in plans], axis=0)
    steps = max(1, *(plan.updates for plan in plans)) if tolerance is None else 1
    return float(np.median(farthest) / np.sqrt(steps))


def _farthest(plan: Plan, chosen: Bools, tolerance: float | None) -> Floats:
    """[chosen units] of one part."""
    before, after = (corner(stored, plan.part.axis, chosen, _VALUES) for stored in plan.weights)
    if not before.shape[1]:
        return np.zeros(len(before))
    size = torch.maximum(before.abs(), after.abs())
    next_one = torch.nextafter(size, torch.full_like(size, torch.inf)).double() - size.double()
    seen = next_one if tolerance is None else torch.maximum(tolerance * size.double(), next_one)
    found: Floats = ((after.double() - before.double()).abs() / seen).amax(1).numpy()
    return found
