"""`run.plot()`: what is drawn, and what is said where matplotlib is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.picture import picture_of
from deadneuron.errors import MissingExtraError, UsageError
from deadneuron.frames import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_run(run: Run, layer: str | None = None) -> Figure:
    """The dead share of each layer over the steps below the learning rate, or the units of one `layer`.

    Raises `MissingExtraError` without matplotlib, and `UsageError` where there is nothing to draw or no such layer.
    """
    try:
        from deadneuron.report.figure import layers_figure, units_figure
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        todo = "pip install 'deadneuron[plot]'"
        raise MissingExtraError("a figure needs matplotlib", todo=todo) from None
    picture = picture_of(run, diagnose(run))
    if not picture.sites:
        raise UsageError("nothing was seen, so there is nothing to draw", where=run.name, todo="see run.gaps")
    if layer is None:
        return layers_figure(picture)
    found = [site for site in picture.sites if site.name == layer]
    if not found:
        names = ", ".join(repr(site.name) for site in picture.sites[:5]) + (" …" if len(picture.sites) > 5 else "")
        raise UsageError(f"no layer {layer!r} was seen", where=run.name, todo=f"give one of {names}")
    return units_figure(picture, found[0])
