"""Findings as annotations of a GitHub workflow: one command a finding, which the runner reads from stdout."""

from __future__ import annotations

from collections.abc import Iterable

from deadneuron.records import LEVELS, Diagnosis, Finding, Level
from deadneuron.report.style import printable

_COMMANDS: dict[Level, str] = {"note": "notice", "warning": "warning", "severe": "error"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}  # what the runner turns back in a message, and no more
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}  # … and in a title


def render_github(diagnosis: Diagnosis) -> str:
    """One annotation a finding, the gravest first; nothing where there is none."""
    return annotations(diagnosis.findings)


def annotations(findings: Iterable[Finding]) -> str:
    """A line each, the gravest first: GitHub shows ten of a level and step, and drops the rest."""
    ordered = sorted(findings, key=lambda finding: -LEVELS.index(finding.level))
    return "".join(f"{_annotation(finding)}\n" for finding in ordered)


def _annotation(finding: Finding) -> str:
    title = printable(f"deadneuron: {finding.code}, {finding.where}").strip()
    lines = [finding.text, *finding.advice.splitlines()]
    message = "\n".join(printable(line) for line in lines if line.strip())
    return f"::{_COMMANDS[finding.level]} title={_escaped(title, _PROPERTY)}::{_escaped(message, _DATA)}"


def _escaped(text: str, table: dict[str, str]) -> str:
    return text.translate(str.maketrans(table))
