"""What a diagnosis and a run show of themselves in a notebook: a small piece of HTML without styles of its own."""

from __future__ import annotations

from deadneuron.frames import Run
from deadneuron.records import Diagnosis
from deadneuron.report.cells import EVERYWHERE, columns_of, rows_of
from deadneuron.report.html import environment
from deadneuron.report.sentences import page_of
from deadneuron.report.style import printable

_ROWS = 20  # layers that are shown
_COLUMNS = (*EVERYWHERE, "n", "3/n", "since", "at lr", "revived", "silent", "dead, over time")
_FINDINGS = 8


def diagnosis_html(diagnosis: Diagnosis) -> str:
    """Verdict, the layers that are worst, findings with what to do, and what was not measured."""
    rows = rows_of(diagnosis)
    shown = sorted(rows, key=lambda row: -(row.verdict.dead or 0) / (row.verdict.units or 1))[:_ROWS]
    kept = {id(row) for row in shown}
    return (
        environment()
        .get_template("diagnosis.html")
        .render(
            page=page_of(diagnosis),
            columns=[column for column in columns_of(diagnosis) if column.header in _COLUMNS],
            rows=[row for row in rows if id(row) in kept],
            more=len(rows) - len(shown),
            findings=diagnosis.findings[:_FINDINGS],
            others=max(len(diagnosis.findings) - _FINDINGS, 0),
            printable=printable,
        )
    )


def run_html(run: Run) -> str:
    """What it is, its layers, and how to go on."""
    sites = run.sites
    steps = run.ticks["step"]
    return (
        environment()
        .get_template("run.html")
        .render(
            name=printable(run.name),
            info=run.info,
            steps=f"{int(steps.max()) + 1:,} steps" if len(steps) else "no steps yet",
            groups=", ".join(printable(group) for group in run.info.groups),
            sites=sites[:_ROWS],
            more=max(len(sites) - _ROWS, 0),
            seen=run.timelines.keys(),
            gaps=len(run.gaps),
            printable=printable,
        )
    )
