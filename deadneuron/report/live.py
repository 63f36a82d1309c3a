"""A run while it grows, on one screen: looked at again only when its files changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.errors import NotARunError
from deadneuron.frames import Run, read_run
from deadneuron.profiles import load_profile
from deadneuron.records import Diagnosis, Finding, Verdict
from deadneuron.report.sparkline import sparkline
from deadneuron.report.style import MARKS, STYLES, printable
from deadneuron.report.table import columns_that_fit, layers_table

_HEAD = 6  # lines around the table and the findings
_SPARK = 40


class Glance:
    """What is known of a run that grows, is waited for, or has ended."""

    def __init__(self, path: Path, profile: str | None = None) -> None:
        """Raises `ProfileError` for an unknown profile."""
        self.path, self.profile = path, None if profile is None else load_profile(profile)
        self.run: Run | None = None
        self.diagnosis: Diagnosis | None = None
        self.waiting = ""  # why there is nothing to see
        self._stamp: object = None

    def look(self) -> bool:
        """Read what is new; whether anything is.

        A folder that is not there, or not yet a run, is waited for; a run that was begun anew is followed. Raises
        `NewerFormatError` for a run that this version cannot read.
        """
        stamp = _stamp(self.path)
        if stamp == self._stamp and (self.run is not None or self.waiting):
            return False
        self._stamp = stamp
        try:
            self.run = read_run(self.path)
            self.diagnosis = diagnose(self.run, self.profile)
            self.waiting = ""
        except NotARunError as error:
            self.run = self.diagnosis = None
            self.waiting = error.what
        return True


def line(glance: Glance) -> str:
    """The run in one line."""
    diagnosis = glance.diagnosis
    if diagnosis is None:
        return f"{printable(str(glance.path))}: waiting ({glance.waiting})"
    seen = [verdict for verdict in diagnosis.verdicts if verdict.units]
    dead, units = sum(v.dead or 0 for v in seen), sum(v.units or 0 for v in seen)
    step = "no steps yet" if diagnosis.last_step is None else f"step {diagnosis.last_step:,}"
    ended = "" if diagnosis.ended is None else ", ended"
    newest = f"; {printable(diagnosis.findings[0].text)}" if diagnosis.findings else ""
    return f"{step}{ended}: {diagnosis.status}, {dead:,} of {units:,} units dead{newest}"


def screen(glance: Glance, width: int, height: int) -> RenderableType:
    """The run as it stands, no larger than the terminal."""
    diagnosis, run = glance.diagnosis, glance.run
    if diagnosis is None or run is None:
        return Text(line(glance), style="dim")
    parts: list[RenderableType] = [_head(diagnosis), _rates(run, width)]
    findings = [_finding(finding) for finding in diagnosis.findings]
    room = max(height - _HEAD - min(len(findings), 6), 1)
    shown = sorted(diagnosis.verdicts, key=lambda v: -(v.dead or 0) / (v.units or 1))[:room]
    table = layers_table(_only(diagnosis, shown), columns_that_fit(diagnosis, width))
    hidden = len(diagnosis.verdicts) - len(shown)
    parts += [Text(), table]
    if hidden:
        parts.append(Text(f"{hidden} more layers, with fewer dead units", style="dim"))
    parts += [Text(), *findings[:6]]
    return Group(*parts)


def _head(diagnosis: Diagnosis) -> Text:
    text = Text(f"{MARKS[diagnosis.status]} {diagnosis.status}", style=STYLES[diagnosis.status])
    state = "ended" if diagnosis.ended else "running, or killed"
    step = "no steps yet" if diagnosis.last_step is None else f"step {diagnosis.last_step:,}"
    return text.append(f"  {printable(diagnosis.run)} · {step} · {state}", style="default not bold")


def _rates(run: Run, width: int) -> Text:
    """Each group's rate as a line of small bars."""
    ticks = run.ticks
    parts = []
    for group in run.info.groups[:3]:
        values = ticks[f"lr:{group}"].dropna().to_numpy(dtype=float)
        if not len(values):
            continue
        top = float(values.max()) or 1.0
        bars = sparkline([float(value) / top for value in values], min(_SPARK, max(width // 4, 8)))
        parts.append(f"{printable(group)} {bars} {values[-1]:.3g}")
    return Text("rate  " + "   ".join(parts) if parts else "no rate yet", style="dim")


def _only(diagnosis: Diagnosis, verdicts: Sequence[Verdict]) -> Diagnosis:
    return replace(diagnosis, verdicts=tuple(verdicts))


def _finding(finding: Finding) -> Text:
    text = Text(f"{MARKS[finding.level]} ", style=STYLES[finding.level], no_wrap=True, overflow="ellipsis")
    return text.append(printable(finding.text), style="default not bold")


def _stamp(path: Path) -> object:
    """What changes when the run's files do: names, sizes and times of what lies in it."""
    found = []
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            found.append((folder, name, status.st_size, status.st_mtime_ns))
    return sorted(found)
