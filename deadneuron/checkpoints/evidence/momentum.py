"""SGD's momentum of one checkpoint: rows that never had a gradient, and ages from the buffer's decay.

A buffer without gradients is multiplied by mu a step. With L2 in the gradient it turns parallel to the weights instead,
and only its part across them decays like that. Nothing is proved: a row with small gradients looks like an old one.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from deadneuron.checkpoints.contents import Part, Stored
from deadneuron.checkpoints.evidence.ages import saturation
from deadneuron.checkpoints.evidence.blocks import by_unit, spans, units_in
from deadneuron.checkpoints.evidence.moments import Moments
from deadneuron.records import Floats


def momentum_of(part: Part, buffer: Stored, weight: Stored | None, momentum: float, units: int) -> Moments:
    """buffer: of the part; weight: the part itself where L2 is in its gradient, else None."""
    squares, products, weights = np.zeros(units), np.zeros(units), np.zeros(units)
    for first, last in spans(buffer, part.axis, np.ones(units, dtype=np.bool_)):
        where = units_in(part.axis, first, last)
        rows = by_unit(buffer.read(first, last), part.axis).double()
        squares[where] += (rows * rows).sum(1).numpy()
        if weight is not None:
            own = by_unit(weight.read(first, last), part.axis).double()
            products[where] += (rows * own).sum(1).numpy()
            weights[where] += (own * own).sum(1).numpy()
    size = np.sqrt(_across(squares, products, weights) if weight is not None else squares)
    moving = np.isfinite(size) & (size > 0)
    if not moving.any():
        nothing = squares == 0
        return Moments(nothing, np.where(nothing, np.inf, np.nan), np.full(units, np.inf), 0.0)
    smallest = torch.finfo(buffer.dtype).tiny
    if weight is not None:  # what is left across the weights after rounding
        smallest = max(smallest, float(np.sqrt(np.median(squares[moving]))) * torch.finfo(buffer.dtype).eps)
    middle = float(np.median(size[moving]))  # where more than half of a layer is dead, this is a dead row's: ages seem
    limit = saturation(momentum, middle, smallest)  # too low then
    with np.errstate(divide="ignore", invalid="ignore"):
        age = np.log(middle / size) / math.log(1 / momentum)
    age = np.minimum(np.maximum(age, 0.0), limit)
    never = squares == 0 if weight is None else np.zeros(units, dtype=np.bool_)
    return Moments(never, np.where(never, np.inf, age), np.full(units, np.inf), limit)


def _across(squares: Floats, products: Floats, weights: Floats) -> Floats:
    """Squared norm of the part of the buffer across the weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.where(weights > 0, products * products / weights, 0.0)
    return np.maximum(squares - along, 0.0)
