"""States of units at each window's end, against an oracle that knows every step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ends_every, ints, lives, make_site, make_thresholds, make_window, make_windows
from spells import World, spells, told_dead, worlds

from deadneuron.records import Window
from deadneuron.states import ACTIVE, DEAD, NEVER, RARE, SILENT, bound, make_timeline, walk


def walked(site, windows, thresholds):
    return list(walk(make_timeline(site, windows), thresholds))


def plain_state(world: World, unit: int, first: int, end: int, before: int, longest: int) -> int:
    """The state at the end of window first … end; `longest` is the length of the longest window so far."""
    rows = sum(world.fired[step][unit] for step in range(first, end + 1))
    samples = next(n for a, b, n in world.seen if (a, b) == (first, end))
    if told_dead(world, unit, end):
        return DEAD
    by_window = SILENT if rows == 0 else RARE if rows < 0.01 * samples * 997 else ACTIVE
    watched = [step for a, b, _ in world.seen for step in range(a, b + 1) if step <= end]
    silent = next((i for i, step in enumerate(reversed(watched)) if world.fired[step][unit]), len(watched))
    if end - first + 1 < longest and silent < longest:  # a short window: only a firing of a silent unit counts
        return by_window if rows and before in (SILENT, DEAD) else before
    return by_window


@settings(max_examples=300, deadline=None)
@given(world=worlds())
def test_the_states_are_those_of_the_oracle_at_the_end_of_every_window(world: World):
    before, longest = [ACTIVE] * world.site.units, 0
    for moment, (first, end, _) in zip(walked(world.site, world.windows(), world.thresholds), world.seen, strict=True):
        longest = max(longest, end - first + 1)
        for unit in range(world.site.units):
            before[unit] = plain_state(world, unit, first, end, before[unit], longest)
            assert moment.states[unit] == before[unit], (unit, end)


@settings(max_examples=200, deadline=None)
@given(world=worlds())
def test_silence_is_counted_in_watched_steps_and_examples_of_silent_windows(world: World):
    moment = walked(world.site, world.windows(), world.thresholds)[-1]
    end = world.seen[-1][1]
    for unit in range(world.site.units):
        current = [spell for spell in spells(world, unit) if spell.woke is None]
        assert moment.silent_steps[unit] == sum(len(spell.steps) for spell in current)
        assert moment.silent_samples[unit] == sum(spell.samples(world, end) for spell in current)
        fired = [step for a, b, _ in world.seen for step in range(a, b + 1) if world.fired[step][unit]]
        assert moment.last_seen[unit] == (fired[-1] if fired else NEVER)


@settings(max_examples=50, deadline=None)
@given(world=worlds(), seed=st.integers(0, 99))
def test_the_order_in_which_windows_are_given_does_not_matter(world: World, seed):
    windows = world.windows()
    mixed = [windows[i] for i in np.random.default_rng(seed).permutation(len(windows))]
    for a, b in zip(
        walked(world.site, windows, world.thresholds), walked(world.site, mixed, world.thresholds), strict=True
    ):
        assert np.array_equal(a.states, b.states)


SITE = make_site(0, 3)
EXACT = make_thresholds(patience=20, samples=100, revival_windows=2)


def states_of(fired, ends, thresholds, **changes):
    return walked(SITE, make_windows(SITE, fired, ends, **changes), thresholds)[-1].states.tolist()


def test_patience_is_reached_at_exactly_so_many_silent_steps():
    # Unit 0 is silent in the last 20 steps, unit 1 in the last 19.
    fired = lives(3, 40, {0: [(20, 39)], 1: [(21, 39)]})
    assert states_of(fired, ends_every(5, 40), EXACT) == [DEAD, SILENT, ACTIVE]


def test_samples_are_reached_at_exactly_so_many_examples():
    # The last 20 steps are 4 windows of 25 examples for unit 0; unit 1 fired in the first step of the first of them.
    fired = lives(3, 50, {0: [(20, 49)], 1: [(31, 49)]})
    assert states_of(fired, ends_every(5, 50), EXACT, samples=17) == [DEAD, SILENT, ACTIVE]
    assert states_of(fired, ends_every(5, 50), make_thresholds(patience=20, samples=102), samples=17)[0] == DEAD
    assert states_of(fired, ends_every(5, 50), make_thresholds(patience=20, samples=103), samples=17)[0] == SILENT


def test_more_examples_than_the_patience_gives_delay_death_and_do_not_prevent_it():
    fired = lives(3, 200, {0: [(0, 199)]})
    moments = walked(
        SITE, make_windows(SITE, fired, ends_every(5, 200), samples=1), make_thresholds(patience=20, samples=31)
    )
    deaths = [m.window for m in moments if m.states[0] == DEAD]
    assert deaths == list(range(30, 40))


def test_steps_in_which_the_site_was_not_seen_are_no_silence():
    fired = lives(3, 60, {0: [(10, 59)]})
    fired[15:50] = [None] * 35  # 5 silent steps before, 10 after
    windows = make_windows(SITE, fired, ends_every(5, 60))
    moment = walked(SITE, windows, EXACT)[-1]
    assert moment.silent_steps[0] == 15
    assert moment.states[0] == SILENT


def test_a_window_that_begins_with_the_step_that_ended_the_one_before_counts_it_once():
    one = make_window(SITE, 0, 4, [[1, 0, 1]] * 5)
    two = make_window(SITE, 4, 8, [[0, 0, 1]] * 5)
    moment = walked(SITE, [one, two], EXACT)[-1]
    assert moment.silent_steps.tolist() == [4, 9, 0]


def flowing(window: Window, last_flow: list[int]) -> Window:
    from dataclasses import replace

    return replace(window, flow=ints(int(step >= 0) for step in last_flow), last_flow=ints(last_flow))


def test_a_gradient_after_the_last_firing_means_not_dead():
    fired = lives(3, 40, {0: [(10, 39)], 1: [(10, 39)], 2: [(0, 39)]})
    windows = make_windows(SITE, fired, ends_every(10, 40))
    assert walked(SITE, windows, EXACT)[-1].states.tolist() == [DEAD, DEAD, DEAD]
    screened = [flowing(w, [-1, -1, -1]) for w in windows]
    screened[0] = flowing(windows[0], [9, 9, -1])  # while they were active
    screened[3] = flowing(windows[3], [-1, 33, 35])
    assert walked(SITE, screened, EXACT)[-1].states.tolist() == [DEAD, SILENT, SILENT]
    assert walked(SITE, screened[:3], EXACT)[-1].states.tolist() == [DEAD, DEAD, DEAD]


@pytest.mark.parametrize(("rows", "state"), [(9, RARE), (10, ACTIVE), (11, ACTIVE), (0, SILENT)])
def test_rare_is_less_than_the_share_and_not_silent(rows, state):
    window = make_window(SITE, 0, 0, [[rows, 500, 500]], rows=1000)
    assert walked(SITE, [window], EXACT)[-1].states[0] == state


@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.07, 0.1, 0.29])
def test_a_share_of_exactly_the_threshold_is_not_rare(share):
    """0.07 × 100 is more than 7 in floating point."""
    for rows in range(100, 3000, 100):
        window = make_window(SITE, 0, 0, [[round(share * rows)] * 3], rows=rows)
        assert walked(SITE, [window], make_thresholds(rare=share))[-1].states[0] == ACTIVE, rows


def test_no_windows_make_no_timeline():
    assert make_timeline(SITE, []) is None


def test_the_bound_is_the_rule_of_three_and_never_below_the_exact_one():
    assert bound(0) is None
    assert bound(None) is None
    assert bound(1) == 1.0
    for n in (1, 2, 3, 5, 31, 300, 2995, 10**7):
        assert bound(n) >= 1 - 0.05 ** (1 / n)
    assert bound(3000) == 0.001
