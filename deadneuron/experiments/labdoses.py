"""Where a lab varies the rate over seeds: the comparison that a sweep makes, for each combination of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadneuron.analysis.comparison import HALVED, Comparison, compare
from deadneuron.analysis.outcomes import Outcome, outcome_of
from deadneuron.analysis.sweeptrial import as_json
from deadneuron.experiments.grid import AXES, Cell, Lab
from deadneuron.frames import read_run
from deadneuron.report.doses import table_rows

_OTHERS = tuple(axis for axis in AXES if axis not in ("lr", "seed"))
_SHOWN = ("seeds", "died", "", "deaths ×", "p (Holm)")  # of the columns of `table_rows`
_AT_SUM = ("died", "deaths ×", "p (Holm)")


@dataclass(frozen=True, slots=True)
class LabDoses:
    """One combination of the axes apart from rate and seed, compared by rate."""

    axes: tuple[tuple[str, Any], ...]  # those that vary in the lab, with their values
    comparison: Comparison


def compare_lab(lab: Lab, folder: Path, results: Sequence[tuple[Cell, dict[str, Any]]]) -> tuple[LabDoses, ...]:
    """A comparison for each combination that has two rates and two seeds at a rate; the runs are read from `folder`."""
    groups: dict[tuple[Any, ...], list[tuple[Cell, dict[str, Any]]]] = {}
    for cell, result in results:
        groups.setdefault(tuple(getattr(cell, axis) for axis in _OTHERS), []).append((cell, result))
    made = []
    for key, own in groups.items():
        rates = [cell.lr for cell, _ in own]
        if len(set(rates)) < 2 or len(set(rates)) == len(rates):
            continue
        outcomes = [one for pair in own if (one := _outcome(folder, *pair)) is not None]
        limit = float(own[0][1]["settings"]["profile"]["thresholds"]["branch"])
        axes = tuple((axis, value) for axis, value in zip(_OTHERS, key, strict=True) if axis in lab.varying)
        made.append(LabDoses(axes, compare(outcomes, model="model", limit=limit)))
    return tuple(made)


def _outcome(folder: Path, cell: Cell, result: dict[str, Any]) -> Outcome | None:
    return outcome_of(read_run(folder / cell.name), cell.lr, cell.seed, diverged=bool(result["cell"]["diverged"]))


def doses_text(doses: Sequence[LabDoses]) -> str:
    """One table of all combinations, and what is to be known of it; empty where there is none."""
    if not doses:
        return ""
    names = [axis for axis, _ in doses[0].axes]
    rows = [(*names, "rate", *_SHOWN, *("" if name == "" else f"{name} at Σlr" for name in _AT_SUM))]
    for one in doses:
        rows += list(_rows(one))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["Deaths by the rate over seeds: at the same step, and at the same sum of rates (Σlr).", ""]
    for row in rows:
        cells = (
            cell.ljust(size) if place < len(names) or rows[0][place] == "" else cell.rjust(size)
            for place, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines += [
        "",
        "Share of the hidden units that died, mean (least–most). ×: against the lowest rate of the same kind, with a",
    ]
    lines += ["95 % bootstrap interval over seeds. p: exact Mann-Whitney over seeds, in brackets Holm's for the rates."]
    lines += [f"{_label(one)}{note}" for one in doses for note in _notes(one.comparison)]
    return "\n".join(lines) + "\n"


def doses_json(doses: Sequence[LabDoses]) -> list[dict[str, Any]]:
    """The same for table.json, with all that is known."""
    return [{"axes": dict(one.axes), "comparison": as_json(one.comparison)} for one in doses]


def _rows(one: LabDoses) -> Iterator[tuple[str, ...]]:
    header, at_steps = table_rows(one.comparison, "steps")
    _, at_sums = table_rows(one.comparison, "rate sum")
    for row in at_steps:
        values = dict(zip(header[:9], row[:9], strict=True))  # the later ones are of revivals
        sums = next((dict(zip(header[:9], other[:9], strict=True)) for other in at_sums if other[0] == row[0]), {})
        shown = (*(values[name] for name in _SHOWN), *(sums.get(name, "–") for name in _AT_SUM))
        yield (*(str(value) for _, value in one.axes), values["rate"], *shown)


def _notes(comparison: Comparison) -> Iterator[str]:
    """Those that tell of what the table shows: it has no ratios of revivals."""
    marked = any(contrast.halved for contrast in comparison.contrasts if contrast.of == "deaths")
    yield from (note for note in comparison.notes if marked or not note.startswith(HALVED))


def _label(one: LabDoses) -> str:
    return "".join(f"{value} " for _, value in one.axes).rstrip() + (": " if one.axes else "")
