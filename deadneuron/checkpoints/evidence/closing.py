"""Units that are closed by their weights: a certificate for every input, and a hint from a batch norm's weights."""

from __future__ import annotations

import numpy as np

from deadneuron.checkpoints.contents import Part, Stored
from deadneuron.checkpoints.evidence.blocks import by_unit, heads, spans, units_in, width
from deadneuron.records import Bools

_COLUMNS = 32  # of a row are asked first: hardly any row has that many weights of one sign


def certified(weight: Stored, part: Part, bias: Stored | None, units: int) -> Bools:
    """[units] no weight above 0 and no bias above 0: of inputs that are never negative nothing positive is made.

    Sound whatever the data, if the layer before ends in a ReLU or another activation that gives nothing negative. A
    unit whose weights and bias are all 0 is closed too: its pre-activation is 0. NaN is never closed.
    """
    closed = np.ones(units, dtype=np.bool_)
    if bias is not None:
        closed &= (bias.whole() <= 0).numpy()
    if part.axis == 0 and width(weight, 0) > _COLUMNS:
        few, seen = heads(weight, closed, _COLUMNS)
        closed &= seen & (few.amax(1) <= 0).numpy()
    for first, last in spans(weight, part.axis, closed.copy()):
        where = units_in(part.axis, first, last)
        closed[where] &= (by_unit(weight.read(first, last), part.axis).amax(1) <= 0).numpy()
    return closed


def norm_closed(beta: Stored, gamma: Stored, limit: float) -> Bools:
    """[units] beta / |gamma| below the limit: what a batch norm gives is positive on a share Φ(beta/|gamma|) of rows.

    That share is the normal distribution's, and so a hint and no proof. A gamma of 0 with a beta of at most 0 is closed
    for every input.
    """
    b, g = beta.whole().double().numpy(), np.abs(gamma.whole().double().numpy())
    found: Bools = (b < limit * g) | ((g == 0) & (b <= 0))
    return found
