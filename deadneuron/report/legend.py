"""What the words and columns of the table mean: only those that it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deadneuron.records import Diagnosis, Thresholds
from deadneuron.report.evidence import MEASURED, kinds_of, meaning

_SILENT = "not one row in the last full window, and not (yet) dead"


def explain(diagnosis: Diagnosis, headers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(word, meaning) for the table's columns."""
    yield from _of_run(diagnosis, diagnosis.thresholds) if diagnosis.source == "run" else _of_checkpoints(diagnosis)
    t, verdicts = diagnosis.thresholds, diagnosis.verdicts
    if "silent" in headers and any(verdict.silent for verdict in verdicts):
        yield "silent", _SILENT if diagnosis.source == "run" else _silent(diagnosis)
    if "rare" in headers and any(verdict.rare for verdict in verdicts):
        rows = "last full window's rows" if diagnosis.source == "run" else "last checkpoint's rows"
        yield "rare", f"active on less than {t.rare:.2g} of the {rows}, and not dead"
    if "dormant" in headers and any(verdict.dormant for verdict in verdicts):
        yield "dormant", f"mean |output| at most {t.dormant:.2g} of the layer's (Sokar); dead units are among them"
    if "evidence" in headers:
        for word in kinds_of(diagnosis):
            if meaning(word):
                yield word, meaning(word)


def _of_run(diagnosis: Diagnosis, t: Thresholds) -> Iterator[tuple[str, str]]:
    repeats = "" if diagnosis.dataset_size else ", repeats counted"
    yield "dead", f"no row inside the gate for {t.patience} steps and {t.samples:,} examples: born so, or died since"
    yield "n", f"examples that each dead unit was silent on{repeats}: it may fire on up to 3/n of all (95 %)"
    if any(verdict.units and not verdict.dead for verdict in diagnosis.verdicts):
        yield "", f"where none is dead, the examples of the windows in the last {t.patience} steps"
    if any(verdict.since is not None for verdict in diagnosis.verdicts):
        yield "since", "step of the median death, and the learning rate that this step's update used"


def _of_checkpoints(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    t = diagnosis.thresholds
    kinds = kinds_of(diagnosis)
    still = f"no gradient reached the unit for at least {t.patience} updates"
    if kinds == [MEASURED]:
        still = f"no row inside the gate at checkpoints {t.patience} updates apart, on {t.samples:,} examples or more"
    elif MEASURED in kinds:
        still += ", or, where it was measured, no row was inside the gate"
    yield "dead", f"{still}: born so, or died since"
    if any(verdict.samples is not None for verdict in diagnosis.verdicts):
        yield "n", "examples that a checkpoint was measured on: a dead unit may fire on up to 3/n of all (95 %)"
    if any(verdict.since is not None for verdict in diagnosis.verdicts):
        last = "activity" if kinds == [MEASURED] else "gradient"
        yield "since", f"steps between which the unit of the median death had its last {last}"
    if any(verdict.rate is not None or verdict.rates is not None for verdict in diagnosis.verdicts):
        yield "at lr", "lowest and highest learning rate that updates in between used"


def _silent(diagnosis: Diagnosis) -> str:
    last = "no row inside the gate" if kinds_of(diagnosis) == [MEASURED] else "no gradient"
    return f"{last} at the last checkpoint, and not (yet) dead"
