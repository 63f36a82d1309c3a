"""Pooled states: exact cases, and a slow count beside them."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deadneuron.pictures import grouped, pool_rows, pooled


def states(*rows):
    return np.array(rows, dtype=np.uint8)


def test_few_units_are_not_pooled():
    given_states = states([0, 3, 3], [1, 2, 0])
    made, per_row = pool_rows(given_states, rows=2)
    assert np.array_equal(made, given_states)
    assert per_row == 1


def test_a_pooled_row_is_what_most_of_its_units_are_and_the_graver_one_on_a_tie():
    made, per_row = pool_rows(states([0, 3], [0, 0], [3, 0], [2, 3], [2, 3]), rows=2)
    assert per_row == 3
    assert made.tolist() == [[0, 0], [2, 3]]
    made, _ = pool_rows(states([0, 1], [3, 2]), rows=1)
    assert made.tolist() == [[3, 2]]


def test_groups_are_of_about_equal_length_and_leave_nothing_out():
    assert grouped(3, 5) == [(0, 1), (1, 2), (2, 3)]
    assert grouped(7, 3) == [(0, 2), (2, 5), (5, 7)]
    assert grouped(0, 3) == []


@given(st.integers(1, 23), st.integers(1, 29), st.integers(1, 7), st.integers(0, 2**31))
def test_pooling_is_that_of_a_slow_count(units, windows, most, seed):
    given_states = np.random.default_rng(seed).integers(0, 4, (units, windows)).astype(np.uint8)
    groups = grouped(windows, most)
    assert [a for a, _ in groups] == [0, *(b for _, b in groups[:-1])]
    assert groups[-1][1] == windows
    made = pooled(given_states, groups)
    for unit in range(units):
        for column, (a, b) in enumerate(groups):
            counts = Counter(given_states[unit, a:b].tolist())
            best = max(counts.values())
            assert made[unit, column] == max(state for state, count in counts.items() if count == best)
    rows, per_row = pool_rows(given_states, most)
    assert rows.shape == (-(-units // per_row), windows)
    assert rows.shape[0] <= most
