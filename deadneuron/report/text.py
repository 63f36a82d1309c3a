"""The report for a terminal: verdict, why, learning rate, next; then what was seen and what was not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from deadneuron.records import Diagnosis, Finding, Reference
from deadneuron.report.legend import explain
from deadneuron.report.rate import rate_lines
from deadneuron.report.style import MARKS, STYLES, printable
from deadneuron.report.table import columns_that_fit, layers_table

_INDENT = 2
_OF_SILENCE = ("stuck", "dying", "born-dead", "born-dead-excess")  # findings whose n is that of silent units


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
        columns = columns_that_fit(diagnosis, width - _INDENT)
        yield Text()
        yield _indent(layers_table(diagnosis, columns))
        yield Text()
        for word, meaning in explain(diagnosis, [column.header for column in columns]):
            yield _indent(_item(f"{word:<7}", Text(meaning, style="dim"), "dim"))
    if diagnosis.findings:
        yield _section("WHY")
        yield from (_indent(_why(finding)) for finding in diagnosis.findings)
    rates = list(rate_lines(diagnosis))
    if rates:
        yield _section("LEARNING RATE", Text(printable(diagnosis.answer), style="default not bold"))
        for part in rates:
            yield _indent(_item(*part, style="dim") if isinstance(part, tuple) else _indent(part))
    yield _section("NEXT")
    yield from (_indent(line) for line in _next(diagnosis))
    yield _section("SEEN", _coverage_line(diagnosis))
    if diagnosis.reference is not None:
        yield _indent(_indent(_reference_line(diagnosis.reference)))
    if diagnosis.gaps:
        yield _section("NOT MEASURED")
        for gap in diagnosis.gaps:
            said = f"{printable(gap.where)}: {printable(gap.reason)} (since step {gap.first_step})"
            yield _indent(_item("·", Text(said)))


def _head(diagnosis: Diagnosis) -> Text:
    steps = "no steps" if diagnosis.last_step is None else f"steps {diagnosis.first_step or 0}–{diagnosis.last_step:,}"
    parts = ["deadneuron", printable(diagnosis.run), printable(diagnosis.model), steps]
    if diagnosis.ended is None:
        parts.append("not ended: it still runs, or was killed")
    elif diagnosis.ended_by is not None:
        parts.append(f"ended by {printable(diagnosis.ended_by)}")
    return Text(" · ".join(parts), style="dim")


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


def _verdict_line(diagnosis: Diagnosis) -> Text:
    line = Text(f"{MARKS[diagnosis.status]} {diagnosis.status}", style=STYLES[diagnosis.status])
    seen = [verdict for verdict in diagnosis.verdicts if verdict.units]
    dead, units = sum(v.dead or 0 for v in seen), sum(v.units or 0 for v in seen)
    layers = [printable(verdict.name) for verdict in seen if verdict.status != "healthy"]
    if not seen:
        return line.append(": no activation was seen", style="default not bold")
    when = "at the end" if diagnosis.ended else "so far"
    said = f": {dead:,} of {units:,} units are dead {when}"
    if layers:
        said += f"; look at {', '.join(layers[:4])}{' …' if len(layers) > 4 else ''}"
    return line.append(said, style="default not bold")


def _why(finding: Finding) -> RenderableType:
    text = Text(printable(finding.text))
    text.append("".join(f"\n{fact}" for fact in _facts(finding)), style="dim")
    return _item(MARKS[finding.level], text, STYLES[finding.level])


def _facts(finding: Finding) -> Iterator[str]:
    evidence = finding.evidence
    if evidence.get("samples"):
        bound = evidence.get("bound") if finding.code in _OF_SILENCE else None
        each = "" if bound is None else f", so each fires on at most {bound:.2g} of all (95 %)"
        yield f"n = {evidence['samples']:,} examples{each}"
    if evidence.get("window"):
        yield "watched in steps {:,}–{:,}".format(*evidence["window"])
    if evidence.get("closed_above"):
        yield f"{evidence['closed_above']} of them closed at the gate's upper end"
    steps = [f"{count} in step {step:,}" for step, count, _ in evidence.get("worst_steps", []) if count > 1]
    if steps:
        yield "most deaths: " + ", ".join(steps[:3])


def _next(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    places: dict[str, list[str]] = {}  # of each line: what is to be done at several places is told once
    for finding in diagnosis.findings:
        for line in finding.advice.splitlines():
            if finding.where not in places.setdefault(line, []):
                places[line].append(finding.where)
    for line, where in places.items():
        yield _item("→", Text(f"{', '.join(map(printable, where))}: {printable(line)}"))
    if not diagnosis.findings:
        yield _item("→", Text("nothing to change: hardly a unit died or fell silent"))
    if diagnosis.episodes:
        yield _item("→", Text("every death with its step and rate:", style="dim"), "dim")
        command = f"deadneuron report {printable(diagnosis.run)} --format json"
        yield Padding(Text(command, style="dim", no_wrap=True, overflow="ignore"), (0, 0, 0, 2))


def _coverage_line(diagnosis: Diagnosis) -> Text:
    coverage, sampling = diagnosis.coverage, diagnosis.sampling
    style = "default" if coverage.seen == coverage.known else STYLES["unknown"]
    line = Text(f"{coverage.seen} of {coverage.known} activation sites seen", style=f"{style} not bold")
    if sampling is None:
        return line
    full = "step" if sampling.every == 1 else f"{_nth(sampling.every)} step"
    often = f" · counted at every step, full statistics at every {full}, windows of {sampling.window} steps"
    return line.append(often, style="dim not bold")


def _reference_line(reference: Reference) -> Text:
    examples = "" if reference.examples is None else f" of {reference.examples:,} examples"
    share = reference.seconds / reference.of_seconds if reference.of_seconds else 0.0
    cost = f"{reference.passes} passes, {reference.seconds:.2g} s, {share:.1%} of the run's time"
    return Text(f"reference batch{examples}: {cost}", style="dim")


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
