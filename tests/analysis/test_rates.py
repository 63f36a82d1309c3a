"""Every death gets the rate that its own update used."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.rates import RateTable, worst_steps
from deadneuron.records import Episode, Tick

STEPS = 300


def planted(step, ticks, *, groups=("SGD[0]",), group=0):
    """A run in which unit 1 of 7 dies by update `step`."""
    site = make_site(0, 7, group=group)
    windows = make_windows(site, lives(7, STEPS, {1: [(step + 1, STEPS - 1)]}), ends_every(50, STEPS))
    return make_run([site], windows, ticks, groups=groups)


def schedule(step: int) -> float:
    return 0.1 * math.cos(step / 200)


@pytest.mark.parametrize("step", [0, 49, 50, 73, 149, 190])
def test_a_planted_death_gets_the_rate_of_its_step_under_a_schedule(step):
    (episode,) = diagnose(planted(step, make_ticks([schedule(s) for s in range(STEPS)]))).episodes
    assert episode.first_step == step
    assert episode.rate == schedule(step)


def test_the_verdict_names_the_median_death_and_its_rate():
    site = make_site(0, 7)
    silent = {unit: [(step + 1, STEPS - 1)] for unit, step in enumerate([31, 57, 83, 111])}
    run = make_run(
        [site],
        make_windows(site, lives(7, STEPS, silent), ends_every(50, STEPS)),
        make_ticks([schedule(s) for s in range(STEPS)]),
    )
    (verdict,) = diagnose(run).verdicts
    assert (verdict.since, verdict.rate) == (57, schedule(57))


def test_a_skipped_step_took_no_update_so_the_next_one_ended_the_unit():
    ticks = make_ticks([schedule(s) for s in range(STEPS)])
    for step in (73, 74):
        ticks[step] = Tick(step, 0.0, (schedule(step),), skipped=True)
    (episode,) = diagnose(planted(73, ticks)).episodes
    assert episode.first_step == 73
    assert episode.rate == schedule(75)


def test_a_step_of_another_optimizer_has_no_rate_of_this_group():
    ticks = make_ticks([(schedule(s), math.nan) if s % 3 else (math.nan, 7.0 + s) for s in range(STEPS)])
    run = planted(75, ticks, groups=("SGD[0]", "AdamW[0]"))
    assert diagnose(run).episodes[0].rate == schedule(76)
    other = planted(76, ticks, groups=("SGD[0]", "AdamW[0]"), group=1)
    assert diagnose(other).episodes[0].rate == 7.0 + 78


@pytest.mark.parametrize("group", [None, 3])
def test_no_rate_is_told_where_no_group_is_known(group):
    diagnosis = diagnose(planted(73, make_ticks([0.1] * STEPS), group=group))
    assert diagnosis.episodes[0].rate is None
    assert diagnosis.verdicts[0].rate is None
    assert diagnosis.links == ()


def test_no_rate_is_told_after_the_last_tick_or_without_any():
    assert diagnose(planted(73, make_ticks([0.1] * 73))).episodes[0].rate is None
    assert diagnose(planted(73, [])).episodes[0].rate is None
    assert diagnose(planted(73, make_ticks([0.1] * STEPS, skipped=True))).episodes[0].rate is None


@settings(max_examples=100, deadline=None)
@given(
    ticks=st.lists(
        st.builds(
            Tick,
            step=st.integers(0, 40),
            time=st.just(0.0),
            rates=st.lists(st.floats(0, 1) | st.just(math.nan), min_size=2, max_size=2).map(tuple),
            skipped=st.booleans(),
        ),
        unique_by=lambda tick: tick.step,
        max_size=17,
    ),
    step=st.integers(0, 45),
    group=st.integers(0, 1),
)
def test_the_rate_is_that_of_the_next_update_that_moved_the_group(ticks, step, group):
    ticks.sort(key=lambda tick: tick.step)
    expected = None
    for tick in ticks:
        if tick.step >= step and not tick.skipped and not math.isnan(tick.rates[group]):
            expected = tick.rates[group]
            break
    assert RateTable(make_run(ticks=ticks, groups=("a", "b"))).at(step, (group,)) == expected


def death(step: int, rate: float | None = 0.1, site: int = 0) -> Episode:
    return Episode(site, 0, "died", step, None, False, rate, 300)


def test_the_worst_steps_come_first_and_ties_in_order():
    deaths = [death(step) for step in (7, 7, 3, 5, 5, 5, 2)]
    assert worst_steps(deaths) == [(5, 3, 0.1), (7, 2, 0.1), (2, 1, 0.1), (3, 1, 0.1)]
    assert worst_steps(deaths, 1) == [(5, 3, 0.1)]
    assert worst_steps([]) == []
