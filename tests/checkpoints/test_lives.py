"""Looks become lives: exact cases, and against a slow walk over one unit at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadneuron.checkpoints.lives import Look, find_lives


def look(first, last, *still, rates=(0.1, 0.1), **more):
    """A look between two checkpoints, of units 0, 1 …"""
    known = None if still == (None,) else np.array(still, dtype=bool)
    return Look(first, last, last - first + 1, known, rates, **more)


def test_a_unit_that_lost_its_gradient_is_dated_to_the_interval_before_its_silence():
    looks = [
        look(0, 99, False, False, rates=(0.1, 0.2)),
        look(100, 199, False, False, rates=(0.3, 0.3)),
        look(200, 299, True, False),
    ]
    lives = find_lives(7, 2, looks, patience=100)
    (episode,) = lives.episodes
    assert (episode.site, episode.unit, episode.state, episode.born) == (7, 0, "died", False)
    assert (episode.first_step, episode.latest, episode.last_step) == (100, 199, None)
    assert (episode.rate, episode.rates) == (0.3, (0.3, 0.3))
    assert lives.dead.tolist() == [True, False]
    assert (lives.steps, lives.dead_then, lives.silent_then) == ((99, 199, 299), (0, 0, 1), (0, 0, 0))


def test_the_rate_is_a_span_where_it_changed_and_none_where_it_is_not_known():
    looks = [look(0, 99, False, rates=(0.1, 0.2)), look(100, 199, True)]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.rate, episode.rates) == (None, (0.1, 0.2))
    looks = [look(0, 99, False, rates=None), look(100, 199, True)]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.rate, episode.rates) == (None, None)


def test_silence_shorter_than_the_patience_is_not_death_and_adds_up_over_looks():
    looks = [look(0, 49, False), look(50, 99, True), look(100, 148, True)]
    lives = find_lives(0, 1, looks, patience=100)
    assert (lives.dead.tolist(), lives.silent.tolist(), lives.episodes) == ([False], [True], ())
    lives = find_lives(0, 1, [*looks, look(149, 149, True)], patience=100)
    assert lives.dead.tolist() == [True]
    assert lives.silent_then == (0, 1, 1, 0)


def test_a_unit_that_comes_back_has_revived_and_one_that_dies_again_has_relapsed():
    looks = [look(0, 99, False), look(100, 199, True), look(200, 299, False), look(300, 399, True)]
    first, second = find_lives(0, 1, looks, patience=100).episodes
    assert (first.state, first.first_step, first.latest, first.last_step) == ("died", 0, 99, 199)
    assert (second.state, second.first_step, second.latest, second.last_step) == ("relapsed", 200, 299, None)


def test_what_was_silent_before_and_never_dead_does_not_relapse():
    looks = [look(0, 49, False), look(50, 99, True), look(100, 199, False), look(200, 299, True)]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert episode.state == "died"


def test_born_dead_is_who_is_still_from_step_0_or_never_had_a_gradient():
    (born,) = find_lives(0, 1, [look(0, 99, True)], patience=100).episodes
    assert (born.state, born.born, born.first_step, born.rates) == ("born dead", True, 0, None)
    looks = [look(500, 599, True, True)]
    never = np.array([True, False])
    born, died = find_lives(0, 2, looks, patience=100, never=never).episodes
    assert (born.state, died.state) == ("born dead", "died")
    assert (died.first_step, died.latest, died.rates) == (0, 499, None)  # before the first checkpoint, some time


def test_a_proof_from_the_moments_narrows_the_date():
    earliest, latest = np.array([420]), np.array([440])
    looks = [look(500, 599, True, earliest=earliest, latest=latest)]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.first_step, episode.latest) == (420, 440)
    looks = [look(400, 499, False), look(500, 599, True, earliest=np.array([480]))]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.first_step, episode.latest) == (480, 499)
    looks = [look(400, 499, False), look(500, 599, True, earliest=np.array([499]))]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.first_step, episode.latest) == (499, None)  # known to the step


def test_what_cannot_be_told_is_neither_silence_nor_activity():
    looks = [
        look(0, 99, False, rates=(0.1, 0.1)),
        look(100, 199, None, rates=(0.5, 0.5)),
        look(200, 299, True),
        look(300, 399, None),
        look(400, 499, True),
    ]
    lives = find_lives(0, 1, looks, patience=150)
    (episode,) = lives.episodes
    assert (episode.first_step, episode.latest, episode.last_step) == (0, 199, None)
    assert episode.rates == (0.1, 0.5)  # the death may have been in the interval that nothing is known of
    assert lives.steps == (99, 299, 499)


def test_measured_checkpoints_are_points_and_their_examples_do_not_add_up():
    def point(step, covers, still, samples):
        return Look(step, step, covers, np.array([still]), (0.2, 0.4), samples)

    looks = [point(0, 100, False, 500), point(200, 200, True, 500), point(300, 100, True, 700)]
    (episode,) = find_lives(0, 1, looks, patience=100).episodes
    assert (episode.first_step, episode.latest, episode.samples, episode.rates) == (0, 199, 700, (0.2, 0.4))


def test_no_look_is_no_life():
    lives = find_lives(0, 3, [], patience=100)
    assert lives.episodes == ()
    assert not lives.dead.any()
    assert not lives.silent.any()


def walk_one(looks, unit, patience):
    """(spells of silence as (alive look or None, first look, last look or None, dead), in order) of one unit."""
    spells, alive, began, covered, dead, last = [], None, None, 0, False, None
    for one in looks:
        if one.still is None:
            continue
        if one.still[unit]:
            began, covered = (one if began is None else began), covered + one.covers
            dead = dead or covered >= patience
        else:
            if dead:
                spells.append((alive, began, last))
            alive, began, covered, dead = one, None, 0, False
        last = one
    return [*spells, (alive, began, None)] if dead else spells


@st.composite
def series(draw):
    units = draw(st.sampled_from([1, 2, 5]))
    looks, step = [], draw(st.sampled_from([0, 13]))
    for _ in range(draw(st.integers(0, 9))):
        length = draw(st.integers(1, 60))
        still = draw(st.none() | st.lists(st.booleans(), min_size=units, max_size=units))
        looks.append(look(step, step + length - 1, *([None] if still is None else still)))
        step += length
    return units, looks


@given(series(), st.integers(1, 120))
def test_lives_are_those_of_a_walk_over_one_unit_at_a_time(given_series, patience):
    units, looks = given_series
    lives = find_lives(0, units, looks, patience)
    for unit in range(units):
        expected = walk_one(looks, unit, patience)
        episodes = [episode for episode in lives.episodes if episode.unit == unit]
        assert len(episodes) == len(expected)
        for index, (episode, (alive, began, last)) in enumerate(zip(episodes, expected, strict=True)):
            assert episode.last_step == (None if last is None else last.last)
            if alive is None and began.first == 0:
                assert episode.state == "born dead"
                continue
            assert episode.state == ("relapsed" if index else "died")
            assert episode.first_step == (0 if alive is None else alive.first)
            assert max(episode.first_step, episode.latest or 0) == max(began.first - 1, episode.first_step)
        assert lives.dead[unit] == (bool(expected) and expected[-1][2] is None)
    assert not (lives.dead & lives.silent).any()


@pytest.mark.parametrize("patience", [1, 50, 100])
def test_shares_over_time_end_with_what_is_so_at_the_end(patience):
    rng = np.random.default_rng(3)
    looks = [look(50 * i, 50 * i + 49, *(rng.random(31) < 0.7)) for i in range(11)]
    lives = find_lives(0, 31, looks, patience)
    assert lives.dead_then[-1] == lives.dead.sum()
    assert lives.silent_then[-1] == lives.silent.sum()
