"""The table of layers on a terminal: as many of its columns as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from deadneuron.records import Diagnosis, Verdict
from deadneuron.report.cells import Column, Row, columns_of, rows_of
from deadneuron.report.style import STYLES

_LONGEST_NAME = 40  # columns; longer names are folded
_GAP = 2


def layers_table(diagnosis: Diagnosis, columns: Sequence[Column], *, folds: bool = True) -> Table:
    """A rich table of these columns, a row a site; a long name is folded, or else cut, so that a site is one line."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for column in columns:
        name = column.header == "layer"
        table.add_column(
            column.header,
            justify=column.justify,
            no_wrap=not (name and folds),
            overflow="fold" if name and folds else "ellipsis",
            max_width=_LONGEST_NAME if name else None,
        )
    for row in rows_of(diagnosis):
        table.add_row(*(Text(column.cell(row), style=_style(column, row.verdict)) for column in columns))
    return table


def columns_that_fit(diagnosis: Diagnosis, width: int) -> list[Column]:
    """The columns that a table no wider than `width` has room for; those that matter least go first."""
    return that_fit(diagnosis, columns_of(diagnosis), width)


def that_fit(diagnosis: Diagnosis, columns: list[Column], width: int) -> list[Column]:
    """Of these columns those that there is room for."""
    rows = rows_of(diagnosis)
    while sum(_width(column, rows) + _GAP for column in columns) - _GAP > width and any(c.drop for c in columns):
        first = min(column.drop for column in columns if column.drop)
        columns = [column for column in columns if column.drop != first]
    return columns


def _width(column: Column, rows: Sequence[Row]) -> int:
    widest = max((cell_len(column.cell(row)) for row in rows), default=0)
    return min(max(widest, cell_len(column.header)), _LONGEST_NAME)


def _style(column: Column, verdict: Verdict) -> str:
    if column.loud and (verdict.status in ("severe", "warning") or not column.header):
        return STYLES[verdict.status]
    return "dim" if column.dim else ""
