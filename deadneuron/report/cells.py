"""The cells of tables, as text: of that of layers, one row a site, one column a fact. Every report draws these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from deadneuron.records import Diagnosis, History, Verdict
from deadneuron.report.sparkline import sparkline
from deadneuron.report.style import MARKS, printable

_SPARK = 16
EVERYWHERE = ("", "layer", "units", "dead")
"""Columns that no table does without."""
_SPARED = {"silent": 9, "at lr": 10, "since": 11}  # spans take more room than the steps and rates of runs


@dataclass(frozen=True, slots=True)
class Row:
    """One site."""

    verdict: Verdict
    history: History | None
    spark: str
    unseen: str  # said of a site that was not


@dataclass(frozen=True, slots=True)
class Column:
    header: str
    cell: Callable[[Row], str]
    drop: int = 0  # dropped in this order where there is little room; 0 stays
    justify: Literal["left", "right"] = "right"
    loud: bool = False  # in the colour of the verdict, if that is a warning or worse
    dim: bool = False


def columns_of(diagnosis: Diagnosis) -> list[Column]:
    """The columns that this diagnosis has something to say in.

    Those of a run are always the same. Of checkpoints, which may have no samples and no dormant units, empty ones go.
    """
    if diagnosis.source == "run":
        return [column for column in _COLUMNS if column is not _EVIDENCE]
    rows = rows_of(diagnosis)
    shown = (c for c in _COLUMNS if c.header in EVERYWHERE or any(c.cell(row) for row in rows))
    return [replace(column, drop=_SPARED.get(column.header, column.drop)) for column in shown]


def rows_of(diagnosis: Diagnosis) -> list[Row]:
    """One a site, in the diagnosis's order."""
    histories = {history.site: history for history in diagnosis.history}
    unseen = "not seen" if diagnosis.source == "run" else "not judged"
    rows = []
    for verdict in diagnosis.verdicts:
        history = histories.get(verdict.site) if verdict.site is not None else None
        rows.append(Row(verdict, history, sparkline(history.dead, _SPARK) if history else "", unseen))
    return rows


def known(verdict: Verdict) -> bool:
    """Whether its dead units were counted."""
    return bool(verdict.units) and verdict.dead is not None


def at_least(verdict: Verdict) -> bool:
    """Whether more units may be dead: weights alone can show that a unit is closed, not that it is open."""
    return verdict.evidence == "weights"


def span(low: str, high: str) -> str:
    """Two numbers as one, where they read the same.

    >>> span("1", "2"), span("1", "1")
    ('1–2', '1')
    """
    return low if low == high else f"{low}–{high}"


def percent(shares: Sequence[float], *, spread: bool = True) -> str:
    """The mean share of several, and from which to which they reach.

    >>> percent([0.25, 0.5]), percent([0.002])
    ('38 % (25–50)', '0.2 % (0.2–0.2)')
    """
    low, mean, high = min(shares), float(np.mean(shares)), max(shares)
    digits = 1 if 0 < high < 0.1 else 0
    text = f"{100 * mean:.{digits}f} %"
    return text + (f" ({100 * low:.{digits}f}–{100 * high:.{digits}f})" if spread and high > 0 else "")


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _dead(verdict: Verdict) -> str:
    if not known(verdict):
        return ""
    more = "≥" if at_least(verdict) else ""
    return f"{more}{verdict.dead:,} {(verdict.dead or 0) / (verdict.units or 1):.0%}"


def _since(verdict: Verdict) -> str:
    if verdict.since is None:
        return ""
    latest = verdict.since if verdict.since_latest is None else verdict.since_latest
    return span(f"{verdict.since:,}", f"{latest:,}")


def _rate(verdict: Verdict) -> str:
    if verdict.rates is not None:
        return span(*(f"{rate:.3g}" for rate in verdict.rates))
    return "" if verdict.rate is None else f"{verdict.rate:.3g}"


def _bound(verdict: Verdict) -> str:
    return "" if verdict.bound is None else f"{verdict.bound:.2g}"


_EVIDENCE = Column("evidence", lambda row: printable(row.verdict.evidence), drop=8, justify="left", dim=True)
_COLUMNS = (
    Column("", lambda row: MARKS[row.verdict.status], justify="left", loud=True),
    Column("layer", lambda row: printable(row.verdict.name), justify="left"),
    Column("op", lambda row: printable(row.verdict.op), drop=3, justify="left"),
    Column("units", lambda row: _count(row.verdict.units) if row.verdict.units else row.unseen),
    Column("dead", lambda row: _dead(row.verdict), loud=True),
    Column("= born", lambda row: _count(row.verdict.born_dead), drop=6),
    Column("+ died", lambda row: _count(row.verdict.died), drop=6),
    Column("n", lambda row: _count(row.verdict.samples), dim=True),
    Column("3/n", lambda row: _bound(row.verdict), drop=5, dim=True),
    Column("since", lambda row: _since(row.verdict)),
    Column("at lr", lambda row: _rate(row.verdict)),
    Column("revived", lambda row: _count(row.verdict.revived), drop=2),
    Column("silent", lambda row: _count(row.verdict.silent)),
    Column("rare", lambda row: _count(row.verdict.rare), drop=4),
    Column("dormant", lambda row: _count(row.verdict.dormant), drop=1),
    _EVIDENCE,
    Column("dead, over time", lambda row: row.spark, drop=7, justify="left", loud=True),
)
