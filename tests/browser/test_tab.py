"""The tab in a real TensorBoard, with both of its loaders, in a real browser: what it draws is what was planted."""

from __future__ import annotations

import pytest
from making import ends_every, lives, make_info, make_site, make_ticks, make_windows
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from serving import serving

from deadneuron.sinks.replay import replay
from deadneuron.sinks.tensorboard import TensorBoard
from deadneuron.store.reader import StoredRun

STEPS, UNITS, LAST = 300, 31, 299
SILENT = {0: [(0, LAST)], 5: [(20, LAST)], 9: [(11, 190)], 17: [(20, LAST)], 23: [(101, LAST)]}
ACTIVE, SILENTLY, DEAD = 0, 2, 3
MIDDLES = [(a + 25) / STEPS for a in range(0, STEPS, 50)]  # of the six windows


def write(folder, silent, *, steps=STEPS, names=("layers.0.act", "layers.1.act"), rate=0.1):
    first, second = make_site(0, UNITS, name=names[0]), make_site(1, 13, name=names[1])
    windows = [
        window
        for one, other in zip(
            make_windows(first, lives(UNITS, steps, silent), ends_every(50, steps)),
            make_windows(second, lives(13, steps, {}), ends_every(50, steps)),
            strict=True,
        )
        for window in (one, other)
    ]
    ticks = make_ticks([rate if step < 100 else rate / 5 for step in range(steps)])
    replay(StoredRun(make_info([first, second]), tuple(windows), tuple(ticks), ()), TensorBoard(folder))


@pytest.fixture(scope="module", params=["fast", "slow"])
def server(request, tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    write(logs / "planted", SILENT)
    write(logs / "quiet", {}, steps=600, rate=0.4)
    loader = f"--load_fast={'true' if request.param == 'fast' else 'false'}"
    with serving(logs, logs.parent / f"said-{request.param}", loader) as made:
        made.wait("runs", lambda runs: set(runs) == {"planted", "quiet"})
        made.wait("overview", lambda one: one.get("steps", [0, 0])[1] == LAST, run="planted")
        made.wait("overview", lambda one: one.get("steps", [0, 0])[1] == 599, run="quiet")
        yield made


@pytest.fixture
def tab(look, server):
    look.driver.get(server.tab)
    look.until(lambda: look.all("iframe"))
    look.driver.switch_to.frame(look.find("iframe"))
    look.until(lambda: look.all(".dn-raster"))
    look.settle()
    return look


def test_the_tab_draws_the_planted_rows(tab, kept):
    assert tab.names() == ["layers.0.act", "layers.1.act"]
    rows = tab.states(MIDDLES)
    assert len(rows) == UNITS
    assert rows[0] == [SILENTLY, DEAD, DEAD, DEAD, DEAD, DEAD]
    assert rows[1] == rows[2] == [ACTIVE, SILENTLY, DEAD, DEAD, DEAD, DEAD]
    assert rows[3] == [ACTIVE, ACTIVE, ACTIVE, SILENTLY, DEAD, DEAD]
    assert rows[4] == [ACTIVE, SILENTLY, DEAD, ACTIVE, ACTIVE, ACTIVE]
    assert rows[5:] == [[ACTIVE] * 6] * (UNITS - 5)
    tab.photograph(kept, "tab")


def test_the_pointer_names_the_unit_its_state_and_its_death(tab):
    raster = tab.find(".dn-raster")
    thick, width = int(raster.get_attribute("data-thick")), raster.size["width"]
    assert tab.point(raster, width * 275 / STEPS, 1.5 * thick).splitlines() == [
        "layers.0.act, unit 5",
        "dead in steps 250–299",
        "died in step 19 at rate 0.1, dead to the end",
        "silent on n ≥ 1,650 examples: it fires on at most 0.00182 of all (95 %)",
    ]
    assert "unit 23" in tab.point(raster, width * 0.95, 3.5 * thick)
    assert "died in step 100 at rate 0.02" in tab.tip()
    assert "died in step 10 at rate 0.1, dead until step 190" in tab.point(raster, width * 0.4, 4.5 * thick)
    assert "born dead, to the end" in tab.point(raster, width * 0.4, 1)
    assert "dead 13 %, silent 0 %, rare 0 % of 31 units" in tab.point(tab.find(".dn-heat"), width * 0.95, 5)


def test_the_brush_and_escape(tab):
    heat = tab.all(".dn-heat")[1]
    tab.drag(heat, heat.size["width"] * 0.5, heat.size["width"] * 0.9)
    assert tab.zoom() == pytest.approx([150, 269], abs=2)  # a pixel is no step
    tab.find(".dn-select").send_keys(Keys.ESCAPE)
    assert tab.find(".dn-bar").text == "all steps"


def test_two_runs_stand_side_by_side_on_the_same_axes(tab, kept):
    pickers = [Select(one) for one in tab.all("[data-pick]")]
    assert [one.text for one in pickers[0].options] == ["planted", "quiet"]
    pickers[1].select_by_visible_text("quiet")
    tab.until(lambda: len(tab.all(".tab-run .dn-rates")) == 2)
    assert [one.get_attribute("data-run") for one in tab.all(".tab-run")] == ["planted", "quiet"]
    left, right = (one.rect for one in tab.all(".tab-run"))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    tab.until(lambda: tab.all(".dn-raster"))
    # 300 of 600 steps: the planted run ends in the middle of its axis.
    assert tab.states([0.45, 0.55])[0] == [DEAD, 4]
    tops = "return [...document.querySelectorAll('.dn-rates')].map((one) => one.querySelector('.dn-axis').textContent)"
    assert len(set(tab.js(tops))) == 1
    tab.settle()
    heat = tab.all(".tab-run")[0].find_elements("css selector", ".dn-heat")[1]
    tab.drag(heat, 10, heat.size["width"] * 0.5)
    assert len({one.text for one in tab.all(".dn-bar")}) == 1, "who looks closer at one run does so at both"
    tab.photograph(kept, "tab-two")
    pickers[1].select_by_visible_text("no other")
    tab.until(lambda: len(tab.all(".tab-run")) == 1)
    pickers[0].select_by_visible_text("quiet")
    tab.until(lambda: tab.js("return document.querySelector('.tab-run').dataset.run") == "quiet")
    assert tab.all(".dn-raster") == []
    assert tab.find(".dn-share").text == "0 %"


def test_the_tab_is_dark_when_tensorboard_is(tab, kept):
    tab.js("window.parent.document.body.classList.add('dark-mode')")
    tab.until(lambda: tab.js("return document.documentElement.dataset.theme") == "dark")
    assert tab.states([0.9], dark=True)[0] == [DEAD]
    tab.photograph(kept, "tab-dark")
    tab.js("window.parent.document.body.classList.remove('dark-mode')")
    assert tab.until(lambda: tab.js("return document.documentElement.dataset.theme") == "light")


def test_keys_open_a_layer_and_move_over_its_units(tab):
    names = tab.all(".dn-name")
    names[1].send_keys(Keys.ENTER)
    tab.until(lambda: len(tab.all(".dn-raster")) == 2)
    tab.all(".dn-raster")[1].send_keys(Keys.ARROW_DOWN)
    assert "layers.1.act, unit 0" in tab.tip()
