"""The report for a terminal: verdict, why, learning rate, next; then what was seen and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deadneuron.records import Diagnosis
from deadneuron.report.checkpoints import shortened
from deadneuron.report.legend import explain
from deadneuron.report.page import Advice, Grid, Line, Page, Why
from deadneuron.report.sentences import page_of
from deadneuron.report.style import MARKS, STYLES
from deadneuron.report.table import columns_that_fit, layers_table

_INDENT = 2
_WORD = 7  # columns of the legend's words
_CHECKPOINTS = 5  # that are listed; of more, the first and the last


def render_text(diagnosis: Diagnosis, *, width: int = 120, color: bool = False) -> str:
    """The report as one string of at most `width` columns; with `color`, with ANSI codes."""
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="truecolor" if color else None)
    console.print(Group(*_parts(diagnosis, page_of(diagnosis), width)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _parts(diagnosis: Diagnosis, page: Page, width: int) -> Iterable[RenderableType]:
    yield Text(" · ".join(page.head), style="dim")
    yield _section("VERDICT", _verdict(page))
    if any(verdict.units for verdict in diagnosis.verdicts):
        yield from _layers(diagnosis, page, width)
    if page.why:
        yield _section("WHY")
        yield from (_indent(_why(one)) for one in page.why)
    if page.told:
        yield _section("LEARNING RATE", Text(page.answer, style="default not bold"))
        yield from (_indent(_rate(part)) for part in page.told)
    yield _section("NEXT")
    yield from (_indent(line) for advice in page.next for line in _next(advice, width - 2 * _INDENT))
    yield _section("SEEN", _seen(page))
    if page.reference:
        yield _indent(_indent(Text(page.reference, style="dim")))
    if page.checkpoints is not None:
        yield _section("CHECKPOINTS", Text(page.checkpoints.said, style="default not bold"))
        yield _indent(_grid(shortened(page.checkpoints.grid, _CHECKPOINTS), "fold"))
    if page.gaps:
        yield _section(page.blind)
        yield from (_indent(_item("·", Text(f"{gap.where}: {gap.reason}"))) for gap in page.gaps)


def _layers(diagnosis: Diagnosis, page: Page, width: int) -> Iterator[RenderableType]:
    columns = columns_that_fit(diagnosis, width - _INDENT)
    yield Text()
    yield _indent(layers_table(diagnosis, columns))
    yield Text()
    legend = list(explain(diagnosis, [column.header for column in columns]))
    widest = max((len(word) for word, _ in legend), default=0)
    for word, meaning in legend:
        yield _indent(_item(word.ljust(max(widest, _WORD)), Text(meaning, style="dim"), "dim"))
    if page.caveat:
        yield Text()
        yield _indent(Text(page.caveat))


def _section(title: str, line: Text | None = None) -> RenderableType:
    head = Text(title, style="bold")
    body = head if line is None else _item(head, line, gap=2)
    return Padding(body, (1, 0, 0, 0))


def _indent(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, _INDENT))


def _item(mark: str | Text, text: Text, style: str = "", gap: int = 1) -> RenderableType:
    """A line of a list; what does not fit goes on under the text, not under the mark."""
    grid = Table.grid(padding=(0, gap, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(mark, style=style) if isinstance(mark, str) else mark, text)
    return grid


def _grid(grid: Grid, overflow: Literal["fold", "ellipsis"] = "ellipsis") -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, header in enumerate(grid.headers):
        table.add_column(Text(header), justify="left" if place in grid.words else "right", overflow=overflow)
    for row in grid.rows:
        table.add_row(*map(Text, row))
    return table


def _verdict(page: Page) -> Text:
    line = Text(f"{MARKS[page.status]} {page.status}", style=STYLES[page.status])
    return line.append(f": {page.verdict}", style="default not bold")


def _why(why: Why) -> RenderableType:
    text = Text(why.text)
    text.append("".join(f"\n{fact}" for fact in why.facts), style="dim")
    return _item(MARKS[why.level], text, STYLES[why.level])


def _rate(part: Line | Grid) -> RenderableType:
    if isinstance(part, Grid):
        return _indent(_grid(part))
    return _item(part.mark, Text(part.words.plain, style="dim" if part.words.dim else ""), "dim")


def _next(advice: Advice, room: int) -> Iterator[RenderableType]:
    style = "dim" if advice.minor else ""
    where = f"{', '.join(advice.where)}: " if advice.where else ""
    yield _item("→", Text(where + advice.text, style=style), style)
    if advice.command:
        command = Text(_folded(advice.command, room), style=style, no_wrap=True, overflow="ignore")
        yield Padding(command, (0, 0, 0, _INDENT))


def _folded(command: Sequence[str], room: int) -> str:
    """A command that is too long for one line goes on in the next, in a way that a shell understands."""
    if len(" ".join(command)) <= room:
        return " ".join(command)
    lines = list(command[:1])
    for part in command[1:]:
        if len(f"{lines[-1]} {part} \\") > room:
            lines.append(f"  {part}")
        else:
            lines[-1] += f" {part}"
    return " \\\n".join(lines)


def _seen(page: Page) -> Text:
    style = "default" if page.complete else STYLES["unknown"]
    line = Text(page.seen, style=f"{style} not bold")
    return line.append(f" · {page.how}", style="dim not bold") if page.how else line
