"""A `Difference` as text for a terminal and as markdown for a pull request."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from deadneuron.analysis.difference import Change, Difference, Way
from deadneuron.records import Finding
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


def difference_text(difference: Difference, *, width: int = 120) -> str:
    """Layers that changed, then findings: new, known, gone."""
    lines = [f"{printable(difference.before)} → {printable(difference.after)}", "", _verdict(difference), ""]
    names = max((len(printable(change.name)) for change in difference.changes), default=0)
    lines += [f"  {_SIGNS[one.way]} {printable(one.name):<{names}}  {one.text}" for one in _sorted(difference)]
    for title, found in _groups(difference):
        lines += ["", title]
        for finding in found:
            mark = f"  {MARKS[finding.level]} "
            text = f"{printable(finding.text)} [{finding.code}]"
            lines += textwrap.wrap(text, width, initial_indent=mark, subsequent_indent="    ")
    for note in difference.notes:
        lines += ["", *textwrap.wrap(f"note: {printable(note)}", width, subsequent_indent="      ")]
    return "\n".join(lines) + "\n"


def _verdict(difference: Difference) -> str:
    counts = {way: sum(change.way == way for change in difference.changes) for way in _ORDER}
    said = [f"{counts[way]} {way}" for way in _ORDER if counts[way]]
    status = f"{MARKS[difference.status_before]} {difference.status_before} → "
    status += f"{MARKS[difference.status_after]} {difference.status_after}"
    layers = f"layers: {', '.join(said)}" if said else "no layers"
    return f"{status}; {layers}; {len(difference.new)} new findings"


def _sorted(difference: Difference) -> list[Change]:
    return sorted(difference.changes, key=lambda change: _ORDER.index(change.way))


def _groups(difference: Difference) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    named = (("NEW", difference.new), ("KNOWN", difference.known), ("GONE", difference.gone))
    return ((title, found) for title, found in named if found)
