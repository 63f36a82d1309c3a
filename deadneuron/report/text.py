"""The report for a terminal: verdict, why, next; then what was seen and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deadneuron.records import Diagnosis, Finding
from deadneuron.report.style import MARKS, STYLES, printable
from deadneuron.report.table import layers_table

_INDENT = 2


def render_text(diagnosis: Diagnosis, *, width: int = 120, color: bool = False) -> str:
    """The report as one string of at most `width` columns; with `color`, with ANSI codes."""
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="truecolor" if color else None)
    console.print(Group(*_parts(diagnosis, width)))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _parts(diagnosis: Diagnosis, width: int) -> Iterable[RenderableType]:
    yield _head(diagnosis)
    yield _section("VERDICT", _verdict_line(diagnosis))
    if any(verdict.units for verdict in diagnosis.verdicts):
        yield Text()
        yield _indent(layers_table(diagnosis, width - _INDENT))
        yield Text()
        yield from (_indent(Text(line, style="dim")) for line in _legend(diagnosis))
    if diagnosis.findings or diagnosis.links:
        yield _section("WHY")
        yield from (_indent(_why(finding)) for finding in diagnosis.findings)
        yield from (_indent(_item("·", Text(printable(link.note)), "dim")) for link in diagnosis.links)
    yield _section("NEXT")
    yield from (_indent(line) for line in _next(diagnosis))
    yield _section("SEEN", _coverage_line(diagnosis))
    if diagnosis.gaps:
        yield _section("NOT MEASURED")
        for gap in diagnosis.gaps:
            said = f"{printable(gap.where)}: {printable(gap.reason)} (since step {gap.first_step})"
            yield _indent(_item("·", Text(said)))


def _head(diagnosis: Diagnosis) -> Text:
    steps = "no steps" if diagnosis.last_step is None else f"steps {diagnosis.first_step or 0}–{diagnosis.last_step:,}"
    return Text(f"deadneuron · {printable(diagnosis.run)} · {printable(diagnosis.model)} · {steps}", style="dim")


def _section(title: str, line: Text | None = None) -> Text:
    head = Text(f"\n{title}", style="bold")
    return head if line is None else head.append("  ").append_text(line)


def _indent(part: RenderableType) -> RenderableType:
    return Padding(part, (0, 0, 0, _INDENT))


def _verdict_line(diagnosis: Diagnosis) -> Text:
    line = Text(f"{MARKS[diagnosis.status]} {diagnosis.status}", style=STYLES[diagnosis.status])
    seen = [verdict for verdict in diagnosis.verdicts if verdict.units]
    dead, units = sum(v.dead or 0 for v in seen), sum(v.units or 0 for v in seen)
    layers = [printable(verdict.name) for verdict in seen if verdict.status in ("severe", "warning")]
    if not seen:
        return line.append(": no activation was seen", style="default not bold")
    said = f": {dead:,} of {units:,} units are dead at the end"
    if layers:
        said += f"; look at {', '.join(layers[:4])}{' …' if len(layers) > 4 else ''}"
    return line.append(said, style="default not bold")


def _legend(diagnosis: Diagnosis) -> Iterator[str]:
    t = diagnosis.thresholds
    yield f"dead   no row inside the gate for {t.patience} steps and {t.samples:,} examples: born so, or died since"
    yield "n      examples that each dead unit was silent on: it fires on at most 3/n of them (95 %);"
    yield f"       where none is dead, the examples of the last {t.patience} steps"
    yield "since  step of the median death, and the learning rate that this step's update used"
    yield f"rare   active on less than {t.rare:.0%} of the last window's rows, and not dead"


def _item(mark: str, text: Text, style: str = "") -> RenderableType:
    """A line of a list; what does not fit goes on under the text, not under the mark."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(Text(mark, style=style), text)
    return grid


def _why(finding: Finding) -> RenderableType:
    text = Text(printable(finding.text))
    text.append("".join(f"\n{fact}" for fact in _facts(finding)), style="dim")
    return _item(MARKS[finding.level], text, STYLES[finding.level])


def _facts(finding: Finding) -> Iterator[str]:
    evidence = finding.evidence
    if evidence.get("samples"):
        yield f"n = {evidence['samples']:,} examples, so each fires on less than {evidence['bound']:.2g} of them (95 %)"
    if evidence.get("window"):
        yield "watched in steps {:,}–{:,}".format(*evidence["window"])
    if evidence.get("closed_above"):
        yield f"{evidence['closed_above']} of them closed at the gate's upper end"
    steps = [f"{count} in step {step:,}" for step, count, _ in evidence.get("worst_steps", []) if count > 1]
    if steps:
        yield "most deaths: " + ", ".join(steps[:3])


def _next(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    for finding in diagnosis.findings:
        yield _item("→", Text(f"{printable(finding.where)}: {printable(finding.advice)}"))
    if not diagnosis.findings:
        yield _item("→", Text("nothing to change: hardly a unit died, and the layers stay active"))
    command = f"deadneuron report {printable(diagnosis.run)} --format json"
    yield _item("→", Text(f"every death with its step and rate: {command}", style="dim"), "dim")


def _coverage_line(diagnosis: Diagnosis) -> Text:
    coverage, sampling = diagnosis.coverage, diagnosis.sampling
    style = "default" if coverage.seen == coverage.known else STYLES["unknown"]
    line = Text(f"{coverage.seen} of {coverage.known} activation sites seen", style=f"{style} not bold")
    full = "step" if sampling.every == 1 else f"{_nth(sampling.every)} step"
    often = f" · counted at every step, full statistics at every {full}, windows of {sampling.window} steps"
    return line.append(often, style="dim not bold")


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
