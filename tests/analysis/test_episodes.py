"""Who was born dead, died when, revived, relapsed: against an oracle that knows every step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from making import ends_every, ints, lives, make_site, make_thresholds, make_windows
from spells import World, told_episodes, worlds

from deadneuron.analysis.episodes import find_episodes
from deadneuron.records import Episode
from deadneuron.states import make_timeline


def rate_at(step: int) -> float:
    return 1 / (step + 1)


def found(site, windows, thresholds) -> list[Episode]:
    return find_episodes(make_timeline(site, windows), thresholds, rate_at)


@settings(max_examples=500, deadline=None)
@given(world=worlds())
def test_episodes_are_those_of_the_oracle(world: World):
    episodes = found(world.site, world.windows(), world.thresholds)
    for unit in range(world.site.units):
        own = [e for e in episodes if e.unit == unit]
        told = told_episodes(world, unit)
        assert [(e.state, e.first_step, e.last_step, e.samples) for e in own] == [
            (t.state, t.first_step, t.last_step, t.samples) for t in told
        ]
        assert [e.born for e in own] == [t.state == "born dead" for t in told]
        assert [e.rate for e in own] == [None if t.state == "born dead" else rate_at(t.first_step) for t in told]
        assert {e.site for e in own} <= {world.site.number}


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_episodes_of_a_unit_follow_each_other_and_only_the_first_can_be_born(world: World):
    episodes = found(world.site, world.windows(), world.thresholds)
    assert [(e.unit, e.first_step) for e in episodes] == sorted((e.unit, e.first_step) for e in episodes)
    for unit in range(world.site.units):
        own = [e for e in episodes if e.unit == unit]
        for before, after in pairwise(own):
            assert before.last_step is not None
            assert before.last_step < after.first_step
            assert after.state == "relapsed"
        assert all(e.state != "relapsed" for e in own[:1])
        assert all(e.last_step is None or e.first_step <= e.last_step for e in own)


SITE = make_site(0, 3)
EXACT = make_thresholds(patience=20, samples=100, revival_windows=2)


def told(silent, steps=120, thresholds=EXACT, length=10):
    windows = make_windows(SITE, lives(3, steps, silent), ends_every(length, steps))
    return [(e.unit, e.state, e.first_step, e.last_step) for e in found(SITE, windows, thresholds)]


@pytest.mark.parametrize("step", [0, 9, 10, 37, 79])
def test_a_unit_last_active_in_forward_s_died_by_update_s(step):
    assert told({1: [(step + 1, 119)]}) == [(1, "died", step, None)]


def test_a_unit_that_never_fired_was_born_dead():
    assert told({2: [(0, 119)]}) == [(2, "born dead", 0, None)]


def test_firing_in_two_windows_is_a_revival_dated_by_the_first_of_them():
    assert told({0: [(13, 60), (62, 74), (76, 80)]}) == [(0, "died", 12, 60)]


def test_firing_in_one_window_is_a_flicker_and_the_death_keeps_its_date():
    assert told({0: [(13, 60), (62, 119)]}) == [(0, "died", 12, None)]
    assert told(
        {0: [(13, 60), (62, 119)]}, thresholds=make_thresholds(patience=20, samples=100, revival_windows=1)
    ) == [
        (0, "died", 12, 60),
        (0, "relapsed", 61, None),
    ]


def test_flickers_between_deaths_do_not_add_up_to_a_revival():
    assert told({0: [(13, 50), (52, 90), (92, 160)]}, steps=161) == [(0, "died", 12, None)]


def test_a_unit_that_revives_and_dies_again_has_relapsed():
    assert told({0: [(13, 50), (72, 119)]}) == [(0, "died", 12, 50), (0, "relapsed", 71, None)]
    assert told({0: [(0, 50), (72, 119)]}) == [(0, "born dead", 0, 50), (0, "relapsed", 71, None)]


def test_a_short_silence_is_no_episode():
    assert told({0: [(13, 31)], 1: [(100, 118)], 2: [(103, 119)]}) == []


def test_a_site_that_was_first_seen_later_has_units_born_dead_from_then_on():
    fired = lives(3, 120, {0: [(0, 119)], 1: [(47, 119)]})
    fired[:40] = [None] * 40
    episodes = found(SITE, make_windows(SITE, fired, ends_every(10, 120)), EXACT)
    assert [(e.unit, e.state, e.first_step) for e in episodes] == [(0, "born dead", 40), (1, "died", 46)]


def test_a_gradient_that_reaches_a_dead_unit_ends_its_episode():
    windows = make_windows(SITE, lives(3, 60, {0: [(13, 59)]}), ends_every(10, 60))
    none = replace(windows[0], flow=ints([0] * 3), last_flow=ints([-1] * 3))
    screened = [replace(w, flow=none.flow, last_flow=none.last_flow) for w in windows]
    assert found(SITE, screened, EXACT)[0].last_step is None
    screened[-1] = replace(screened[-1], flow=ints([1, 0, 0]), last_flow=ints([55, -1, -1]))
    assert found(SITE, screened, EXACT)[0].last_step == 59


def test_the_samples_of_an_episode_are_those_of_its_silent_windows():
    windows = make_windows(SITE, lives(3, 60, {0: [(13, 59)], 1: [(0, 59)]}), ends_every(10, 60), samples=70)
    assert [(e.unit, e.samples) for e in found(SITE, windows, EXACT)] == [(0, 4 * 70), (1, 6 * 70)]
