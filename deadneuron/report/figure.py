"""A run as a matplotlib figure: the learning rate above, the dead share of each layer or one layer's units below.

The only room that imports matplotlib. It makes figures without pyplot, so that no window opens, no display is needed
and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deadneuron.pictures import UNSEEN, Picture, SitePicture
from deadneuron.report.style import printable
from deadneuron.states import ACTIVE, DEAD, STATE_NAMES

COLOURS = ("#e2e9ee", "#74c0ee", "#da8f00", "#a50f28", "#ffffff")
"""Of active, rare, silent, dead and not seen: those of the page and of the tab (see web/palette.js)."""

_COLUMNS = 1024  # of the picture; runs with fewer steps have a column a step
_HEIGHTS = (4.0, 8.0)  # inches
_LONGEST = 32  # characters of a layer's name
_NAMED = 40  # rows that are named


class RunFigure(Figure):
    """A figure that shows itself in a notebook, also where no matplotlib backend was chosen."""

    def _repr_png_(self) -> bytes:
        out = BytesIO()
        self.savefig(out, format="png")
        return out.getvalue()


def layers_figure(picture: Picture) -> RunFigure:
    """Layers × steps: the share of units that are dead; a layer is a row, in the order of the forward pass."""
    sites = picture.sites
    figure, rate, below = _figure(picture, rows=len(sites))
    shares = np.full((len(sites), _width(picture)), np.nan)
    for row, site in enumerate(sites):
        columns = _columns(picture, site)
        shares[row, columns >= 0] = site.dead[columns[columns >= 0]] / 255
    colours = _shading()
    norm = Normalize(0, 1)
    below.imshow(
        shares, cmap=colours, norm=norm, aspect="auto", interpolation="nearest", extent=_extent(picture, len(sites))
    )
    _name_rows(below, [site.name for site in sites])
    for row, site in enumerate(sites):
        steps = sorted({death.first for death in site.deaths if not death.born})
        below.vlines(steps, row + 0.86, row + 1.0, color="black", linewidth=0.6)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=below, location="right", pad=0.01)
    bar.set_label("share of units that are dead")
    rate.set_title(_text(f"{picture.name}: dead units, and deaths as ticks"), loc="left", fontsize="medium")
    return figure


def units_figure(picture: Picture, site: SitePicture) -> RunFigure:
    """Units × steps of one layer: active, rare, silent, dead."""
    rows = site.states.shape[0]
    figure, rate, below = _figure(picture, rows=rows)
    columns = _columns(picture, site)
    states = np.full((rows, len(columns)), UNSEEN, dtype=np.uint8)
    states[:, columns >= 0] = site.states[:, columns[columns >= 0]]
    below.imshow(
        states,
        cmap=ListedColormap(list(COLOURS)),
        norm=Normalize(-0.5, UNSEEN + 0.5),
        aspect="auto",
        interpolation="nearest",
        extent=(*_extent(picture, rows)[:2], site.units, 0) if site.per_row == 1 else _extent(picture, rows),
    )
    below.set_ylabel("unit" if site.per_row == 1 else f"rows of {site.per_row} units")
    patches = [Patch(facecolor=c, edgecolor="#888888", label=n) for c, n in zip(COLOURS, STATE_NAMES, strict=False)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    rate.set_title(
        _text(f"{picture.name}: {site.name} ({site.op}, {site.units:,} units)"), loc="left", fontsize="medium"
    )
    return figure


def _shading() -> Colormap:
    """From active to dead; a little is told from nothing."""
    low, high = (np.array(to_rgb(COLOURS[state])) for state in (ACTIVE, DEAD))
    amounts = np.r_[0.0, 0.12 + 0.88 * np.sqrt(np.arange(1, 256) / 255)]
    colours = ListedColormap([tuple(low + amount * (high - low)) for amount in amounts])
    return colours.with_extremes(bad=COLOURS[UNSEEN])


def _figure(picture: Picture, rows: int) -> tuple[RunFigure, Axes, Axes]:
    height = float(np.clip(2.6 + 0.22 * rows, *_HEIGHTS))
    figure = RunFigure(figsize=(9.0, height), layout="constrained")
    rate, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.2, height - 1.2])
    for group, points in picture.rates:
        # A rate holds for its whole step: it is drawn as stairs, from this step to the next.
        steps = [*(step for step, _ in points), picture.last_step + 1]
        values = [value for _, value in points]
        if values:
            rate.step(steps, [*values, values[-1]], where="post", linewidth=1.2, label=_text(group))
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    if len(picture.rates) > 1:
        rate.legend(frameon=False, fontsize="small", loc="upper right")
    rate.spines[["top", "right"]].set_visible(False)
    below.set_xlabel("step")
    below.set_xlim(picture.first_step, picture.last_step + 1)
    return figure, rate, below


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    every = -(-len(names) // _NAMED) if names else 1
    places = range(0, len(names), every)
    axes.set_yticks([place + 0.5 for place in places], [_text(names[place], _LONGEST) for place in places])


def _text(text: str, longest: int = 100) -> str:
    """No name is a formula: matplotlib reads what stands between two dollars as one."""
    shown = printable(text)
    shown = shown if len(shown) <= longest else f"{shown[: longest // 2]}…{shown[-longest // 2 + 1 :]}"
    return shown.replace("$", r"\$")


def _width(picture: Picture) -> int:
    return int(np.clip(picture.last_step + 1 - picture.first_step, 1, _COLUMNS))


def _columns(picture: Picture, site: SitePicture) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of each column of the figure the site's column that holds its middle step; -1 where none does."""
    edges = np.linspace(picture.first_step, picture.last_step + 1, _width(picture) + 1)
    middle = np.floor((edges[:-1] + edges[1:]) / 2).astype(np.int64)
    place = np.searchsorted(site.last, middle)
    found = np.minimum(place, len(site.last) - 1)
    return np.where((place < len(site.last)) & (site.first[found] <= middle), found, -1)


def _extent(picture: Picture, rows: int) -> tuple[float, float, float, float]:
    return (picture.first_step, picture.last_step + 1, rows, 0)
