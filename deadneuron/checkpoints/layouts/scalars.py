"""One plain number from whatever a file holds where a number is expected."""

from __future__ import annotations

from deadneuron.checkpoints.contents import Stored


def number_in(value: object) -> float | None:
    """A number, or a tensor of one number, as a float; None for all else, and for what no float can hold.

    Reads the tensor: raises `CheckpointError` where that fails.
    """
    if isinstance(value, Stored):
        if value.length != 1 or len(value.shape) > 1 or value.dtype.is_complex:
            return None
        return float(value.whole().item())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
