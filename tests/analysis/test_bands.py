"""Observed facts by rate band: counts by hand, intervals by their definition, and never a p."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import PROFILE, ends_every, lives, make_run, make_site, make_ticks, make_windows

from deadneuron.analysis.bands import BOOTSTRAPS, _band_of, _interval, observe, observed_links
from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import Episode, Tick

STEPS, TOLD = 600, 500  # deaths of the last 100 steps, the patience, cannot be told


def run_of(rate, silent, *, units=53, multipliers=None):
    site = make_site(0, units)
    windows = make_windows(site, lives(units, STEPS, silent), ends_every(50, STEPS))
    ticks = make_ticks([rate(step) for step in range(STEPS)])
    if multipliers is not None:
        ticks = [
            Tick(t.step, 0.0, (t.rates[0] * m,), multipliers=(m,)) for t, m in zip(ticks, multipliers, strict=True)
        ]
    return make_run([site], windows, ticks)


def dead_from(*steps):
    """Unit i is last active in the i-th of these steps."""
    return {unit: [(step + 1, STEPS - 1)] for unit, step in enumerate(steps)}


def test_two_rates_are_two_bands():
    # 200 steps at 0.1, where three die, and 300 at 0.4, where four do and one of the others is revived by update 350.
    silent = dead_from(10, 60, 60, 210, 250, 250, 333) | {7: [(70, 350)]}
    (observed,) = diagnose(run_of(lambda s: 0.1 if s < 200 else 0.4, silent)).observed
    low, high = observed.bands
    assert (observed.group, observed.name) == (0, "SGD[0]")
    assert (low.low, low.high, low.steps, low.deaths) == (0.1, 0.1, 200, 4)
    assert (high.low, high.high, high.steps, high.deaths) == (0.4, 0.4, 300, 4)
    assert low.at_risk == 53 * 200 - 189 - 139 - 139 - 130
    assert low.hazard == pytest.approx(4 / low.at_risk)
    # Known to be dead at the window's end by which they were silent for 100 steps: 149 for the one of step 10, and 199
    # for those of 60 and 69.
    assert low.dead_at_risk == 51 + 3
    assert (low.revivals, high.revivals) == (0, 1)
    assert observed.safe is None, "one died at the lowest rate"
    assert observed.note.startswith("rate and time move together on one schedule")


def test_a_rate_below_every_death_s_is_safe():
    (observed,) = diagnose(run_of(lambda s: s / 1000, dead_from(123, 300))).observed
    assert observed.safe == 0.122
    (observed,) = diagnose(run_of(lambda s: s / 1000, {})).observed
    assert observed.safe == 0.499
    assert sum(band.deaths for band in observed.bands) == 0


def test_one_constant_rate():
    (observed,) = diagnose(run_of(lambda s: 0.1, dead_from(123, 300))).observed
    (band,) = observed.bands
    assert (band.low, band.high, band.steps, band.deaths) == (0.1, 0.1, TOLD, 2)
    assert observed.safe is None
    assert observed.note.startswith("the rate was constant")


def test_many_rates_are_three_bands_of_as_many_steps():
    (observed,) = diagnose(run_of(lambda s: 0.1 * math.exp(-s / 100), {})).observed
    assert [band.steps for band in observed.bands] == [166, 167, 167]
    assert [band.low for band in observed.bands] == sorted(band.low for band in observed.bands)
    assert all(a.high < b.low for a, b in zip(observed.bands, observed.bands[1:], strict=False))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1e-3, 2e-3, 5e-3, 0.1, 0.2, 7.0]), min_size=1, max_size=41))
def test_bands_part_rates_in_order_and_keep_equal_ones_together(rates):
    rates = np.array(rates) * (1 + 1e-7 * (np.arange(len(rates)) % 2))  # what float32 makes of them
    band = _band_of(rates)
    distinct = len({f"{rate:.4g}" for rate in rates.tolist()})
    assert sorted(set(band.tolist())) == list(range(band.max() + 1))
    assert band.max() + 1 == distinct if distinct <= 3 else 1 <= band.max() + 1 <= 3
    for a, b in zip(rates, band, strict=True):
        for c, d in zip(rates, band, strict=True):
            assert a >= c * (1 - 1e-6) or b <= d
            assert not math.isclose(a, c, rel_tol=1e-6) or b == d


def test_a_dither_s_bands_are_those_of_the_rate_that_it_multiplied():
    multipliers = [0.5 if step % 3 else 1.5 for step in range(STEPS)]
    (observed,) = diagnose(run_of(lambda s: 0.3 if s < 200 else 0.7, dead_from(201), multipliers=multipliers)).observed
    assert [band.low for band in observed.bands] == pytest.approx([0.3, 0.7])
    assert [band.steps for band in observed.bands] == [200, 300]
    assert observed.safe == pytest.approx(0.45), "as used: 0.7 · 1.5 killed at step 201, and 0.35 and 0.45 are lower"
    assert "dithered" in observed.note


def test_where_nothing_happened_the_interval_is_the_rule_of_three_s():
    (observed,) = diagnose(run_of(lambda s: 0.1, {})).observed
    (band,) = observed.bands
    assert (band.hazard, band.hazard_low, band.hazard_high) == (0.0, 0.0, 3 / (53 * TOLD))
    assert (band.revival, band.revival_low, band.revival_high) == (None, None, None), "nobody was dead"
    assert observed.dispersion is None


def test_the_interval_holds_the_hazard_and_is_the_same_each_time():
    run = run_of(lambda s: 0.1 if s < 250 else 0.4, dead_from(*range(7, 487, 11)))
    first, again = diagnose(run).observed, diagnose(run).observed
    assert first == again
    for band in first[0].bands:
        assert 0 < band.hazard_low < band.hazard < band.hazard_high


def test_a_band_of_few_blocks_has_no_interval():
    (observed,) = diagnose(run_of(lambda s: 0.1 if s < 150 else 0.4, dead_from(*range(7, 487, 11)))).observed
    assert observed.bands[0].deaths > 10
    assert (observed.bands[0].hazard_low, observed.bands[0].hazard_high) == (None, None)
    assert observed.bands[1].hazard_low is not None


@pytest.mark.parametrize(
    ("steps", "bounds"),
    [(range(3, 500, 50), (0.0, 0.1)), ([57] * 11 + [203] * 23 + [411] * 13, (5.0, 40.0))],
    ids=["evenly", "in bursts"],
)
def test_the_dispersion_tells_bursts_from_even_deaths(steps, bounds):
    (observed,) = diagnose(run_of(lambda s: 0.1, dead_from(*steps))).observed
    assert bounds[0] <= observed.dispersion <= bounds[1]


def test_the_dispersion_by_hand():
    # Ten blocks of 50 steps; nobody of the 53 is missing but for the two that die together at the very end.
    (observed,) = diagnose(run_of(lambda s: 0.1, dead_from(499, 499))).observed
    expected = 2 / 10
    assert observed.dispersion == pytest.approx(((2 - expected) ** 2 + 9 * expected**2) / expected / 9)


def test_intervals_are_the_middle_of_what_was_drawn():
    draws = np.append(np.arange(BOOTSTRAPS, dtype=float), [np.nan] * 7)
    assert _interval(draws) == (25.0, 974.0)
    assert _interval(np.array([np.nan])) == (None, None)


# ── links ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_link_compares_the_highest_band_with_the_lowest():
    silent = dead_from(*range(20, 240, 44), *range(250, 500, 11))
    diagnosis = diagnose(run_of(lambda s: 0.1 if s < 250 else 0.4, silent))
    (link,), (low, high) = diagnosis.links, diagnosis.observed[0].bands
    assert link.rate_ratio == pytest.approx(high.hazard / low.hazard)
    assert 1 < link.low < link.rate_ratio < link.high
    assert (link.evidence, link.of, link.p) == ("observed", "deaths", None)


@pytest.mark.parametrize("steps", [(300, 310), (50, 60)], ids=["none at low rates", "none at high rates"])
def test_no_ratio_where_one_of_the_bands_has_no_death(steps):
    (link,) = diagnose(run_of(lambda s: 0.1 if s < 250 else 0.4, dead_from(*steps))).links
    assert (link.rate_ratio, link.low, link.high, link.p) == (None,) * 4


def test_links_describe_each_group_and_claim_nothing():
    def death(step, rate=0.1, site=0):
        return Episode(site, 0, "died", step, None, False, rate, 300)

    sites = [make_site(0, group=0), make_site(1, group=1), make_site(2, group=None)]
    run = make_run(sites, [], make_ticks([(0.1, 0.2)] * 20), groups=("SGD[0]", "SGD[1]"))
    episodes = [death(3, 0.1), death(3, 0.3), death(5, 0.2, site=1), death(5, None, site=1), death(9, 0.2, site=2)]
    born = Episode(0, 1, "born dead", 0, None, True, None, 300)
    links = observed_links(run, [*episodes, born], PROFILE.thresholds)
    assert [(link.group, link.rate_ratio, link.evidence, link.p) for link in links] == [
        (0, None, "observed", None),
        (1, None, "observed", None),
    ]
    assert links[0].note == "2 deaths by updates of SGD[0] that used rate 0.1 to 0.3; most in steps 3 (2)"
    assert links[1].note == "1 death by an update of SGD[1] that used rate 0.2"


def test_nothing_is_observed_of_a_run_without_rates():
    run = run_of(lambda s: math.nan, dead_from(31))
    assert observe(run, [], PROFILE.thresholds) == ()
    assert observed_links(run, [], PROFILE.thresholds) == ()
