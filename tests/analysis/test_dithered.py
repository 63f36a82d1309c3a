"""High against low steps: by hand, against an enumeration of all labels, and never a p without a dither."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ends_every, lives, make_run, make_site, make_thresholds, make_ticks, make_windows
from scipy import stats
from spells import worlds

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.dithered import PERMUTATIONS, hazard_ratio
from deadneuron.analysis.hazards import Series
from deadneuron.records import Tick

nan = math.nan
LOW, HIGH = 0.5, 1.5


def made(deaths, at_risk, multipliers, revivals=None, dead=None):
    size = len(deaths)
    zeros = [0] * size
    arrays = (range(size), [0.1 * m for m in multipliers], multipliers, deaths, at_risk)
    return Series(0, *map(np.array, arrays), np.array(revivals or zeros), np.array(dead or zeros))


def test_a_ratio_by_hand():
    # 3 + 1 deaths in 2 · 10 unit-steps at high rates, 1 in 3 · 8 at low ones.
    found = hazard_ratio([made([3, 1, 0, 1, 0], [10, 10, 8, 8, 8], [HIGH, HIGH, LOW, LOW, LOW])])
    assert found.ratio == pytest.approx((4 / 20) / (1 / 24))
    assert (found.high_events, found.low_events, found.high_steps, found.low_steps) == (4, 1, 2, 3)
    assert not found.corrected
    # Variances of the logarithms: sums of squared residuals over the squared counts, n/(n - 1) with at least n = 2.
    # The low arm's is more than a Poisson count's 1/1; the high arm's is not less than 1/4 either.
    high = ((3 - 2) ** 2 + (1 - 2) ** 2) / 4**2 * 2
    low = (2 * (1 / 3) ** 2 + (2 / 3) ** 2) / 1**2 * 2
    # Degrees of freedom: (Σ r²)²/Σ r⁴ - 1 of each arm, at least 3, joined by Satterthwaite.
    freedoms = [3, 3]
    freedom = (high + low) ** 2 / (high**2 / freedoms[0] + low**2 / freedoms[1])
    half = stats.t.ppf(0.975, freedom) * math.sqrt(high + low)
    assert found.low == pytest.approx(found.ratio * math.exp(-half))
    assert found.high == pytest.approx(found.ratio * math.exp(half))


def test_degrees_of_freedom_are_those_of_the_steps_that_carry_the_variance():
    found = hazard_ratio([made([1, 3] * 20 + [1, 1] * 20, [10] * 80, [HIGH] * 40 + [LOW] * 40)])
    high, low = 40 / 80**2 * 40 / 39, 1 / 40  # forty residuals of ±1; none in the low arm, but never below Poisson's
    high = max(high, 1 / 80)
    half = stats.t.ppf(0.975, (high + low) ** 2 / (high**2 / 39 + low**2 / 3)) * math.sqrt(high + low)
    assert (found.low, found.high) == (pytest.approx(2 * math.exp(-half)), pytest.approx(2 * math.exp(half)))


def test_revivals_count_the_dead_as_those_at_risk():
    series = made([9, 9], [1, 1], [HIGH, LOW], revivals=[3, 1], dead=[5, 10])
    assert hazard_ratio([series], "revivals").ratio == pytest.approx((3 / 5) / (1 / 10))


@pytest.mark.parametrize(("high", "low"), [(4, 0), (0, 4)])
def test_where_one_count_is_zero_half_an_event_is_added_to_both(high, low):
    found = hazard_ratio([made([high, low, 0], [10, 10, 10], [HIGH, LOW, LOW])])
    assert found.corrected
    assert found.ratio == pytest.approx(((high + 0.5) / 10) / ((low + 0.5) / 20))
    assert found.low < found.ratio < found.high < math.inf


def test_without_events_or_without_two_kinds_of_steps_there_is_nothing_to_say():
    for nothing in (
        made([0, 0, 0], [7, 7, 7], [HIGH, LOW, LOW]),
        made([1, 2, 0], [7, 7, 7], [HIGH, HIGH, HIGH]),
        made([1, 2, 0], [7, 7, 7], [nan, nan, nan]),
        made([1, 2, 0], [7, 7, 7], [LOW, nan, LOW]),
        made([0, 0, 0], [0, 0, 0], [LOW, HIGH, LOW]),
    ):
        found = hazard_ratio([nothing])
        assert (found.ratio, found.low, found.high, found.p) == (None,) * 4
    assert hazard_ratio([]).p is None


def test_steps_without_a_dither_are_left_out():
    dithered = made([3, 1, 1], [10, 10, 8], [HIGH, LOW, LOW])
    with_others = made([3, 5, 1, 1], [10, 10, 10, 8], [HIGH, nan, LOW, LOW])
    assert hazard_ratio([with_others]) == hazard_ratio([dithered])


def test_events_that_fall_evenly_are_no_surer_than_chance():
    found = hazard_ratio([made([2] * 60, [100] * 60, [HIGH] * 30 + [LOW] * 30)])
    assert found.ratio == 1
    assert math.log(found.high) >= 1.96 * math.sqrt(2 / 60)


def test_runs_are_pooled():
    one, two = made([3, 1], [10, 20], [HIGH, LOW]), made([1, 2], [30, 20], [HIGH, LOW])
    assert hazard_ratio([one, two]).ratio == pytest.approx((4 / 40) / (3 / 40))


def exact_p(runs):
    """All assignments of labels within each run, each as likely as any other."""

    def centred(series, highs):
        x = series.deaths / series.at_risk
        return x[list(highs)].sum() - x.sum() * len(highs) / len(x)

    seen, sums = 0.0, [0.0]
    for series in runs:
        highs = np.flatnonzero(series.multipliers > 1)
        seen += centred(series, highs)
        every = [centred(series, c) for c in combinations(range(len(series)), len(highs))]
        sums = [a + b for a in sums for b in every]
    return np.mean([abs(value) >= abs(seen) - 1e-12 for value in sums])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_p_is_that_of_all_permutations_of_labels_within_each_run(data):
    runs = []
    for _ in range(data.draw(st.integers(1, 2))):
        size = data.draw(st.integers(2, 7))
        ints = st.lists(st.integers(0, 3), min_size=size, max_size=size)
        labels = data.draw(st.lists(st.sampled_from([LOW, HIGH]), min_size=size, max_size=size))
        at_risk = data.draw(st.lists(st.integers(3, 11), min_size=size, max_size=size))
        runs.append(made(data.draw(ints), at_risk, labels))
    found = hazard_ratio(runs)
    all_labels = {m for series in runs for m in series.multipliers.tolist()}
    if not sum(series.deaths.sum() for series in runs) or len(all_labels) < 2:
        assert found.p is None
    elif found.p is None:  # two kinds of steps, but in no run both
        assert all(len(set(series.multipliers.tolist())) == 1 for series in runs)
    else:
        expected = exact_p(runs)
        # Five standard errors of a share over the permutations that are drawn.
        slack = 5 * math.sqrt(expected * (1 - expected) / PERMUTATIONS) + 1 / PERMUTATIONS
        assert found.p == pytest.approx(expected, abs=slack)
        assert found.p == hazard_ratio(runs).p, "the same run, the same p"


def test_the_smallest_p_is_one_in_the_number_of_permutations():
    found = hazard_ratio([made([5] * 30 + [0] * 30, [100] * 60, [HIGH] * 30 + [LOW] * 30)])
    assert found.p == 1 / (PERMUTATIONS + 1)


# ── through the diagnosis ────────────────────────────────────────────────────────────────────────────────────────────

STEPS = 400


def dithered_run(silent, *, multipliers=None, groups=("SGD[0]",)):
    site = make_site(0, 7)
    drawn = multipliers or [(HIGH,) if step % 3 == 0 else (LOW,) for step in range(STEPS)]
    ticks = [Tick(s, 0.0, tuple(0.1 * m if m == m else 0.1 for m in ms), multipliers=ms) for s, ms in enumerate(drawn)]
    windows = make_windows(site, lives(7, STEPS, silent), ends_every(50, STEPS))
    return make_run([site], windows, ticks, groups=groups)


def test_a_dithered_run_links_deaths_and_revivals():
    # Two die by high updates 30 and 60, one by low update 100. One is revived by high update 261.
    silent = {0: [(31, 399)], 1: [(61, 399)], 2: [(101, 261)]}
    deaths, revivals, observed = diagnose(dithered_run(silent)).links
    assert (deaths.evidence, deaths.of, deaths.group, deaths.site) == ("dither", "deaths", 0, None)
    assert (revivals.evidence, revivals.of) == ("dither", "revivals")
    p = f"{deaths.p:.2g}"
    assert deaths.note == (
        f"a dither of SGD[0]: deaths were 4 times as frequent at high rates (95 %: {deaths.low:.2g} to "
        f"{deaths.high:.0f}, p = {p}): 2 in 100 updates at ×1.5 against 1 in 200 updates at ×0.5"
    )
    assert revivals.note.endswith("at ×0.5, half was added to both since one is zero")
    assert deaths.rate_ratio == pytest.approx(4, rel=0.05), "twice the deaths in half the steps"
    assert deaths.low < 1 < deaths.high
    assert deaths.p is not None
    assert revivals.p is not None
    assert (observed.evidence, observed.p) == ("observed", None)


def test_one_multiplier_is_no_dither():
    links = diagnose(dithered_run({0: [(31, 399)]}, multipliers=[(HIGH,)] * STEPS)).links
    assert [link.evidence for link in links] == ["dither", "dither", "observed"]
    assert {(link.rate_ratio, link.p) for link in links} == {(None, None)}
    assert links[0].note == "a dither of SGD[0] tells nothing of deaths: its 300 updates all drew the same"
    assert "no unit was at risk" in diagnose(dithered_run({})).links[1].note


@settings(max_examples=100, deadline=None)
@given(
    world=worlds(),
    rates=st.lists(st.floats(0, 1) | st.just(nan), min_size=119, max_size=119),
    skipped=st.sets(st.integers(0, 118), max_size=5),
)
def test_no_run_without_a_dither_gets_a_p(world, rates, skipped):
    ticks = [Tick(step, 0.0, (rate,), skipped=step in skipped) for step, rate in enumerate(rates)]
    world = replace(world, site=replace(world.site, groups=(0,)))
    run = make_run([world.site], world.windows(), ticks, thresholds=world.thresholds)
    diagnosis = diagnose(run)
    assert all(link.p is None and link.evidence == "observed" for link in diagnosis.links)
    assert all(observed.note.endswith("no p-value can be given") for observed in diagnosis.observed)


@pytest.mark.parametrize("rate", [lambda s: 0.1, lambda s: 0.1 * math.cos(s / 300), lambda s: 0.1 * (s % 50)])
def test_no_schedule_gets_a_p_however_many_die(rate):
    site = make_site(0, 53)
    silent = {unit: [(3 * unit + 5, 399)] for unit in range(47)}
    windows = make_windows(site, lives(53, STEPS, silent), ends_every(50, STEPS))
    diagnosis = diagnose(make_run([site], windows, make_ticks(map(rate, range(STEPS)))))
    (link,) = diagnosis.links
    assert link.p is None
    assert link.note.startswith("47 deaths by updates of SGD[0] that used rate ")


def test_thresholds_are_the_diagnosis_s():
    run = dithered_run({0: [(31, 120)]})
    assert "no deaths in 300 updates" in diagnose(run).links[0].note
    patient = make_run(
        run.sites, run._stored.windows, run._stored.ticks, thresholds=make_thresholds(patience=50, samples=11)
    )
    assert "deaths were" in diagnose(patient).links[0].note
