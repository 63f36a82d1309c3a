"""Which of several statuses is the gravest, and whether a diagnosis has findings of a level."""

from __future__ import annotations

from collections.abc import Sequence

from deadneuron.records import LEVELS, Diagnosis, Level, Status


def fails(diagnosis: Diagnosis, level: Level) -> bool:
    """Whether a finding is at or above `level`."""
    return any(LEVELS.index(finding.level) >= LEVELS.index(level) for finding in diagnosis.findings)


def gravest(found: Sequence[Status | Level]) -> Status:
    """The gravest of them; a note is no worse than healthy."""
    order: tuple[Status, ...] = ("severe", "warning", "unknown")
    return next((status for status in order if status in found), "healthy")
