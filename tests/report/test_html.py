"""The report as a page: golden files, closed tags, nothing that runs or loads, curves that show the history."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from checkpointed import CHECKPOINTS, make_history
from diagnoses import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from naming import HOSTILE, named
from visible import plain, read_html

from deadneuron.records import History
from deadneuron.report.curve import HEIGHT, WIDTH, curve_of
from deadneuron.report.html import render_html
from deadneuron.report.style import printable

GOLDEN = Path(__file__).parent.parent / "golden" / "html"
ALL = {**KINDS, **{f"checkpoints-{kind}": make for kind, make in CHECKPOINTS.items()}}
OURS = {tag for kind in ALL for tag, _ in read_html(render_html(ALL[kind]())).tags}
ATTRIBUTES = {tag: set() for tag in OURS}
for kind in ALL:
    for tag, attributes in read_html(render_html(ALL[kind]())).tags:
        ATTRIBUTES[tag] |= set(attributes)


@pytest.mark.parametrize("kind", ["dying", "tried", "checkpoints-dying"])
def test_the_page_is_the_golden_one(kind):
    path = GOLDEN / f"{kind}.html"
    text = render_html(ALL[kind]())
    if os.environ.get("DEADNEURON_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), "if this is wanted: DEADNEURON_GOLDEN=write (see test_text.py)"


@pytest.mark.parametrize("kind", ALL)
def test_nothing_runs_and_nothing_is_loaded(kind):
    page = render_html(ALL[kind]())
    seen = read_html(page)
    assert OURS.isdisjoint({"script", "img", "iframe", "object", "embed", "link", "a", "form", "base", "foreignobject"})
    for _, attributes in seen.tags:
        assert not any(name in ("src", "href", "style", "srcset") or name.startswith("on") for name in attributes)
    style = seen.hidden["style"]
    assert not re.search(r"url\(|@import|expression", style)
    policies = [a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy"]
    hashed = b64encode(sha256(style.encode()).digest()).decode()
    assert policies == [f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"]
    # The policy stands before all that it holds for.
    assert page.index("Content-Security-Policy") < page.index("<title>") < page.index("<style>")


def test_the_page_serves_the_dark_small_screens_and_paper():
    style = read_html(render_html(KINDS["dying"]())).hidden["style"]
    for query in ("prefers-color-scheme: dark", "max-width", "print"):
        assert f"@media {query}" in style or f"@media ({query}" in style


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("of", ["dying", "tried", "checkpoints-dying"])
def test_hostile_names_are_text(name, of):
    seen = read_html(render_html(named(ALL[of](), name)))
    for tag, attributes in seen.tags:
        assert tag in OURS
        assert set(attributes) <= ATTRIBUTES[tag]
    layers = seen.tables[0]
    assert {plain(row[1]) for row in layers[1:]} == {plain(printable(name))}
    assert plain(printable(name)) in plain(seen.hidden["title"])


@settings(max_examples=30, deadline=None)
@given(name=st.text(max_size=40) | st.text("<>&'\"{}%#-!/ a\n", max_size=20))
def test_no_name_at_all_is_more_than_text(name):
    seen = read_html(render_html(named(CHECKPOINTS["adam"](), name)))
    assert {tag for tag, _ in seen.tags} <= OURS
    assert [plain(row[1]) for row in seen.tables[0][1:]] == [plain(printable(name))] * 2
    assert all(char == "\n" or char.isprintable() for char in seen.text)


def points(path: str) -> list[tuple[float, float]]:
    return [tuple(map(float, point.split())) for point in re.findall(r"[\d.]+ [\d.]+", path)]


def test_a_curve_goes_through_the_shares_at_their_steps():
    curve = curve_of(make_history(0, (100, 200, 500), (0.0, 0.5, 1.0)))
    # A quarter of the way to the right, half way up between the two free edges.
    assert points(curve.line) == [(0, HEIGHT - 1), (WIDTH / 4, HEIGHT / 2), (WIDTH, 1)]
    assert points(curve.area) == [*points(curve.line), (WIDTH, HEIGHT), (0, HEIGHT)]
    assert curve.said == "dead at step 100: 0%, at step 500: 100%, at most 100%"


def test_one_moment_is_a_level_line_and_none_is_no_curve():
    curve = curve_of(make_history(0, (700,), (1.0,)))
    assert points(curve.line) == [(0, 1), (WIDTH, 1)]
    assert curve.said == "dead at step 700: 100%"
    assert curve_of(make_history(0, (), ())) is None


def test_checkpoints_without_steps_stand_in_their_order():
    assert [x for x, _ in points(curve_of(make_history(0, (0, 0, 0), (0.0, 0.5, 1.0))).line)] == [0, WIDTH / 2, WIDTH]


def test_a_little_is_told_from_nothing_and_no_spike_is_lost():
    for spike in range(0, 997, 83):
        shares = [0.0] * 997
        shares[spike] = 1e-4
        curve = curve_of(make_history(0, tuple(range(997)), shares))
        assert len(points(curve.line)) == 60
        assert min(y for _, y in points(curve.line)) <= HEIGHT - 2.5
    flat = curve_of(make_history(0, tuple(range(997)), [0.0] * 997))
    assert {y for _, y in points(flat.line)} == {HEIGHT - 1.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=199), st.integers(0, 10**9))
def test_a_curve_stays_in_its_picture(shares, start):
    curve = curve_of(make_history(0, tuple(range(start, start + len(shares))), shares))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(curve.area))


def test_a_layer_without_history_has_an_empty_cell(dying):
    some = replace(dying, history=dying.history[:1])
    rows = read_html(render_html(some)).tables[0]
    assert all(len(row) == len(rows[0]) for row in rows)
    curve = '<svg class="curve"'
    assert render_html(some).count(curve) == 1
    assert curve not in render_html(replace(dying, history=()))
    assert curve not in render_html(replace(dying, history=(History(0, (), (), (), (), ()),)))
