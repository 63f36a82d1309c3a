"""The report page of runs that are odd: hostile names, nothing in them, very much in them, numbers that are none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from making import ends_every, lives, make_run, make_site, make_ticks, make_window, make_windows

NAMES = [
    "<script>document.title = 'bitten'</script>",
    "</script><script>document.title = 'bitten'</script><!--",
    '"onmouseover="document.title=\'bitten\'" x="',
    "<img src=x onerror=\"document.title='bitten'\">",
    "a" * 300,
    "שכבה\u202eevil.act",
    "&lt;b&gt; ${1} `x` \\u003c",
]
SHOWN = [name.replace("\u202e", "\N{REPLACEMENT CHARACTER}") for name in NAMES]


def test_hostile_names_are_text(look, write_page, kept):
    sites = [make_site(number, 7, name=name) for number, name in enumerate(NAMES)]
    windows = [w for s in sites for w in make_windows(s, lives(7, 200, {3: [(0, 199)]}), ends_every(50, 200))]
    look.open(write_page(make_run(sites, windows, make_ticks([0.1] * 200), groups=(NAMES[0],))))
    assert look.names() == SHOWN
    for row, heat in enumerate(look.all(".dn-heat")):
        assert look.point(heat, 200, 5)
        assert look.js("return document.querySelector('.dn-tip strong').textContent") == SHOWN[row]
        box = look.js("const b = document.querySelector('.dn-tip').getBoundingClientRect(); return [b.left, b.right]")
        assert 0 <= box[0] < box[1] <= 1300
    assert look.js("return document.title") != "bitten"
    assert look.js("return document.querySelectorAll('.dn img, .dn script').length") == 0
    assert look.overflow() == []
    look.photograph(kept, "page-hostile")


def test_an_empty_run_has_a_page(look, write_page):
    look.driver.get(write_page(make_run()))
    text = look.find("body").text
    assert "unknown" in text


def test_a_run_with_one_window_is_drawn(look, write_page):
    site = make_site(0, 7)
    look.open(write_page(make_run([site], [make_window(site, 0, 0, [[1] * 7])], make_ticks([0.1]))))
    assert look.names() == ["layer0"]
    look.js("document.querySelector('.dn-name').click()")  # whatever is drawn anew meanwhile
    assert look.states([0.5]) == [[0]] * 7


def test_300_layers_are_drawn_and_opened(look, write_page, kept):
    sites = [make_site(number, 3, name=f"blocks.{number}.mlp.act") for number in range(300)]
    windows = [w for s in sites for w in make_windows(s, lives(3, 150, {1: [(0, 149)]}), ends_every(50, 150))]
    look.open(write_page(make_run(sites, windows, make_ticks([0.1] * 150))))
    assert len(look.all(".dn-heat")) == 300
    look.js("document.querySelectorAll('.dn-name')[299].click()")
    assert len(look.all(".dn-raster")) == 2
    assert [state for (state,) in look.states([0.9], raster=1)] == [3, 0, 0]
    look.photograph(kept, "page-300")


@pytest.mark.parametrize("rates", [[math.nan] * 100, [0.1, math.nan, math.inf, 0.2] * 25, [0.0] * 100])
def test_rates_that_are_no_numbers_do_no_harm(look, write_page, rates):
    site = make_site(0, 5)
    windows = make_windows(site, lives(5, 100, {}), ends_every(50, 100))
    look.open(write_page(make_run([site], windows, make_ticks(rates))))
    known = any(rate and math.isfinite(rate) for rate in rates)
    assert look.js("return document.querySelectorAll('.dn-rates polyline').length") == int(known)
    assert "NaN" not in look.js("return document.querySelector('.dn-body').innerHTML")


def test_a_site_without_histogram_or_with_nothing_in_it_is_drawn(look, write_page):
    site = make_site(0, 5)
    windows = [
        replace(window, histogram=np.zeros_like(window.histogram))
        for window in make_windows(site, lives(5, 150, {2: [(0, 149)]}), ends_every(50, 150))
    ]
    look.open(write_page(make_run([site], windows, make_ticks([0.1] * 150))))
    assert look.all(".dn-histogram") == []
    assert len(look.all(".dn-raster")) == 1


def test_without_scripts_the_numbers_are_readable(look, write_page):
    site = make_site(0, 7, name="body.act")
    windows = make_windows(site, lives(7, 200, {3: [(0, 199)]}), ends_every(50, 200))
    address = write_page(make_run([site], windows, make_ticks([0.1] * 200)))
    look.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look.driver.get(address)
        text = look.find("body").text
    finally:
        look.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "all numbers stand below" in text
    assert "body.act" in text
    assert "1 of 7 units" in text


def test_a_picture_of_a_newer_format_is_told_of(look, write_page, tmp_path):
    site = make_site(0, 7)
    windows = make_windows(site, lives(7, 100, {}), ends_every(50, 100))
    look.driver.get(write_page(make_run([site], windows, make_ticks([0.1] * 100))))
    page = tmp_path / "newer.html"
    page.write_text((tmp_path / "report.html").read_text("utf-8").replace('{"version":1,', '{"version":7,'), "utf-8")
    look.driver.get(page.as_uri())
    look.until(lambda: "format 7" in look.find("#picture").text)
