"""A comparison for a terminal, as Markdown for a pull request, and as annotations of a GitHub workflow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from deadneuron.analysis.difference import Change, Difference, Way
from deadneuron.records import Finding, Verdict
from deadneuron.report.cells import at_least, known
from deadneuron.report.escape import code, escaped
from deadneuron.report.github import annotated
from deadneuron.report.style import MARKS, printable

_SIGNS: dict[Way, str] = {
    "worse": "✗",
    "better": "✓",
    "same": "=",
    "only before": "-",
    "only after": "+",
    "unknown": "?",
}
_ORDER: tuple[Way, ...] = ("worse", "better", "only after", "only before", "unknown", "same")


@dataclass(frozen=True, slots=True)
class _Group:
    """Findings that fared alike."""

    title: str
    findings: tuple[Finding, ...]
    advised: bool  # what is to be done matters


def difference_text(difference: Difference, *, width: int = 120, then: Sequence[str] = ()) -> str:
    """Layers that changed, then findings: new, graver, known, lighter, gone; at the end `then`, what to type next."""
    lines = [f"{printable(difference.before)} → {printable(difference.after)}", "", _verdict(difference)]
    shown, same = _told(difference)
    names = max((cell_len(printable(change.name)) for change in shown), default=0)
    if shown:
        lines += ["", "LAYERS"]
        lines += [f"  {_SIGNS[one.way]} {set_cell_size(printable(one.name), names)}  {_counts(one)}" for one in shown]
        lines += [f"  = {same}"] if same else []
    for group in _groups(difference):
        lines += ["", group.title.upper()]
        for finding in group.findings:
            lines += _wrapped(f"  {MARKS[finding.level]} ", f"{printable(finding.text)} [{finding.code}]", width)
            advice = finding.advice.splitlines() if group.advised else []
            lines += [line for one in advice for line in _wrapped("    → ", printable(one), width)]
    if difference.notes:
        lines += ["", "HOW FAR THEY CAN BE COMPARED"]
        lines += [line for note in difference.notes for line in _wrapped("  · ", printable(note), width)]
    if then:
        lines += ["", "NEXT", *(f"  {printable(command)}" for command in then)]
    return "\n".join(lines) + "\n"


def difference_markdown(difference: Difference, *, then: Sequence[str] = ()) -> str:
    """The same for a pull request or a job's summary. Whatever a layer or a run is called stays text."""
    lines = [f"## {escaped(_verdict(difference))}", "", f"{code(printable(difference.before))} → "]
    lines[-1] += code(printable(difference.after)) or "?"
    shown, same = _told(difference)
    if shown:
        lines += ["", "| | layer | before | after |", "| :-- | :-- | --: | --: |"]
        for one in shown:
            cells = (_SIGNS[one.way], code(printable(one.name), cell=True), _dead(one.before), _dead(one.after))
            lines.append(f"| {' | '.join((*cells[:2], *map(escaped, cells[2:])))} |")
    if same:
        lines += ["", escaped(same)]
    for group in _groups(difference):
        lines += ["", f"### {group.title}", ""]
        for finding in group.findings:
            lines.append(f"- **{MARKS[finding.level]} {finding.level}**: {escaped(printable(finding.text))}")
            advice = finding.advice.splitlines() if group.advised else []
            lines += [f"  - {escaped(printable(one))}" for one in advice if one.strip()]
    if difference.notes:
        lines += ["", "### How far they can be compared", ""]
        lines += [f"- {escaped(printable(note))}" for note in difference.notes]
    if then:
        lines += ["", "### Next", "", *(f"- {code(printable(command))}" for command in then)]
    return "\n".join(lines) + "\n"


def difference_github(difference: Difference) -> str:
    """One annotation for each finding that is new or graver: a workflow is told what a change did, and no more."""
    return annotated((*difference.new, *difference.graver))


def _verdict(difference: Difference) -> str:
    counts = {way: sum(change.way == way for change in difference.changes) for way in _ORDER}
    layers = ", ".join(f"{counts[way]} {way}" for way in _ORDER if counts[way])
    status = f"{MARKS[difference.status_before]} {difference.status_before} → "
    status += f"{MARKS[difference.status_after]} {difference.status_after}"
    found = [f"{len(group.findings)} {group.title.lower()}" for group in _groups(difference)]
    said = ", ".join(found) if found else "none new, none gone"
    return f"{status}; layers: {layers or 'none'}; findings: {said}"


def _told(difference: Difference) -> tuple[list[Change], str]:
    """The layers that are listed, those that fared worse first, and what is said of all others."""
    listed = sorted(
        (change for change in difference.changes if change.way != "same"), key=lambda change: _ORDER.index(change.way)
    )
    same = len(difference.changes) - len(listed)
    return listed, f"{same} {'layers' if same != 1 else 'layer'} about the same" if same else ""


def _groups(difference: Difference) -> Iterator[_Group]:
    groups = (
        _Group("New", difference.new, advised=True),
        _Group("Graver", difference.graver, advised=True),
        _Group("Known", difference.known, advised=False),
        _Group("Lighter", difference.lighter, advised=False),
        _Group("Gone", difference.gone, advised=False),
    )
    return (group for group in groups if group.findings)


def _counts(change: Change) -> str:
    if change.before is None:
        return f"{_dead(change.after)}, in the second only"
    if change.after is None:
        return f"{_dead(change.before)}, in the first only"
    return f"{_dead(change.before)} → {_dead(change.after)}"


def _dead(verdict: Verdict | None) -> str:
    if verdict is None:
        return "–"
    if not known(verdict):
        return "not seen"
    more = "≥" if at_least(verdict) else ""
    share = (verdict.dead or 0) / (verdict.units or 1)
    return f"{MARKS[verdict.status]} {more}{verdict.dead:,} of {verdict.units:,} dead ({share:.0%})"


def _wrapped(mark: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), initial_indent=mark, subsequent_indent=" " * len(mark))
