"""A run while it grows, drawn: as one screen that is never larger than the terminal, and as one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.text import Text

from deadneuron.frames import Run
from deadneuron.records import Diagnosis, Finding, Verdict
from deadneuron.report.cells import Column, columns_of
from deadneuron.report.glance import Glance
from deadneuron.report.sparkline import sparkline
from deadneuron.report.style import MARKS, STYLES, printable
from deadneuron.report.table import layers_table, that_fit

_SPARK = 40  # columns of a rate
_FINDINGS = 6
_GROUPS = 3
# What a narrow terminal does without, in this order; the curves stay longer than in a report: they are what grows.
_SPARED = ("dormant", "rare", "op", "3/n", "= born", "+ died", "n", "at lr", "revived", "since", "silent", "units")
_CURVE = "dead, over time"


def line(glance: Glance) -> str:
    """The run in one line."""
    diagnosis = glance.diagnosis
    if diagnosis is None:
        return f"waiting ({printable(glance.waiting)}): {printable(str(glance.path))}"  # a narrow screen cuts the end
    seen = [verdict for verdict in diagnosis.verdicts if verdict.units]
    dead, units = sum(v.dead or 0 for v in seen), sum(v.units or 0 for v in seen)
    found = _news(glance)
    newest = f"; {printable(found[0][0].text)}" if found else ""
    return f"{_step(diagnosis)}{_ended(diagnosis)}: {diagnosis.status}, {dead:,} of {units:,} units dead{newest}"


def screen(glance: Glance, width: int, height: int) -> RenderableType:
    """The run as it stands, in at most `height` lines: the head, then layers and findings share what is left."""
    diagnosis, run = glance.diagnosis, glance.run
    if diagnosis is None or run is None:
        return Group(_line(Text(line(glance), style="dim")))  # a console joins bare texts, and wraps them
    head = [_head(diagnosis, glance.written, width), _rates(run, width)][: max(height, 1)]
    found = _news(glance)
    room = max(height - len(head), 0)
    few = min(len(found), _FINDINGS, max(room // 3, 1 if room else 0))
    rows = room - few - (1 if few else 0) - 2  # a blank before either part, and the table's header
    parts: list[RenderableType] = [*head]
    if rows > 0 and diagnosis.verdicts:
        parts += [Text(), *_layers(diagnosis, width, rows)]
    if few:
        parts += [Text()] if room > few else []
        parts += [_finding(one, step) for one, step in found[:few]]
    return Group(*parts)


def _layers(diagnosis: Diagnosis, width: int, rows: int) -> list[RenderableType]:
    worst = sorted(diagnosis.verdicts, key=lambda verdict: -(verdict.dead or 0) / (verdict.units or 1))
    shown = worst if len(worst) <= rows else worst[: rows - 1]
    drawn = _only(diagnosis, shown)
    parts: list[RenderableType] = []
    if shown:
        parts.append(layers_table(drawn, that_fit(drawn, _columns(diagnosis), width), folds=False))
    if len(shown) < len(worst):
        more = len(worst) - len(shown)
        parts.append(
            _line(Text(f"and {more} more layers{', with no larger share dead' if shown else ''}", style="dim"))
        )
    return parts


def _columns(diagnosis: Diagnosis) -> list[Column]:
    order = {header: place for place, header in enumerate(_SPARED, start=1)}
    columns = columns_of(diagnosis)
    return [replace(c, drop=len(order) + 1 if c.header == _CURVE else order.get(c.header, 0)) for c in columns]


def _news(glance: Glance) -> Sequence[tuple[Finding, int | None]]:
    """The findings. That nothing was seen is none while a run has only begun: its first steps are not written yet."""
    diagnosis = glance.diagnosis
    begins = diagnosis is not None and diagnosis.last_step is None and diagnosis.ended is None
    return () if begins else glance.newest()


def _head(diagnosis: Diagnosis, written: float | None, width: int) -> Text:
    text = Text(f"{MARKS[diagnosis.status]} {diagnosis.status}", style=STYLES[diagnosis.status])
    parts = [f"{_step(diagnosis)}{_ended(diagnosis)}"]
    if written is not None:
        parts.append(f"written {datetime.fromtimestamp(written):%H:%M:%S}")
    said = f"  {' · '.join(parts)} · "
    name = _end_of(printable(diagnosis.run), width - cell_len(text.plain + said))
    return _line(text.append(said + name, style="default not bold"))


def _end_of(name: str, room: int) -> str:
    """What fits of a path: its end tells runs apart, as its beginning does not."""
    if cell_len(name) <= room:
        return name
    while name and cell_len(name) >= room:
        name = name[1:]
    return f"…{name}"


def _step(diagnosis: Diagnosis) -> str:
    return "no steps yet" if diagnosis.last_step is None else f"step {diagnosis.last_step:,}"


def _ended(diagnosis: Diagnosis) -> str:
    if diagnosis.ended is None:
        return ""
    return ", ended" if diagnosis.ended_by is None else f", ended by {printable(diagnosis.ended_by)}"


def _rates(run: Run, width: int) -> Text:
    """Each group's rate as a line of small bars."""
    ticks = run.ticks
    parts = []
    for group in run.info.groups[:_GROUPS]:
        values = ticks[f"lr:{group}"].dropna().to_numpy(dtype=float)
        if not len(values):
            continue
        top = float(values.max()) or 1.0
        bars = sparkline([float(value) / top for value in values], min(_SPARK, max(width // 4, 8)))
        parts.append(f"{printable(group)} {bars} {values[-1]:.3g}")
    return _line(Text("rate  " + "   ".join(parts) if parts else "no rate yet", style="dim"))


def _only(diagnosis: Diagnosis, verdicts: Sequence[Verdict]) -> Diagnosis:
    return replace(diagnosis, verdicts=tuple(verdicts))


def _finding(finding: Finding, step: int | None) -> Text:
    text = Text(f"{MARKS[finding.level]} ", style=STYLES[finding.level])
    if step is not None:
        text.append(f"new at step {step:,}: ", style="bold")
    return _line(text.append(printable(finding.text), style="default not bold"))


def _line(text: Text) -> Text:
    """One line, whatever the width."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
