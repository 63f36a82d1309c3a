"""The table of layers: one row a site, as many columns as the terminal has room for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from deadneuron.records import Diagnosis, Verdict
from deadneuron.report.sparkline import sparkline
from deadneuron.report.style import MARKS, STYLES, printable

_LONGEST_NAME = 40  # columns; longer names are folded
_SPARK = 16
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    header: str
    cell: Callable[[Verdict, str], str]  # (verdict, sparkline)
    drop: int = 0  # dropped in this order where the terminal is narrow; 0 stays
    justify: Literal["left", "right"] = "right"
    loud: bool = False  # in the colour of the verdict, if that is a warning or worse
    dim: bool = False


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


_COLUMNS = (
    Column("", lambda v, _: MARKS[v.status], justify="left", loud=True),
    Column("layer", lambda v, _: printable(v.name), justify="left"),
    Column("op", lambda v, _: printable(v.op), drop=3, justify="left"),
    Column("units", lambda v, _: _count(v.units) if v.units else "not seen"),
    Column("dead", lambda v, _: f"{v.dead:,} {(v.dead or 0) / v.units:.0%}" if v.units else "", loud=True),
    Column("= born", lambda v, _: _count(v.born_dead), drop=6),
    Column("+ died", lambda v, _: _count(v.died), drop=6),
    Column("n", lambda v, _: _count(v.samples), dim=True),
    Column("3/n", lambda v, _: "" if v.bound is None else f"{v.bound:.2g}", drop=5, dim=True),
    Column("since", lambda v, _: _count(v.since)),
    Column("at lr", lambda v, _: "" if v.rate is None else f"{v.rate:.3g}"),
    Column("revived", lambda v, _: _count(v.revived), drop=2),
    Column("silent", lambda v, _: _count(v.silent)),
    Column("rare", lambda v, _: _count(v.rare), drop=4),
    Column("dormant", lambda v, _: _count(v.dormant), drop=1),
    Column("dead, over time", lambda _, spark: spark, drop=7, justify="left", loud=True),
)


def _rows(diagnosis: Diagnosis) -> list[tuple[Verdict, str]]:
    histories = {history.site: history for history in diagnosis.history}
    rows = []
    for verdict in diagnosis.verdicts:
        history = histories.get(verdict.site) if verdict.site is not None else None
        rows.append((verdict, sparkline(history.dead, _SPARK) if history else ""))
    return rows


def layers_table(diagnosis: Diagnosis, columns: Sequence[Column]) -> Table:
    """A rich table of these columns, a row a site."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim")
    for column in columns:
        folds = column.header == "layer"
        table.add_column(
            column.header,
            justify=column.justify,
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            max_width=_LONGEST_NAME if folds else None,
        )
    for verdict, spark in _rows(diagnosis):
        table.add_row(*(Text(column.cell(verdict, spark), style=_style(column, verdict)) for column in columns))
    return table


def columns_that_fit(diagnosis: Diagnosis, width: int) -> list[Column]:
    """The columns that a table no wider than `width` has room for; those that matter least go first."""
    rows = _rows(diagnosis)
    columns = list(_COLUMNS)
    while sum(_width(column, rows) + _GAP for column in columns) - _GAP > width and any(c.drop for c in columns):
        first = min(column.drop for column in columns if column.drop)
        columns = [column for column in columns if column.drop != first]
    return columns


def _width(column: Column, rows: Sequence[tuple[Verdict, str]]) -> int:
    widest = max((cell_len(column.cell(*row)) for row in rows), default=0)
    return min(max(widest, cell_len(column.header)), _LONGEST_NAME)


def _style(column: Column, verdict: Verdict) -> str:
    if column.loud and (verdict.status in ("severe", "warning") or not column.header):
        return STYLES[verdict.status]
    return "dim" if column.dim else ""
