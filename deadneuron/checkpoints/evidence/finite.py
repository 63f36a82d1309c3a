"""NaN and Inf in a checkpoint's weights: a layer that has them is neither dead nor healthy, it is broken."""

from __future__ import annotations

import numpy as np
import torch

from deadneuron.checkpoints.contents import Checkpoint, Layer
from deadneuron.checkpoints.evidence.blocks import by_unit, heads, is_real, spans, units_in
from deadneuron.records import Bools

_COLUMNS = 32  # of a row: NaN spreads to all of them within an update


def nonfinite_units(checkpoint: Checkpoint, layer: Layer) -> int:
    """Units of a layer with NaN or Inf among the first weights of their rows."""
    bad: Bools = np.zeros(layer.units, dtype=np.bool_)
    for part in layer.parts:
        stored = checkpoint.weights.get(part.name)
        if stored is None or not is_real(stored):
            continue
        if part.axis == 0 and len(stored.shape) > 1:
            rows, _ = heads(stored, ~bad, min(stored.nbytes // stored.dtype.itemsize // stored.length, _COLUMNS))
            bad |= ~torch.isfinite(rows).all(1).numpy()
            continue
        for first, last in spans(stored, part.axis, np.ones(layer.units, dtype=np.bool_)):
            rows = by_unit(stored.read(first, last), part.axis)
            bad[units_in(part.axis, first, last)] |= ~torch.isfinite(rows).all(1).numpy()
    return int(bad.sum())
