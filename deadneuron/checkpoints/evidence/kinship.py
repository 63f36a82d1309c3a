"""Whether two checkpoints can be of one training: rows of weights keep something of what they were.

Two trainings number their hidden units by chance. Then the rows A of a layer in one, of length 1 and centred over its
units, have an inner product with the rows B in the other that is 0 on average, with the variance of a random
permutation (Wald and Wolfowitz 1944):

    z(A, B) = tr(AᵀB) / sqrt(<AᵀA, BᵀB> / (units - 1))

so that |z| is rarely more than 3. With itself a layer has a z of dozens, and with what became of it about as much,
unless decay or large steps have made it forget. Layers are summed, each weighted by its z with itself: what it could
show. One row that only shrank, as one without a gradient does, is enough to be no stranger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Checkpoint, Layer, Stored
from deadneuron.checkpoints.evidence.blocks import corner, is_real
from deadneuron.records import Forensics

_UNITS, _VALUES = 256, 256  # of each layer at most so many are asked
_SOME, _BYTES = 32, 1 << 20  # and of wide rows, which are read whole, at least so many and no more bytes than that
_FEWEST = 8  # values: shorter rows are multiples of each other by chance
_LAYERS = 5  # the largest ones
_CLEAR = 3.0  # times the limit: what rows of one training give that forgot nothing, if they are to tell


def are_strangers(earlier: Checkpoint, later: Checkpoint, layers: Sequence[Layer], forensics: Forensics) -> bool:
    """Whether their weights have nothing in common. False where that cannot be told."""
    common = in_common(earlier, later, layers, forensics)
    return common is not None and common < forensics.stranger


def are_akin(earlier: Checkpoint, later: Checkpoint, layers: Sequence[Layer], forensics: Forensics) -> bool:
    """Whether they have so much in common that chance does not make it. False where that cannot be told."""
    common = in_common(earlier, later, layers, forensics)
    return common is not None and common >= _CLEAR * forensics.stranger


def in_common(earlier: Checkpoint, later: Checkpoint, layers: Sequence[Layer], forensics: Forensics) -> float | None:
    """|z| of all layers that are asked; infinite where one row only shrank; None where they could not tell."""
    clear = common = 0.0  # the sums of squared weights and of weighted z
    for name, axis in _asked(earlier, later, layers):
        before, after = (_rows(one.weights[name], axis) for one in (earlier, later))
        if _any_shrank(before, after):
            return float("inf")
        a, b = _centred(before), _centred(after)
        weight = (_z(a, a) * _z(b, b)) ** 0.5
        clear += weight**2
        common += weight * _z(a, b)
    own = clear**0.5
    return abs(common / own) if own >= _CLEAR * forensics.stranger else None


def _asked(earlier: Checkpoint, later: Checkpoint, layers: Sequence[Layer]) -> list[tuple[str, int]]:
    """(name, axis of hidden units) of weights with several values a unit, the largest first.

    The last layer's own units are classes, which all trainings number alike: it is asked by its inputs.
    """
    found = []
    for layer in layers:
        for part in layer.parts:
            one, other = earlier.weights.get(part.name), later.weights.get(part.name)
            if one is None or other is None or one.shape != other.shape or len(one.shape) < 2:
                continue
            if is_real(one) and is_real(other) and one.nbytes:
                is_last = layer is layers[-1] and len(layers) > 1
                found.append((one.nbytes, part.name, 1 - part.axis if is_last else part.axis))
    return [(name, axis) for _, name, axis in sorted(found, reverse=True)[:_LAYERS]]


def _rows(stored: Stored, axis: int) -> Tensor:
    """[units, values]; NaN and Inf are 0."""
    most = _UNITS if axis else min(_UNITS, max(_SOME, _BYTES * stored.length // stored.nbytes))
    asked = np.arange(stored.shape[axis]) < most
    return corner(stored, axis, asked, _VALUES).double().nan_to_num(0.0, 0.0, 0.0)


def _centred(rows: Tensor) -> Tensor:
    """What all rows share is taken away, and each counts alike."""
    apart = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    return apart - apart.mean(0)


def _any_shrank(before: Tensor, after: Tensor) -> bool:
    """Whether a row is a multiple of what it was, up to what rounding leaves."""
    if before.shape[1] < _FEWEST:
        return False
    away = after - before * ((before * after).sum(1) / before.square().sum(1).clamp_min(1e-300))[:, None]
    length = after.norm(dim=1)
    return bool(((away.norm(dim=1) < 1e-6 * length) & (length > 0)).any())


def _z(a: Tensor, b: Tensor) -> float:
    """See above; 0 where nothing varies."""
    spread = float(((a.T @ a) * (b.T @ b)).sum()) / max(len(a) - 1, 1)
    return float((a * b).sum()) / spread**0.5 if spread > 0 else 0.0
