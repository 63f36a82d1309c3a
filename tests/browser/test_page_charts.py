"""The drawings over the learning rate in a real browser: nothing runs, nothing overlaps, all is seen in the dark."""

from __future__ import annotations

from itertools import combinations

import pytest
from diagnoses import KINDS

from deadneuron.report.html import render_html

BOXES = """return [...arguments[0].querySelectorAll(arguments[1])].map((one) => {
  const b = one.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]; })"""
OUT = """const wide = document.documentElement.clientWidth;
return [...document.querySelectorAll('.chart *')].filter((one) => {
  const b = one.getBoundingClientRect(); return b.width && (b.right > wide + 0.5 || b.left < -0.5);
}).map((one) => one.outerHTML.slice(0, 99))"""


@pytest.fixture
def page(look, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render_html(KINDS["tried"]()), "utf-8")
    look.driver.get(file.as_uri())
    return look


def overlap(a, b) -> bool:
    return min(a[1], b[1]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[2], b[2]) > 0.5


@pytest.mark.parametrize("width", [320, 390, 700, 1300])
def test_labels_never_overlap_and_nothing_sticks_out(page, kept, width):
    page.size(width, 1000)
    assert page.js(OUT) == []
    plots = page.all(".chart svg.plot")
    assert len(plots) == 5 + 1 + 6  # panels, the axis of the ratios, and a row for each of these
    for plot in plots:
        boxes = page.js(BOXES, plot, "text")
        assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    page.photograph(kept, f"charts-{width}")


def test_marks_stand_at_their_rates_whatever_the_width(page):
    script = """return [...document.querySelectorAll('.panel .plot')].map((plot) => {
      const box = plot.getBoundingClientRect();
      return [...plot.querySelectorAll('.died .mark > .at')].map((at) => {
        const b = at.querySelector('.full, .hollow').getBoundingClientRect();
        return 100 * ((b.left + b.right) / 2 - box.left) / box.width - parseFloat(at.getAttribute('x')); }); })"""
    for width in (390, 1300):
        page.size(width, 1000)
        found = [distance for plot in page.js(script) for distance in plot]
        assert len(found) >= 9
        assert found == pytest.approx([0.0] * len(found), abs=0.2)


@pytest.mark.parametrize("dark", [False, True])
def test_marks_are_seen_on_their_paper(page, kept, dark):
    page.media(dark=dark)
    paper = page.js("return getComputedStyle(document.body).backgroundColor")
    style = "getComputedStyle(one)"
    full = page.js(f"return [...document.querySelectorAll('.chart .full')].map((one) => {style}.fill)")
    hollow = page.js(f"return [...document.querySelectorAll('.chart .hollow')].map((one) => {style}.stroke)")
    assert full
    assert hollow
    assert not {paper, "none", "rgb(0, 0, 0)"} & {*full, *hollow}
    colours = {
        name: page.js(f"return getComputedStyle(document.querySelector('.chart .{name} path')).stroke")
        for name in ("worst", "revived", "lost")
    }
    assert len(set(colours.values())) == 3
    page.photograph(kept, f"charts-{'dark' if dark else 'light'}")


def test_a_mark_tells_its_numbers(page):
    said = page.js("return [...document.querySelectorAll('.mark title')].map((one) => one.textContent)")
    assert "rate 1: 40 % (30–50) died" in said
    assert "lr 0.2 (×10): 60.0% died, 60 units" in said
