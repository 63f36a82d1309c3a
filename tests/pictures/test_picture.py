"""What is drawn of a run is what was judged of it."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.picture import curve, picture_of
from deadneuron.pictures import Bytes
from deadneuron.report.html import render_html
from deadneuron.report.payload import payload_of, script_json

STEPS, UNITS = 307, 31


@pytest.fixture(scope="module")
def made():
    silent = {0: [(0, STEPS - 1)], 5: [(20, STEPS - 1)], 9: [(11, 150)]}
    site = make_site(0, UNITS, name="layers.0.act")
    windows = make_windows(site, lives(UNITS, STEPS, silent), ends_every(50, STEPS))
    return make_run([site], windows, make_ticks([0.1 if step < 100 else 0.02 for step in range(STEPS)], loss=1.5))


def unpacked(text: str) -> Bytes:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)


def test_a_site_is_drawn_unit_by_unit_and_window_by_window(made):
    diagnosis = diagnose(made)
    picture = picture_of(made, diagnosis)
    (site,) = picture.sites
    assert (picture.first_step, picture.last_step) == (0, STEPS - 1)
    assert (site.name, site.units, site.per_row) == ("layers.0.act", UNITS, 1)
    assert site.states.shape == (UNITS, len(site.first))
    assert site.states[0, -1] == 3
    assert site.states[5, -1] == 3
    assert site.states[7].tolist() == [0] * len(site.first)
    assert site.dead[-1] == np.ceil(2 / UNITS * 255)
    assert np.array_equal(site.first[1:], site.last[:-1] + 1)
    told = {(one.unit, one.first, one.last, one.born) for one in site.deaths}
    episodes = {(one.unit, one.first_step, one.last_step, one.born) for one in diagnosis.episodes}
    assert told == episodes
    assert (5, 19, None, False) in told
    assert site.samples == diagnosis.verdicts[0].samples


def test_rates_and_loss_keep_their_jumps(made):
    picture = picture_of(made, diagnose(made))
    ((name, points),) = picture.rates
    assert name == made.info.groups[0]
    assert (99, 0.1) in points
    assert (100, 0.02) in points
    assert picture.loss[0] == (0, 1.5)


def test_a_long_curve_is_thinned_and_keeps_its_ends_and_its_extremes():
    values = np.full(10_007, 0.5)
    values[[4001, 7001]] = [9.0, -3.0]
    points = curve(np.arange(10_007), values)
    assert len(points) <= 402
    assert {(0, 0.5), (4001, 9.0), (7001, -3.0), (10_006, 0.5)} <= set(points)
    assert curve(np.arange(3), np.array([np.nan, 1.0, np.inf])) == ((1, 1.0),)


def test_the_payload_is_json_and_holds_the_same_bytes(made):
    picture = picture_of(made, diagnose(made))
    payload = json.loads(json.dumps(payload_of(picture), allow_nan=False))
    (site,) = payload["sites"]
    assert np.array_equal(unpacked(site["states"]).reshape(site["rows"], -1), picture.sites[0].states)
    assert np.array_equal(unpacked(site["dead"]), picture.sites[0].dead)
    columns = payload["columns"][site["columns"]]
    assert columns["last"] == picture.sites[0].last.tolist()
    assert unpacked(site["histogram"]).size == (len(site["edges"]) + 1) * len(
        payload["columns"][site["columns"]]["first"]
    )


def test_no_text_can_end_the_script_element_that_holds_it():
    text = script_json({"name": "</script><script>alert(1)</script><!--&"})
    assert not set("<>&") & set(text)
    assert json.loads(text)["name"] == "</script><script>alert(1)</script><!--&"


def test_many_units_windows_and_layers_stay_small():
    kinds = []
    for kind in range(3):
        silent = {unit: [(7 * (unit * 31 % 131), 9999)] for unit in range(kind, 131, 3)}
        kinds.append(make_windows(make_site(0, 131), lives(131, 1000, silent), ends_every(1, 1000)))
    sites = [make_site(number, 131, name=f"l{number}") for number in range(50)]
    windows = [replace(window, site=site.number) for site in sites for window in kinds[site.number % 3]]
    made = make_run(sites, windows, make_ticks([0.1] * 1000))
    diagnosis = diagnose(made)
    picture = picture_of(made, diagnosis)
    assert len(picture.sites) == 50
    assert max(site.states.size for site in picture.sites) <= 256 * 256
    assert len(render_html(diagnosis, picture).encode()) < 1_000_000
