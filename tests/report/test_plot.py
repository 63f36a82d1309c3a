"""`run.plot()`: the colour of every unit in every window, without a display and without pyplot."""

from __future__ import annotations

import json
import re
import sys
import warnings

import numpy as np
import pytest
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows
from matplotlib.colors import to_rgb
from naming import HOSTILE

import deadneuron
from deadneuron.errors import MissingExtraError, UsageError
from deadneuron.report.bundle import web_file
from deadneuron.report.figure import COLOURS

STEPS, UNITS, LENGTH = 307, 31, 50
SILENT = {0: [(0, STEPS - 1)], 5: [(20, STEPS - 1)], 9: [(11, 150)]}
NAMES = ("active", "rare", "silent", "dead")


def made(name="layers.0.act", **info):
    sites = [
        make_site(0, UNITS, name=name),
        make_site(1, 7, name="layers.1.act"),
        make_site(2, 53, name="layers.2.act"),
    ]
    windows = make_windows(sites[0], lives(UNITS, STEPS, SILENT), ends_every(LENGTH, STEPS))
    later = [None] * 100 + lives(7, STEPS, {2: [(0, STEPS - 1)]})[100:]  # not seen before step 100
    windows += make_windows(sites[1], later, ends_every(LENGTH, STEPS))
    windows += make_windows(sites[2], lives(53, STEPS, {}), ends_every(LENGTH, STEPS))
    return make_run(sites, windows, make_ticks([0.25 if step < 100 else 0.125 for step in range(STEPS)]), **info)


@pytest.fixture(scope="module")
def run():
    assert deadneuron.Run is not None  # the public face teaches runs to draw themselves
    return made()


class Pixels:
    """A figure as it is drawn: what colour is at a place of its lower axes."""

    def __init__(self, figure):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.pixels = np.asarray(canvas.buffer_rgba())
        self.axes = figure.axes[1]

    def at(self, step, row):
        x, y = self.axes.transData.transform((step, row))
        return tuple(int(value) for value in self.pixels[self.pixels.shape[0] - 1 - int(y), int(x)][:3])


def rgb(colour):
    return tuple(round(255 * part) for part in to_rgb(colour))


def test_every_unit_in_every_window_has_the_colour_of_its_state(run):
    drawn = Pixels(run.plot(layer="layers.0.act"))
    from deadneuron.analysis.diagnosis import diagnose
    from deadneuron.analysis.picture import picture_of

    site = picture_of(run, diagnose(run)).sites[0]
    assert site.states[0, -1] == site.states[5, -1] == 3
    for unit in range(UNITS):
        for column, (first, last) in enumerate(zip(site.first, site.last, strict=True)):
            middle = (first + last + 1) / 2
            assert drawn.at(middle, unit + 0.5) == rgb(COLOURS[site.states[unit, column]]), (unit, column)


def test_the_colours_are_those_of_the_page():
    (light,) = re.findall(r"const LIGHT = (\[.*\]);", web_file("palette.js"))
    assert [tuple(colour) for colour in json.loads(light)] == [rgb(colour) for colour in COLOURS]


def test_the_planted_dead_rows_are_the_only_dead_ones(run):
    drawn = Pixels(run.plot(layer="layers.0.act"))
    dead = [unit for unit in range(UNITS) if drawn.at(290.5, unit + 0.5) == rgb(COLOURS[3])]
    assert dead == [0, 5]
    assert drawn.at(10.5, 5.5) == rgb(COLOURS[0])


def test_layers_are_darker_the_more_of_their_units_are_dead_and_white_before_they_were_seen(run):
    drawn = Pixels(run.plot())
    shares = [drawn.at(280.5, row + 0.4) for row in range(3)]
    assert shares[2] == rgb(COLOURS[0])
    assert drawn.at(40.5, 1.4) == rgb(COLOURS[4])
    assert drawn.at(280.5, 1.4) not in (rgb(COLOURS[0]), rgb(COLOURS[4]))
    assert shares[1][1] < shares[0][1] < shares[2][1], "1 of 7 is more than 2 of 31, and that is more than none"


def test_the_rate_stands_above_on_the_same_steps_as_stairs(run):
    figure = run.plot()
    rate, below, *_ = figure.axes
    (line,) = rate.lines
    steps, values = line.get_data()
    assert rate.get_xlim() == below.get_xlim() == (0, STEPS)
    assert line.get_drawstyle() == "steps-post"
    pairs = dict(zip(steps, values, strict=True))
    assert (pairs[99], pairs[100], pairs[STEPS]) == (0.25, 0.125, 0.125)
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["layers.0.act", "layers.1.act", "layers.2.act"]


def test_a_figure_shows_itself_and_needs_no_pyplot(run):
    before = "matplotlib.pyplot" in sys.modules
    assert run.plot()._repr_png_().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_many_units_are_pooled_into_rows_that_say_so():
    site = make_site(0, 1031)
    silent = {unit: [(0, STEPS - 1)] for unit in range(515)}
    run = make_run([site], make_windows(site, lives(1031, STEPS, silent), ends_every(LENGTH, STEPS)), make_ticks([0.1]))
    drawn = Pixels(run.plot(layer="layer0"))
    assert drawn.axes.get_ylabel() == "rows of 5 units"
    assert drawn.at(250.5, 50.5) == rgb(COLOURS[3])
    assert drawn.at(250.5, 150.5) == rgb(COLOURS[0])


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_a_formula_or_breaks_the_figure(name):
    run = made(name, groups=(name,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        for figure in (run.plot(), run.plot(layer=name)):
            Pixels(figure)


def test_no_such_layer_and_nothing_seen_are_said(run):
    with pytest.raises(UsageError, match=r"no layer 'nope' was seen .*'layers\.0\.act'"):
        run.plot(layer="nope")
    with pytest.raises(UsageError, match="nothing was seen"):
        make_run([make_site(0, 7)], [], make_ticks([0.1])).plot()


def test_without_matplotlib_the_extra_is_named(run, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "deadneuron.report.figure")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"deadneuron\[plot\]"):
        run.plot()
