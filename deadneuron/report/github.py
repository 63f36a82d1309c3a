"""Findings as annotations of a GitHub workflow: one command a finding, which the runner reads from stdout."""

from __future__ import annotations

from collections.abc import Iterable

from deadneuron.records import LEVELS, Diagnosis, Finding, Level
from deadneuron.report.style import printable

_COMMANDS: dict[Level, str] = {"note": "notice", "warning": "warning", "severe": "error"}
_DATA = {ord(char): f"%{ord(char):02X}" for char in "%\r\n"}  # what the runner turns back in a message, and no more
_PROPERTY = _DATA | {ord(char): f"%{ord(char):02X}" for char in ":,"}  # … and in a title


def render_github(diagnosis: Diagnosis) -> str:
    """One annotation a finding, the gravest first; nothing where there is none."""
    return annotated(diagnosis.findings)


def annotated(findings: Iterable[Finding]) -> str:
    """A line each, the gravest first: GitHub shows ten of a level and step, and drops the rest."""
    ordered = sorted(findings, key=lambda finding: -LEVELS.index(finding.level))
    return "".join(f"{_annotation(finding)}\n" for finding in ordered)


def _annotation(finding: Finding) -> str:
    title = printable(f"deadneuron: {finding.code}, {finding.where}").strip()
    lines = [finding.text, *finding.advice.splitlines()]
    message = "\n".join(printable(line) for line in lines if line.strip())
    return f"::{_COMMANDS[finding.level]} title={title.translate(_PROPERTY)}::{message.translate(_DATA)}"
