"""Bands of rates and their hazards in words, for tables and drawings alike."""

from __future__ import annotations

from deadneuron.causes import RateBand
from deadneuron.report.cells import span


def rates(band: RateBand) -> str:
    return span(f"{band.low:.3g}", f"{band.high:.3g}")


def hazard(value: float | None, low: float | None, high: float | None) -> str:
    """A thousandfold, with its interval in brackets where there is one."""
    if value is None:
        return "–"
    between = "" if low is None or high is None else f" ({_thousand(low)}–{_thousand(high)})"
    return _thousand(value) + between


def _thousand(value: float) -> str:
    return f"{1000 * value:.2g}"
