"""The tables of a lab: the long one with a row a cell and layer, and the summary over seeds that people read."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deadneuron.experiments.columns import COLUMNS, Column
from deadneuron.experiments.grid import AXES, Cell, Lab

Row = dict[str, Any]
_LONG = (*AXES, "layer", "units", *COLUMNS)


def long_rows(results: Iterable[tuple[Cell, Row]]) -> list[Row]:
    """One row a cell and layer: the axes, the layer and its units, and every measure; counts of units are counts."""
    rows = []
    for cell, result in results:
        for layer in result["layers"]:
            values = asdict(cell) | layer | result["cell"]
            rows.append({name: values[name] for name in _LONG})
    return rows


def to_csv(rows: Sequence[Row]) -> str:
    """The long table; what could not be measured is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _LONG, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(lab: Lab, rows: Sequence[Row], comparisons: Sequence[Row] = ()) -> str:
    """The long table with what the lab is, what the measures mean, and comparisons of rates; null: not measured."""
    about = {"name": lab.name, "title": lab.lab.title, "claim": lab.lab.claim, "source": lab.lab.source}
    measures = {name: {"by": c.by, "kind": c.kind, "meaning": c.meaning} for name, c in COLUMNS.items()}
    document = {"version": 1, "lab": about, "measures": measures, "rows": list(rows), "comparisons": list(comparisons)}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True, slots=True)
class Summary:
    """A table of text: one row a combination of the axes that vary and a layer; seeds are taken together."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summarise(lab: Lab, rows: Sequence[Row]) -> Summary:
    """Median over seeds, and in brackets the least and the most.

    Cells that diverged are left out of all but the column that counts them: their units tell of the NaN, not of the
    axes. "k of n" sums units over seeds.
    """
    columns = [COLUMNS[name] for name in lab.lab.columns]
    groups: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for layer, row in _layered(lab, rows):
        key = tuple(row[axis] for axis in lab.varying)
        groups.setdefault(key, {}).setdefault(layer, []).append(row)
    table = [
        (*(str(value) for value in key), layer, *(_text(column, cells) for column in columns))
        for key, layers in groups.items()
        for layer, cells in layers.items()
    ]
    return Summary((*lab.varying, "layer", *(column.header for column in columns)), tuple(table))


def to_markdown(summary: Summary) -> str:
    """The summary as a Markdown table."""
    lines = [summary.header, tuple("---" for _ in summary.header), *summary.rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _layered(lab: Lab, rows: Sequence[Row]) -> Iterable[tuple[str, Row]]:
    """The rows that the lab's `layers` ask for, each with the name of its layer."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[axis] for axis in AXES), []).append(row)
    for own in cells.values():
        for which in lab.lab.layers:
            if which == "each":
                yield from ((str(row["layer"]), row) for row in own)
            elif which == "first":
                yield "first", own[0]
            elif which == "last":
                yield "last", own[-1]
            else:
                yield "all", _together(own)


def _together(layers: Sequence[Row]) -> Row:
    """All layers of a cell as one: units summed, shares and numbers averaged (layers are equally wide)."""
    row = dict(layers[0])
    row["units"] = sum(layer["units"] for layer in layers)
    for column in COLUMNS.values():
        if column.by != "cell":
            values = [layer[column.name] for layer in layers]
            known = None not in values
            total = sum(values) if known else None
            row[column.name] = total if column.kind in ("units", "part") or total is None else total / len(layers)
    return row


def _text(column: Column, cells: Sequence[Row]) -> str:
    if column.kind == "flag":
        return f"{sum(cell[column.name] for cell in cells)} of {len(cells)}"
    sound = [cell for cell in cells if not cell["diverged"] and cell[column.name] is not None]
    if not sound:
        return "–"
    if column.kind == "part":
        part, whole = (sum(cell[name] for cell in sound) for name in (column.name, column.whole))
        return f"{part} of {whole}" + (f" ({part / whole:.0%})" if whole else "")
    if column.kind == "units":
        return _spread([cell[column.name] / cell["units"] for cell in sound], percent=True)
    return _spread([float(cell[column.name]) for cell in sound], percent=column.kind == "rows")


def _spread(values: Sequence[float], *, percent: bool) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    if percent:
        digits = 1 if most < 0.1 else 0
        inner = f"{100 * least:.{digits}f}–{100 * most:.{digits}f}"
        return f"{100 * middle:.{digits}f} % ({inner})"
    texts = [_number(value) for value in (middle, least, most)]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]}–{texts[2]})"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3f}" if 0.1 <= abs(value) < 1000 and math.isfinite(value) else f"{value:.2g}"
