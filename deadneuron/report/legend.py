"""What the words and columns of the table mean: only those that it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadneuron.records import Diagnosis


def explain(diagnosis: Diagnosis, headers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(word, meaning) for the table's columns."""
    t = diagnosis.thresholds
    repeats = "" if diagnosis.dataset_size else ", repeats counted"
    yield "dead", f"no row inside the gate for {t.patience} steps and {t.samples:,} examples: born so, or died since"
    yield "n", f"examples that each dead unit was silent on{repeats}: it may fire on up to 3/n of all (95 %)"
    if any(verdict.units and not verdict.dead for verdict in diagnosis.verdicts):
        yield "", f"where none is dead, the examples of the windows in the last {t.patience} steps"
    if any(verdict.since is not None for verdict in diagnosis.verdicts):
        yield "since", "step of the median death, and the learning rate that this step's update used"
    if "silent" in headers and any(verdict.silent for verdict in diagnosis.verdicts):
        yield "silent", "not one row in the last full window, and not (yet) dead"
    if "rare" in headers and any(verdict.rare for verdict in diagnosis.verdicts):
        yield "rare", f"active on less than {t.rare:.2g} of the last full window's rows, and not dead"
    if "dormant" in headers and any(verdict.dormant for verdict in diagnosis.verdicts):
        yield "dormant", f"mean |output| at most {t.dormant:.2g} of the layer's (Sokar); dead units are among them"
