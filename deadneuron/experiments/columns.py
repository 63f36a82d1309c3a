"""What a lab measures of each cell and layer: one entry a column, with its words. Imports neither torch nor numpy.

"monitor": counted while the net trained, on the batches that it was shown, and judged as every run is. "set": measured
apart from the monitor, on the whole training set at once. "cell": of the whole net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """One measure. How its values of several seeds or layers become one follows from its kind."""

    name: str
    header: str
    by: Literal["monitor", "set", "cell"]
    # units: a count of units, shown as their share · rows: a share of rows · number · flag
    # part: a count of units, shown as "k of n" where n is the column `whole`, both summed over seeds
    kind: Literal["units", "rows", "number", "flag", "part"]
    meaning: str
    whole: str = ""


_COLUMNS = (
    Column("zero_at_start", "≤ 0 in step 0", "monitor", "rows", "pre-activations at or below zero in the first step"),
    Column("outside", "rows outside gate", "monitor", "rows", "rows outside the gate in the last window"),
    Column("magnitude", "mean size of output", "monitor", "number", "mean size of the output in the last window"),
    Column("dead", "dead", "monitor", "units", "dead at the end, born dead or died"),
    Column("born_dead", "born dead", "monitor", "units", "dead at the end and never active"),
    Column("died", "died", "monitor", "units", "died during the run and dead at its end"),
    Column("closed_above", "closed above", "monitor", "units", "dead, beyond the upper end of the gate"),
    Column("dead_at_100", "dead at 100", "monitor", "units", "in a death that had begun by step 100, and lasted then"),
    Column("dead_at_200", "dead at 200", "monitor", "units", "in a death that had begun by step 200, and lasted then"),
    Column("dead_at_300", "dead at 300", "monitor", "units", "in a death that had begun by step 300, and lasted then"),
    Column("ever_dead", "ever dead", "monitor", "units", "dead at some time"),
    Column("revived", "revived of ever dead", "monitor", "part", "dead at some time and active again", "ever_dead"),
    Column("set_zero_at_start", "≤ 0 before training", "set", "rows", "pre-activations at or below zero, untrained"),
    Column("set_never_at_start", "never > 0, untrained", "set", "units", "positive on no training image, untrained"),
    Column("set_always_at_start", "always > 0, untrained", "set", "units", "positive on every image, untrained"),
    Column("set_never", "never > 0", "set", "units", "positive on no training image, trained"),
    Column("set_silent", "outside gate on all rows", "set", "units", "no training image inside the gate, trained"),
    Column("set_gate", "with a gradient", "set", "units", "at least one training image inside the gate, trained"),
    Column("set_below", "rows below gate", "set", "rows", "rows at or below the gate's lower end"),
    Column("set_above", "rows above gate", "set", "rows", "rows at or above the gate's upper end"),
    Column("set_magnitude", "mean size of output", "set", "number", "mean size of the output, trained"),
    Column("set_slope", "mean slope", "set", "number", "mean size of the activation's derivative, trained"),
    Column("set_gradient_at_start", "gradient, untrained", "set", "number", "mean size of ∂loss/∂input, untrained"),
    Column("set_gradient", "gradient", "set", "number", "mean size of ∂loss/∂input, trained"),
    Column("set_ever_silent", "ever silent", "set", "units", "silent on all training images at one look or more"),
    Column("set_woke", "woke of ever silent", "set", "part", "silent at a look, active at a later", "set_ever_silent"),
    Column("steps", "steps", "cell", "number", "optimizer steps that were trained"),
    Column("loss", "loss", "cell", "number", "mean training loss of the last 20 steps"),
    Column("accuracy", "test accuracy", "cell", "number", "on the held-out images"),
    Column("diverged", "diverged", "cell", "flag", "the loss was NaN or Inf, or above the bound at the end"),
)

COLUMNS: dict[str, Column] = {column.name: column for column in _COLUMNS}
"""All measures by name."""
