"""The drawings over the learning rate: exact places, the numbers of the tables, and no harm from what is no number."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from diagnoses import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_thresholds
from tried import DIED, RATES, WRITTEN, make_branch, make_dose, make_sweep
from visible import plain, read_html

from deadneuron.causes import Observed, RateBand, RateLink, Trial
from deadneuron.report.charts.bands import bands
from deadneuron.report.charts.figures import BOTTOM, TOP
from deadneuron.report.charts.forest import MOST as ROWS
from deadneuron.report.charts.forest import forest
from deadneuron.report.charts.response import MOST as DOSES
from deadneuron.report.charts.response import response
from deadneuron.report.html import render_html
from deadneuron.report.page import Links
from deadneuron.report.rate import _bands

TALL = BOTTOM - TOP


def series(panel, name):
    return next(one for one in panel.series if one.name == name)


def places(marks):
    return [(mark.x, mark.y) for mark in marks]


# ── sweeps and branches ──────────────────────────────────────────────────────────────────────────────────────────────

# Three decades and 0.18 more on both sides; the share axis ends at 60 %, the round number above 55 %.
SWEPT = [round(100 * (0.18 + decade) / 3.36, 2) for decade in range(4)]


def share(percent: float) -> float:
    return round(BOTTOM - TALL * percent / 60, 1)


def test_a_sweep_is_drawn_at_its_rates_and_mean_shares():
    figure = response(make_sweep())
    first, second = figure.panels
    assert (first.title, second.title) == ("at the same step: by update 206", "at the same sum of rates: Σlr = 2.5")
    died, dead, revived = (series(first, name) for name in ("died", "dead", "revived"))
    assert places(died.marks) == list(zip(SWEPT[:3], map(share, (1, 6, 40)), strict=True))
    assert [(mark.low, mark.high) for mark in died.marks] == [
        (share(low), share(high)) for low, high in ((0, 2), (4, 8), (30, 50))
    ]
    assert [mark.y for mark in dead.marks] == [share(percent) for percent in (6, 11, 45)]
    assert [mark.y for mark in revived.marks] == [share(percent) for percent in (0.5, 3, 20)]
    assert died.marks[2].said == "rate 1: 40 % (30–50) died"
    assert len({one.shape for one in first.series}) == len(first.series), "told apart by more than colour"


def test_panels_side_by_side_have_one_axis_of_shares():
    few = (make_dose(0.1, (0.5,)), make_dose(0.1, (0.1,), "rate sum"))
    first, second = response(make_sweep(doses=few)).panels
    assert first.up == second.up
    assert series(first, "died").marks[0].y == share(50)
    assert series(second, "died").marks[0].y == share(10)


def test_what_diverged_is_marked_and_has_no_share():
    lost = series(response(make_sweep()).panels[0], "lost")
    assert places(lost.marks) == [(SWEPT[2], TOP), (SWEPT[3], TOP)]
    assert [mark.said for mark in lost.marks] == ["rate 1: 1 diverged", "rate 10: 3 diverged"]


def test_safe_over_and_the_threshold_are_marked_where_they_were_judged():
    figure = response(make_sweep())
    first, second = figure.panels
    assert figure.limit == "threshold: 15% of the units"
    assert [(flag.name, flag.x, flag.text) for flag in first.flags] == [
        ("safe", SWEPT[1], "✓ safe: 0.1"),
        ("over", SWEPT[2], "✗ over: 1"),
    ]
    assert first.limit == share(15)
    assert (second.flags, second.limit) == ((), None)


def test_a_branch_is_drawn_at_the_rates_of_the_group_that_has_one():
    figure = response(make_branch())
    (panel,) = figure.panels
    assert panel.axis == "learning rate of SGD[1] (logarithmic)"
    assert figure.title == "branch before step 41: share of the units that had fired, after 20 steps at each"
    died, worst = series(panel, "died"), series(panel, "worst")
    logs = [math.log10(rate) for rate in (0.01, 0.02, 0.2, 2.0)]
    width = logs[-1] - logs[0]
    xs = [round(100 * (0.06 + (log - logs[0]) / width) / 1.12, 2) for log in logs]
    top = 100  # above the worst layer's 20 of 20
    assert places(died.marks) == [(x, round(BOTTOM - TALL * y / top, 1)) for x, y in zip(xs, (0, 5, 60), strict=False)]
    assert [mark.y for mark in worst.marks] == [round(BOTTOM - TALL * y / top, 1) for y in (0, 15, 100)]
    assert [mark.low for mark in died.marks] == [None] * 3, "the record has no interval of a branch"
    assert worst.marks[1].said == "lr 0.02 (×1): 15.0% of layers.1.act died, of no layer more"
    assert places(series(panel, "lost").marks) == [(xs[3], TOP)]
    assert [(flag.name, flag.x) for flag in panel.flags] == [("safe", xs[1]), ("over", xs[2])]


def test_a_branch_that_was_too_short_is_not_called_safe():
    (panel,) = response(replace(make_branch(), safe=None)).panels
    assert [flag.name for flag in panel.flags] == ["over"]


def test_a_line_is_broken_where_nothing_was_counted():
    doses = [make_dose(lr, died) for lr, died in zip(RATES, (DIED[0], DIED[1], (), DIED[2]), strict=True)]
    trial = make_sweep(doses=tuple(doses))
    (panel,) = response(trial).panels
    assert len(series(panel, "died").lines) == 1


def test_a_single_dose_of_one_seed_is_a_mark_without_whisker_or_line():
    (panel,) = response(make_sweep(doses=(make_dose(0.1, (0.5,)),), safe=None, over=0.1)).panels
    (mark,) = series(panel, "died").marks
    assert (mark.x, mark.low, mark.high) == (50.0, None, None)
    assert series(panel, "died").lines == ()


def test_many_rates_are_thinned_and_those_that_are_named_stay():
    rates = [round(1.07**number, 6) for number in range(101)]
    doses = tuple(make_dose(rate, (number / 101,)) for number, rate in enumerate(rates))
    figure = response(make_sweep(doses=doses, safe=rates[13], over=rates[14]))
    died = series(figure.panels[0], "died")
    shown = {mark.said.partition(":")[0] for mark in died.marks}
    assert len(died.marks) == DOSES
    assert {f"rate {rates[place]:g}" for place in (0, 13, 14, 100)} <= shown
    assert figure.notes == (f"{101 - DOSES} of the rates that were tried are left out of the picture",)


# ── bands ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_band(low, high, hazard, revival=(None, None, None)) -> RateBand:
    return RateBand(low, high, 100, 2000, 11, *hazard, 300, 7, *revival)


BANDS = (
    make_band(0.001, 0.01, (0.0, 0.0, 0.001)),
    make_band(0.01, 0.1, (0.002, 0.001, 0.004), (0.01, 0.0, 0.02)),
    make_band(0.1, 1.0, (0.004, None, None), (0.0, 0.0, 0.03)),
)
OBSERVED = Observed(0, "SGD[0]", BANDS, 1.0, None, 299, "")


def test_bands_reach_from_their_lowest_rate_to_their_highest():
    deaths, revivals = bands(OBSERVED).panels
    marks = deaths.series[0].marks
    ends = [round(100 * (0.18 + decade) / 3.36, 2) for decade in range(4)]
    assert [mark.span for mark in marks] == list(pairwise(ends))
    assert [mark.y for mark in marks] == [BOTTOM, BOTTOM - TALL / 2, TOP]  # 0, 2 and 4 a 1,000
    assert [(mark.low, mark.high) for mark in marks] == [
        (BOTTOM, BOTTOM - TALL / 4),
        (BOTTOM - TALL / 4, TOP),
        (None, None),
    ]
    assert [mark.filled for mark in marks] == [True, True, False], "hollow: too few windows for an interval"
    assert len(revivals.series[0].marks) == 2, "where no dead unit was at risk there is nothing to draw"


def test_the_numbers_that_are_drawn_are_those_of_the_table():
    for observed in (OBSERVED, *KINDS["dying"]().observed):
        table = _bands(observed).rows
        deaths, revivals = bands(observed).panels
        told = [mark.said.partition(", ")[0] for mark in deaths.series[0].marks]
        assert told == [f"{row[0]}: {row[3]}" for row in table]
        told = [mark.said.partition(", ")[0] for mark in revivals.series[0].marks]
        assert told == [f"{row[0]}: {row[5]}" for row in table if row[5] != "–"]


def test_a_whisker_that_is_far_too_long_is_cut_and_says_so():
    wide = replace(BANDS[1], hazard_high=0.9)
    figure = bands(replace(OBSERVED, bands=(BANDS[0], wide, BANDS[2])))
    mark = figure.panels[0].series[0].marks[1]
    assert (mark.cut, mark.high) == (True, TOP)
    assert "an arrow: the interval goes on beyond the picture" in figure.notes
    assert "a description of one schedule, no test: rate and time move together on it" in figure.notes


def test_a_rate_of_zero_stands_apart():
    panel = bands(replace(OBSERVED, bands=(replace(BANDS[0], low=0.0), *BANDS[1:]))).panels[0]
    assert panel.broken
    assert panel.across[0].text == "0"
    assert panel.series[0].marks[0].span[0] == panel.across[0].place


def test_one_band_is_no_picture():
    assert bands(replace(OBSERVED, bands=BANDS[:1])) is None


# ── ratios ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def link(ratio, low, high, *, evidence="dither", of="deaths", p=None, note="", site=None, group=0) -> RateLink:
    return RateLink(site, group, evidence, of, ratio, low, high, p, note)


def rows_of(*links, holm=None, sites=None):
    made = forest(Links(links, {0: "SGD[0]"}, sites or {}, holm or {}))
    return made, [row for _, rows in made.groups for row in rows]


def test_ratios_stand_on_one_logarithmic_axis():
    made, (first, second) = rows_of(link(2.0, 0.1, 4.0, p=0.031), link(10.0, 5.0, 10.0))
    width = 2 * 1.1  # 0.1 to 10 and a twentieth of it on both sides

    def place(ratio):
        return round(100 * (math.log10(ratio) + 1.1) / width, 2)

    assert made.one == place(1) == 50
    assert (first.low, first.x, first.high) == (place(0.1), place(2), place(4))
    assert (second.low, second.x, second.high) == (place(5), place(10), place(10))
    assert (first.filled, second.filled) == (False, True)
    assert (first.words, first.p) == ("2 (0.1–4)", "p = 0.031")
    assert second.p == "no p-value"
    assert first.label == "SGD[0]: high against low steps"


def test_rows_are_sorted_by_what_they_tell_of_and_by_the_strength_of_their_evidence():
    kinds = ("observed", "branch", "sweep", "dither")
    links = [link(2.0, 1.0, 4.0, evidence=kind, of=of, note="a; b") for of in ("revivals", "deaths") for kind in kinds]
    made, rows = rows_of(*links)
    assert [of for of, _ in made.groups] == ["deaths, high rate over low", "revivals, high rate over low"]
    assert [row.evidence for row in rows] == list(reversed(kinds)) * 2


def test_a_sweep_has_holms_p_beside_its_own_and_a_layer_its_name():
    page = read_html(render_html(KINDS["tried"]()))
    (table,) = [table for table in page.tables if table[0][0] == "compared"]
    cells = {plain(row[0]): [plain(cell) for cell in row[1:]] for row in table[1:] if len(row) > 1}
    assert cells["rate 0.1 against 0.01 at the same step"][0:1] == ["sweep"]
    assert cells["rate 0.1 against 0.01 at the same step"][2:] == ["6 (2–18)", "p = 0.1 (Holm 0.2)"]
    assert cells["rate 1 against 0.01 at the same stepno p-value: one seed"][2:] == ["0.5 (0.25–1.5)", "no p-value"]
    assert len(cells) == 6, "one of a dither, three of the sweep, two of the branch"
    _, (row,) = rows_of(link(2.0, 1.5, 4.0, site=3), sites={3: "layers.3.act"})
    assert row.label == "layers.3.act: SGD[0]: high against low steps"


def test_what_reaches_beyond_the_picture_has_an_arrow():
    made, (row, other) = rows_of(link(2.0, 0.0, math.inf), link(3.0, 1e-9, 1e9))
    for one in (row, other):
        assert (one.low, one.high, one.open_low, one.open_high) == (0, 100, True, True)
    assert row.words == "2 (0–∞)"
    assert "an arrow: the interval goes on beyond the picture" in made.notes


def test_an_infinite_ratio_has_no_mark_but_an_interval():
    _, (row,) = rows_of(link(math.inf, 2.0, math.inf))
    assert (row.x, row.words, row.open_low, row.open_high, row.filled) == (None, "∞ (2–∞)", False, True, True)


def test_links_without_a_ratio_or_an_interval_are_no_rows():
    for found in ((None, 1.0, 2.0), (2.0, None, 3.0), (2.0, 1.0, None), (math.nan, 1.0, 2.0), (0.0, 0.0, 1.0)):
        assert forest(Links((link(*found),), {}, {}, {})) is None


def test_many_rows_are_cut_and_counted():
    made, rows = rows_of(*[link(2.0, 1.0, 3.0)] * (ROWS + 7))
    assert len(rows) == ROWS
    assert made.notes[-1] == "7 more ratios are left out of the picture"


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = st.sampled_from([0.0, 1e-300, 1e300, math.inf, -1.0, 5e-324])
EXTREME = st.none() | st.floats(allow_nan=True) | ODD | st.floats(0, 1)
RATE = st.floats(0, 1e300) | st.sampled_from([0.0, 1e-300, 1e300, 0.1])


@st.composite
def observations(draw) -> Observed:
    found = []
    for _ in range(draw(st.integers(0, 5))):
        low, high = sorted(draw(st.tuples(RATE, RATE)))
        numbers = [draw(EXTREME) for _ in range(6)]
        found.append(RateBand(low, high, 3, 17, 5, *numbers[:3], 2, 1, *numbers[3:]))
    return Observed(0, "SGD[0]", tuple(found), None, None, 7, "")


LINKS = st.builds(
    RateLink,
    st.none() | st.integers(0, 3),
    st.none() | st.integers(0, 3),
    st.sampled_from(["dither", "branch", "sweep", "observed"]),
    st.sampled_from(["deaths", "revivals"]),
    *[EXTREME] * 3,
    st.none() | st.floats(0, 1),
    st.sampled_from(["", "a; b", "SGD[0]"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=7,
)
SHARES = st.lists(EXTREME, max_size=3) | JSON
POINT = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("lr", "multiplier", "share", "new_deaths", "steps", "diverged", "failed"), EXTREME | JSON),
        **dict.fromkeys(("died", "revived", "dead", "rates", "steps"), SHARES),
        "matching": st.sampled_from(["steps", "rate sum", "", 3]),
        "layers": st.lists(st.fixed_dictionaries({}, optional={"name": JSON, "fired": EXTREME, "new_deaths": EXTREME}))
        | JSON,
    },
)
RESULT = st.fixed_dictionaries(
    {},
    optional={
        **{key: st.lists(POINT | JSON, max_size=5) | JSON for key in ("doses", "points", "contrasts")},
        **dict.fromkeys(("limit", "threshold", "units", "rate_sum", "steps", "step"), EXTREME | JSON),
        "groups": JSON,
    },
)
TRIALS = st.builds(
    Trial, st.sampled_from(["branch", "sweep"]), st.just(WRITTEN), EXTREME, EXTREME, st.just(()), st.just(()), RESULT
)
BASE = replace(KINDS["healthy"](), thresholds=make_thresholds())


def check_page(page: str) -> None:
    read_html(page)
    body = page.partition("</style>")[2]
    for tag in re.findall(r"<(?:svg|line|path|circle|rect|text|g)\b[^>]*>", body):
        bare = re.sub(r'(?:aria-label|class)="[^"]*"', "", tag)
        assert not re.search(r"nan|inf|none|e[+-]?\d", bare, re.IGNORECASE), tag
    for place in re.findall(r'\b(?:x|x1|x2)="(-?[\d.]+)%"', body):
        assert 0 <= float(place) <= 100
    for place in re.findall(r'\b(?:y|y1|y2)="(-?[\d.]+)"', body):
        assert 0 <= float(place) <= 208


@settings(max_examples=150, deadline=None)
@given(st.lists(observations(), max_size=2), st.lists(LINKS, max_size=5), st.lists(TRIALS, max_size=2))
def test_no_number_and_no_damaged_file_breaks_a_page(observed, links, trials):
    check_page(render_html(replace(BASE, observed=tuple(observed), links=tuple(links), trials=tuple(trials))))


@pytest.mark.parametrize("odd", [math.inf, math.nan, 10**400, "7", True, None, [], {}])
def test_what_is_no_number_in_a_result_is_left_out(odd):
    dose = {"matching": "steps", "lr": 0.1, "died": [odd, 0.25, 7], "steps": [odd], "diverged": odd}
    other = {"matching": "steps", "lr": odd, "died": [0.5]}
    result = {"doses": [dose, other, odd], "limit": odd, "units": odd, "contrasts": odd}
    figure = response(Trial("sweep", WRITTEN, None, None, (), (), result))
    (panel,) = figure.panels
    assert (panel.title, figure.limit, panel.limit) == ("at the same step", "", None)
    assert [[mark.said for mark in one.marks] for one in panel.series] == [["rate 0.1: 25 % (25–25) died"]]
    assert response(Trial("branch", WRITTEN, None, None, (), (), {"points": [{"rates": [odd]}, odd]})) is None


def test_pages_of_trials_are_sound_and_say_all_of_it_to_who_does_not_see():
    page = render_html(KINDS["tried"]())
    check_page(page)
    said = [attributes["aria-label"] for _, attributes in read_html(page).tags if "aria-label" in attributes]
    assert any("✓ safe: 0.1; ✗ over: 1; rate 0.01: 1.0 % (0.0–2.0) died" in one for one in said)
    assert page.count('<svg class="plot') > 8


def test_drawings_stand_above_their_tables():
    page = render_html(KINDS["tried"]())
    figure = page.index("by band of the rates that SGD[0] used")
    assert figure < page.index("rate of SGD[0]</th>")
    assert page.index("<figcaption>sweep: ") < page.index("sweep: rate 0.01, 2 seeds")
    assert page.index("<figcaption>branch before") < page.index("branch: probe of 4 rates")


def test_a_page_of_very_many_trials_stays_small():
    rates = [1.01**number for number in range(211)]
    doses = tuple(make_dose(r, (0.25, 0.5), m) for m in ("steps", "rate sum") for r in rates)
    trial = make_sweep(doses=doses, notes=("",))
    many = replace(trial, summary=())
    links = tuple(link(2.0, 1.0, 3.0) for _ in range(211))
    observed = tuple(replace(OBSERVED, group=number) for number in range(97))
    page = render_html(replace(BASE, trials=(many,) * 13, links=links, observed=observed))
    assert len(page.encode()) < 1e6
    assert page.count("<figcaption>sweep") == 4
    assert page.count("<figcaption>observed") == 8


def test_a_result_is_read_as_it_comes_back_from_its_file():
    trial = make_branch()
    again = replace(trial, result=json.loads(json.dumps(trial.result)))
    assert response(again) == response(trial)
