"""Which figure a place of the page gets."""

from __future__ import annotations

from deadneuron.causes import Observed, Trial
from deadneuron.report.charts.bands import bands
from deadneuron.report.charts.figures import Figure, Forest
from deadneuron.report.charts.forest import forest
from deadneuron.report.charts.response import response
from deadneuron.report.page import Chart


def figure_of(chart: Chart) -> Figure | Forest | None:
    """None where there is nothing to draw."""
    if isinstance(chart.of, Observed):
        return bands(chart.of)
    if isinstance(chart.of, Trial):
        return response(chart.of)
    return forest(chart.of)
