"""The report page in a real browser, from a file: what it draws is what was planted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from diagnoses import KINDS
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows
from selenium.webdriver.common.keys import Keys

from deadneuron.report.html import render_html

STEPS, UNITS, LAST = 300, 31, 299
SILENT = {0: [(0, LAST)], 5: [(20, LAST)], 9: [(11, 190)], 17: [(20, LAST)], 23: [(101, LAST)]}
ACTIVE, SILENTLY, DEAD = 0, 2, 3
RED = [165, 15, 40]


def planted(name="layers.0.act", other="layers.1.act"):
    first, second = make_site(0, UNITS, name=name), make_site(1, 13, name=other)
    windows = make_windows(first, lives(UNITS, STEPS, SILENT), ends_every(50, STEPS))
    windows += make_windows(second, lives(13, STEPS, {}), ends_every(50, STEPS))
    return make_run([first, second], windows, make_ticks([0.1 if step < 100 else 0.02 for step in range(STEPS)]))


@pytest.fixture
def page(look, write_page):
    look.open(write_page(planted()))
    return look


def test_rows_of_dead_units_are_red_from_the_window_they_are_dead_in(page):
    middles = [(a + 25) / STEPS for a in range(0, STEPS, 50)]  # of the six windows
    rows = page.states(middles)
    assert len(rows) == UNITS
    # Sorted by death: born dead; 5 and 17, silent from step 20; 23 from 101; 9 revived; then those that never died.
    assert rows[0] == [SILENTLY, DEAD, DEAD, DEAD, DEAD, DEAD]
    assert rows[1] == rows[2] == [ACTIVE, SILENTLY, DEAD, DEAD, DEAD, DEAD]
    assert rows[3] == [ACTIVE, ACTIVE, ACTIVE, SILENTLY, DEAD, DEAD]
    assert rows[4] == [ACTIVE, SILENTLY, DEAD, ACTIVE, ACTIVE, ACTIVE]
    assert rows[5:] == [[ACTIVE] * 6] * (UNITS - 5)


def test_the_heat_map_is_redder_where_more_units_are_dead(page):
    script = """const c = document.querySelectorAll('.dn-heat')[arguments[0]]; const g = c.getContext('2d');
      return [25, 75, 125, 175, 225, 275].map((s) => g.getImageData(Math.floor(s / 300 * c.width), 4, 1, 1).data[1])"""
    first = page.js(script, 0)  # green goes as red comes: 0, 1, 4, 3, 4, 4 of 31 are dead
    assert first[0] > first[1] > first[3] > first[2] == first[4] == first[5]
    assert len(set(page.js(script, 1))) == 1
    seam = """const c = document.querySelector('.dn-heat');
      const d = c.getContext('2d').getImageData(0, 4, c.width, 1).data;
      return new Set([...Array(c.width).keys()].map((x) => [...d.slice(4 * x, 4 * x + 4)].join())).size"""
    assert page.js(seam) == 4, "no colour but those of the four shares, so no seam"


def test_a_click_opens_and_closes_a_layer(page):
    shown = lambda: [one.get_attribute("aria-expanded") for one in page.all(".dn-name")]  # noqa: E731
    assert shown() == ["true", "false"]
    page.all(".dn-name")[1].click()
    assert shown() == ["true", "true"]
    assert len(page.all(".dn-raster")) == 2
    page.all(".dn-name")[0].click()
    assert shown() == ["false", "true"]
    assert len(page.all(".dn-raster")) == 1


def test_the_pointer_names_the_unit_its_state_and_its_death(page):
    raster = page.find(".dn-raster")
    thick, width = int(raster.get_attribute("data-thick")), raster.size["width"]
    said = page.point(raster, width * 275 / STEPS, 1.5 * thick)
    assert said.splitlines() == [
        "layers.0.act, unit 5",
        "dead in steps 250–299",
        "died in step 19 at rate 0.1, dead to the end",
        "silent on n ≥ 1,650 examples: it fires on at most 0.00182 of all (95 %)",  # the least of them: 23
    ]
    assert "unit 0\nsilent in steps 0–49\nborn dead, to the end" in page.point(raster, 5, 1)
    assert "steps 150–199" in page.point(page.find(".dn-heat"), width * 0.55, 5)
    assert "dead 10 %, silent 3 %" in page.tip()
    page.point(page.find("h1"), 5, 5)
    assert page.tip() == ""


def test_the_tip_stays_in_the_window(page):
    raster = page.find(".dn-raster")
    for x, y in ((1, 1), (raster.size["width"] - 2, raster.size["height"] - 2)):
        page.point(raster, x, y)
        edges = "const b = document.querySelector('.dn-tip').getBoundingClientRect();"
        box = page.js(f"{edges} return [b.left, b.right, b.top, b.bottom, innerWidth, innerHeight]")
        assert 0 <= box[0] < box[1] <= box[4]
        assert 0 <= box[2] < box[3] <= box[5]


def test_a_brush_looks_closer_and_escape_shows_all(page):
    heat = page.all(".dn-heat")[1]
    width = heat.size["width"]
    page.drag(heat, width * 0.5, width * 0.9)
    assert page.zoom() == pytest.approx([150, 269], abs=2)  # a pixel is no step
    assert page.states([0.05])[3] == [SILENTLY]
    page.find(".dn-name").click()
    page.keys(Keys.ESCAPE)
    assert page.find(".dn-bar").text == "all steps"
    page.drag(page.all(".dn-heat")[1], width * 0.1, width * 0.3)
    page.find(".dn-all").click()
    assert page.find(".dn-bar").text == "all steps"
    page.drag(page.all(".dn-heat")[1], 40, 42)
    assert page.find(".dn-bar").text == "all steps", "a click is no brush"


def test_rows_can_be_sorted(page):
    from selenium.webdriver.support.ui import Select

    def dead():
        return [row for row, (state,) in enumerate(page.states([0.99])) if state == DEAD]

    assert dead() == [0, 1, 2, 3]
    Select(page.find(".dn-select")).select_by_visible_text("by unit")
    assert dead() == [0, 5, 17, 23]
    Select(page.find(".dn-select")).select_by_visible_text("by time dead")
    assert dead() == [0, 1, 2, 3]


def test_everything_can_be_done_with_the_keyboard(page):
    page.keys(Keys.TAB)
    assert page.js("return document.activeElement.className") == "dn-name"
    assert "dead 13 %" in page.tip(), "on focus the layer's numbers at the end"
    page.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert "steps 150–199" in page.tip()
    page.keys(Keys.ARROW_DOWN)
    assert "layers.1.act" in page.tip()
    page.keys(Keys.ENTER)
    assert len(page.all(".dn-raster")) == 2
    assert page.js("return document.activeElement.textContent").startswith("layers.1.act")
    page.keys(Keys.ARROW_UP, Keys.TAB, Keys.TAB)
    assert page.js("return document.activeElement.className") == "dn-raster"
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert "unit 5" in page.tip()
    page.keys(Keys.END)
    assert "dead in steps 250–299" in page.tip()
    page.find("h1").click()
    assert page.tip() == ""


def test_dark_mode_has_colours_of_its_own(page, kept):
    page.media(dark=True)
    page.until(lambda: page.js(f"return {PIXEL}") != RED)
    assert [row for row, (state,) in enumerate(page.states([0.99], dark=True)) if state == DEAD] == [0, 1, 2, 3]
    page.photograph(kept, "page-dark")


PIXEL = "[...document.querySelector('.dn-raster').getContext('2d').getImageData(300, 1, 1, 1).data].slice(0, 3)"


def test_print_is_drawn_for_white_paper_and_fits_it(page):
    page.media(dark=True, kind="print")
    page.js("window.dispatchEvent(new Event('beforeprint'))")
    assert page.js(f"return {PIXEL}") == RED
    page.size(688, 1000)  # a sheet of A4 without its margins
    assert page.overflow() == []
    assert not page.find(".dn-bar").is_displayed()
    boxes = "[...document.querySelectorAll('.dn-row, .dn-open, .dn-steps')].map((n) => n.getBoundingClientRect())"
    rows = page.js(f"return {boxes}.map((box) => [box.top, box.bottom])")
    assert all(below[0] >= above[1] for above, below in pairwise(rows)), "nothing lies over another"
    page.js("window.dispatchEvent(new Event('afterprint'))")


@pytest.mark.parametrize("width", [320, 700])
def test_a_narrow_window_cuts_nothing(page, width):
    page.size(width, 800)
    page.until(lambda: page.find(".dn").size["width"] <= width)
    page.until(lambda: page.overflow() == [])
    assert page.states([0.99])[3] == [DEAD]


def test_histograms_are_drawn_and_tell_their_shares(page):
    picture = page.find(".dn-histogram")
    said = page.point(picture, picture.size["width"] - 10, picture.size["height"] - 9)
    assert "% of its pre-activations lie from" in said


def test_a_picture_can_be_photographed(page, kept):
    page.photograph(kept, "page-light")
    assert page.find(".dn-rates").size["height"] > 50


@pytest.mark.parametrize("kind", ["dying", "tried", "stuck"])
def test_the_printed_tables_fit_the_sheet_with_all_their_columns(look, tmp_path, kind):
    made = KINDS[kind]()
    wide = {"name": f"encoder.layers.{10**6}.feed_forward.activation", "samples": 35_200_000, "bound": 8.5e-08}
    wide |= {"evidence": "measured", "since": 31_250, "since_latest": 62_499, "rates": (0.0752, 0.0933)}
    wide |= {"revived": 3, "silent": 2, "rare": 7, "dormant": 13}
    verdicts = (replace(made.verdicts[0], **wide), *made.verdicts[1:])
    file = tmp_path / "report.html"
    file.write_text(render_html(replace(made, verdicts=verdicts), None), "utf-8")
    look.driver.get(file.as_uri())
    look.media(kind="print")
    look.size(688, 1000)  # a sheet of A4 without its margins
    widths = look.js("return [...document.querySelectorAll('table')].map((one) => one.getBoundingClientRect().right)")
    assert max(widths) <= 688
    assert look.find(".layers .name").size["width"] > 30, "names are still read"
