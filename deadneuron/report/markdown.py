"""The report in GitHub-flavoured Markdown: for pull requests, issues and notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from deadneuron.records import Diagnosis
from deadneuron.report.cells import columns_of, rows_of
from deadneuron.report.escape import code, escaped
from deadneuron.report.legend import explain
from deadneuron.report.page import Advice, Grid, Line, Page, Why
from deadneuron.report.sentences import page_of
from deadneuron.report.style import MARKS

_OPEN = 10  # rows of the table of checkpoints that are shown; a longer one is folded


def render_markdown(diagnosis: Diagnosis) -> str:
    """The report as one Markdown document. Whatever a layer, a run or a file is called stays text."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_lines(diagnosis, page_of(diagnosis)))).rstrip() + "\n"


def _lines(diagnosis: Diagnosis, page: Page) -> Iterator[str]:
    yield from (f"## {MARKS[page.status]} {page.status}: {escaped(page.verdict)}", "")
    yield from (" · ".join(escaped(part) for part in page.head if part), "")
    if any(verdict.units for verdict in diagnosis.verdicts):
        yield from _layers(diagnosis)
    if page.caveat:
        yield from (escaped(page.caveat), "")
    if page.why:
        yield from _section("Why", (line for why in page.why for line in _why(why)))
    if page.told:
        yield from _section("Learning rate", _rates(page))
    yield from _section("Next", map(_next, page.next))
    yield from _section("Seen", _seen(page))
    if page.checkpoints is not None:
        grid = list(_grid(page.checkpoints.grid, names=True))
        folded = len(page.checkpoints.grid.rows) > _OPEN
        body = _folded("all checkpoints", grid) if folded else grid
        yield from _section("Checkpoints", (escaped(page.checkpoints.said), "", *body))
    if page.gaps:
        lines = (f"- {_strong(gap.where)}: {escaped(gap.reason)}" for gap in page.gaps)
        yield from _section(page.blind.capitalize(), lines)


def _layers(diagnosis: Diagnosis) -> Iterator[str]:
    columns = columns_of(diagnosis)
    yield _row(escaped(column.header) for column in columns)
    yield _row(":--" if column.justify == "left" else "--:" for column in columns)
    for row in rows_of(diagnosis):
        cells = ((column.header, column.cell(row)) for column in columns)
        yield _row(code(cell, cell=True) if header == "layer" else escaped(cell) for header, cell in cells)
    yield ""
    legend = explain(diagnosis, [column.header for column in columns])
    yield from _folded("what the words mean", [_meaning(*line) for line in legend])


def _meaning(word: str, meaning: str) -> str:
    """A line of the legend; one without a word belongs to the one above."""
    return f"- {_strong(word)}: {escaped(meaning)}" if word else f"  - {escaped(meaning)}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from (f"### {title}", "", *lines, "")


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"<details><summary>{title}</summary>", "", *lines, "", "</details>", "")


def _grid(grid: Grid, *, names: bool = False) -> Iterator[str]:
    """A table; `names`: those of files stand in its first column."""
    yield _row(map(escaped, grid.headers))
    yield _row(":--" if place in grid.words else "--:" for place in range(len(grid.headers)))
    for first, *others in grid.rows:
        yield _row((code(first, cell=True) if names else escaped(first), *map(escaped, others)))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _why(why: Why) -> Iterator[str]:
    yield f"- **{MARKS[why.level]} {why.level}**: {escaped(why.text)}"
    yield from (f"  - {escaped(fact)}" for fact in why.facts)


def _rates(page: Page) -> Iterator[str]:
    if page.answer:
        yield from (escaped(page.answer), "")
    for part in page.told:
        if isinstance(part, Grid):
            yield from ("", *_grid(part), "")
        else:
            yield _line(part)


def _line(line: Line) -> str:
    return f"{'  ' if line.mark == ' ' else ''}- {escaped(line.words.plain)}"


def _next(advice: Advice) -> str:
    where = f"{', '.join(map(_strong, advice.where))}: " if advice.where else ""
    command = f": {code(' '.join(advice.command))}" if advice.command else ""
    return f"- {where}{escaped(advice.text.removesuffix(':') if command else advice.text)}{command}"


def _seen(page: Page) -> Iterator[str]:
    yield escaped(page.seen) + (f" · {escaped(page.how)}" if page.how else "")
    if page.reference:
        yield from ("", escaped(page.reference))


def _strong(text: str) -> str:
    return f"**{escaped(text)}**" if text.strip() else ""
