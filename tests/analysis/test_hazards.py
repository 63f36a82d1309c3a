"""Deaths, revivals and units at risk by step: tables by hand, and a slow oracle that asks every unit at every step."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ends_every, lives, make_run, make_site, make_thresholds, make_ticks, make_windows
from spells import spells, told_episodes, worlds

from deadneuron.analysis.episodes import find_episodes
from deadneuron.analysis.hazards import hazard_series
from deadneuron.records import Tick

nan = math.nan
THRESHOLDS = make_thresholds(patience=5, samples=20, revival_windows=1)


def series_of(run, thresholds=THRESHOLDS):
    episodes = [e for t in run.timelines.values() for e in find_episodes(t, thresholds, lambda step: None)]
    return hazard_series(run, episodes, thresholds)


def one_site(silent, ticks, *, units=7, steps=31, windows=3, **site):
    """One site under windows of 3 steps of 11 examples; `silent` as in `lives`."""
    made = make_site(0, units, **site)
    return make_run([made], make_windows(made, lives(units, steps, silent), ends_every(windows, steps)), ticks)


def test_a_table_by_hand():
    # Unit 1 dies by update 4. Unit 2 is born dead and revived by update 16. Unit 3's silence is too short to count.
    run = one_site({1: [(5, 30)], 2: [(0, 16)], 3: [(9, 10)]}, make_ticks([0.1 + step for step in range(31)]))
    (series,) = series_of(run)
    # A unit that is last active in forward 25 is silent in the five steps 26…30; of 26 on it could not be told.
    assert series.steps.tolist() == list(range(26))
    assert series.rates.tolist() == [0.1 + step for step in range(26)]
    assert np.isnan(series.multipliers).all()
    assert series.deaths.tolist() == [step == 4 for step in range(26)]
    assert series.revivals.tolist() == [step == 16 for step in range(26)]
    assert series.at_risk.tolist() == [6] * 5 + [5] * 12 + [6] * 9
    # Unit 2 is known dead from the window's end 5 on (six steps), unit 1 from 11 on: at 8 it was silent four steps.
    assert series.dead_at_risk.tolist() == [0] * 5 + [1] * 6 + [2] * 6 + [1] * 9


def test_a_skipped_step_kills_nobody_and_nobody_is_at_risk_in_it():
    ticks = make_ticks([0.1] * 31)
    ticks[4] = Tick(4, 0.0, (0.1,), skipped=True)
    ticks[5] = Tick(5, 0.0, (nan,))
    (series,) = series_of(one_site({1: [(5, 30)]}, ticks))
    assert series.steps.tolist() == [0, 1, 2, 3, *range(6, 26)]
    assert series.deaths.tolist() == [int(step == 6) for step in series.steps]
    assert series.at_risk.tolist() == [7 if step <= 6 else 6 for step in series.steps]


def test_sites_are_pooled_by_group_and_a_site_without_one_is_left_out():
    sites = [make_site(0, 7, group=0), make_site(1, 5, group=1), make_site(2, 3, group=1), make_site(3, 11, group=None)]
    windows = [
        w
        for site, silent in zip(sites, ({}, {2: [(8, 30)]}, {0: [(8, 30)]}, {0: [(8, 30)]}), strict=True)
        for w in make_windows(site, lives(site.units, 31, silent), ends_every(3, 31))
    ]
    run = make_run(sites, windows, make_ticks([(0.1, 0.2)] * 31), groups=("a", "b"))
    first, second = series_of(run)
    assert (first.group, second.group) == (0, 1)
    assert (set(first.at_risk.tolist()), set(first.deaths.tolist())) == ({7}, {0})
    assert second.deaths.tolist() == [2 * (step == 7) for step in range(26)]
    assert second.at_risk.tolist() == [8 if step <= 7 else 6 for step in range(26)]


def test_nothing_is_told_of_a_run_without_rates_or_too_short_for_a_death():
    assert series_of(one_site({}, [])) == ()
    assert series_of(one_site({}, make_ticks([0.1] * 31), group=None)) == ()
    assert series_of(one_site({}, make_ticks([0.1] * 5), steps=5)) == ()


def test_a_dither_s_multipliers_stand_beside_its_rates():
    ticks = [Tick(s, 0.0, (0.3 if s % 2 else 0.1,), multipliers=(1.5 if s % 2 else 0.5,)) for s in range(31)]
    (series,) = series_of(one_site({}, ticks))
    assert series.multipliers.tolist() == [1.5 if s % 2 else 0.5 for s in range(26)]


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────


def oracle(world, ticks, group):
    """[(step, deaths, at risk, revivals, dead at risk)] of every step that moved the group and can be told of."""
    updates = [t.step for t in ticks if not t.skipped]
    by_group = {g: [t.step for t in ticks if not t.skipped and not math.isnan(t.rates[g])] for g in (0, 1)}
    anybody = [s for s in updates if any(s in by_group[g] for g in world.site.groups)]
    watched = [step for a, b, _ in world.seen for step in range(a, b + 1)]
    rows = []
    for step in by_group[group] if group in world.site.groups else []:
        later = [s for s in watched if s > step]
        told = any(
            sum(s <= end for s in later) >= world.thresholds.patience
            and sum(n for a, b, n in world.seen if a > step and b <= end) >= world.thresholds.samples
            for _, end, _ in world.seen
        )
        if step not in watched or not told:
            continue
        row = [step, 0, 0, 0, 0]
        for unit in range(world.site.units):
            is_dead = False
            for episode in told_episodes(world, unit):
                born, first = episode.state == "born dead", episode.first_step
                last = math.inf if episode.last_step is None else episode.last_step
                killer = next((s for s in anybody if s >= first), None)
                reviver = max((s for s in anybody if s <= last), default=None)
                known = next(
                    spell.dead_ends(world)[0]
                    for spell in spells(world, unit)
                    if spell.dead_ends(world) and (born or spell.last_fired == first)
                )
                killed = not born and killer is not None and killer <= last and killer == step
                row[1] += killed
                inside = first <= step <= last and not killed and not (step == first and not born)
                is_dead |= inside
                row[3] += last < math.inf and reviver == step and reviver >= known
                row[4] += inside and step >= known
            row[2] += not is_dead
        rows.append(tuple(row))
    return rows


@st.composite
def ticked(draw):
    world = draw(worlds())
    number = st.floats(0.01, 1.0) | st.floats(0.01, 1.0) | st.just(nan)
    ticks = [
        Tick(step, 0.0, (draw(number), draw(number)), skipped=draw(st.integers(0, 6)) == 0)
        for step in range(len(world.fired))
        if draw(st.integers(0, 9))
    ]
    groups = draw(st.sampled_from([(0,), (0,), (1,), (0, 1)]))
    return world, groups, ticks


@settings(max_examples=300, deadline=None)
@given(ticked())
def test_the_series_is_what_an_oracle_counts_unit_by_unit_and_step_by_step(made):
    world, groups, ticks = made
    world = replace(world, site=replace(world.site, groups=groups))
    run = make_run([world.site], world.windows(), ticks, groups=("a", "b"))
    found = {series.group: series for series in series_of(run, world.thresholds)}
    for group in (0, 1):
        expected = oracle(world, ticks, group)
        series = found.get(group)
        columns = ("steps", "deaths", "at_risk", "revivals", "dead_at_risk")
        rows = [] if series is None else zip(*(getattr(series, name).tolist() for name in columns), strict=True)
        assert list(rows) == expected
        if series is not None:
            rates = {tick.step: tick.rates[group] for tick in ticks}
            assert series.rates.tolist() == [rates[step] for step in series.steps.tolist()]


@settings(max_examples=50, deadline=None)
@given(ticked())
def test_nobody_dies_who_was_not_at_risk(made):
    world, groups, ticks = made
    world = replace(world, site=replace(world.site, groups=groups))
    run = make_run([world.site], world.windows(), ticks, groups=("a", "b"))
    for series in series_of(run, world.thresholds):
        assert (series.deaths <= series.at_risk).all()
        assert (series.revivals <= series.dead_at_risk).all()
        assert (series.at_risk + series.dead_at_risk <= world.site.units).all()


def test_evaluation_passes_follow_no_single_update():
    site = make_site(0, 7)
    windows = make_windows(site, lives(7, 31, {1: [(5, 30)]}), ends_every(3, 31), phase="eval")
    assert series_of(make_run([site], windows, make_ticks([0.1] * 31))) == ()
