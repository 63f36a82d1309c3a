"""Exact tests of few seeds against scipy and against all ways to deal the values out."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, rankdata

from deadneuron.analysis.exact import holm, mann_whitney, ratio_of_means, smallest_p


def dealt_out(left, right):
    """Slowly: every way to deal the values out, by mid-ranks."""
    ranks = rankdata([*left, *right])
    n, middle = len(left), len(left) * (len(ranks) + 1) / 2
    seen = abs(sum(ranks[:n]) - middle)
    sums = [abs(sum(ranks[list(chosen)]) - middle) for chosen in combinations(range(len(ranks)), n)]
    return np.mean([one >= seen - 1e-9 for one in sums])


@pytest.mark.parametrize(
    ("left", "right", "p"),
    [
        ([5, 6, 7, 8], [1, 2, 3, 4], 2 / 70),
        ([1, 2, 3, 4], [5, 6, 7, 8], 2 / 70),
        ([4, 6, 7, 8], [1, 2, 3, 5], 4 / 70),
        ([1], [2], 1.0),
        ([2, 2], [2, 2], 1.0),
        ([0, 0, 0, 1], [0, 0, 0, 0], 1.0),
        ([1, 1, 1, 1], [0, 0, 0, 0], 2 / 70),
    ],
)
def test_small_cases_by_hand(left, right, p):
    assert mann_whitney(left, right) == pytest.approx(p)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 5), (4, 4), (7, 3)])
def test_without_ties_it_is_scipys_exact_test(n, m):
    random = np.random.default_rng(n + m)
    for _ in range(23):
        left, right = random.normal(size=n) + random.normal(), random.normal(size=m)
        assert mann_whitney(left, right) == pytest.approx(mannwhitneyu(left, right, method="exact").pvalue)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_with_ties_it_is_the_share_of_all_deals(left, right):
    assert mann_whitney(left, right) == pytest.approx(dealt_out(left, right))
    assert mann_whitney(left, right) == pytest.approx(mann_whitney(right, left))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (4, 4), (5, 5), (23, 19)])
def test_the_smallest_p_is_that_of_groups_apart(n, m):
    assert smallest_p(n, m) == pytest.approx(mann_whitney(range(100, 100 + n), range(m)))


def test_four_seeds_can_show_029():
    assert smallest_p(4, 4) == pytest.approx(0.0286, abs=1e-4)


def test_a_group_without_a_value_is_refused():
    for left, right in (([], [1.0]), ([1.0], [])):
        with pytest.raises(ValueError, match="both groups"):
            mann_whitney(left, right)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    for order in permutations([0.01, 0.02, 0.5]):
        assert dict(zip(order, holm(order), strict=True)) == pytest.approx({0.01: 0.03, 0.02: 0.04, 0.5: 0.5})


def test_of_very_many_seeds_it_is_the_normal_approximation():
    random = np.random.default_rng(13)
    left, right = random.normal(0.3, 1, 53).tolist(), random.normal(0, 1, 47).tolist()
    assert mann_whitney(left, right) == mannwhitneyu(left, right, method="asymptotic").pvalue
    assert mann_whitney(left[:37], right[:41]) == pytest.approx(
        mannwhitneyu(left[:37], right[:41], method="exact").pvalue, rel=1e-9
    )


def test_ratios_by_hand():
    assert ratio_of_means([0.5] * 4, [0.25] * 5, 0.01) == (2.0, 2.0, 2.0)
    assert ratio_of_means([0.0, 0.0], [0.0, 0.0], 0.01) == (None, None, None)
    assert ratio_of_means([0.2], [0.1, 0.1], 0.01) == (2.0, None, None)
    assert ratio_of_means([0.5] * 3, [0.25] * 5, 0.01) == (2.0, None, None), "three seeds show too little spread"
    # A zero: half a unit of 50 on both sides, and no interval.
    assert ratio_of_means([0.2] * 4, [0.0] * 4, 0.01) == (pytest.approx(21.0), None, None)
    assert ratio_of_means([0.0] * 4, [0.2] * 4, 0.01) == (pytest.approx(1 / 21), None, None)


def test_an_interval_holds_its_ratio_and_is_the_same_twice():
    high, low = [0.31, 0.23, 0.47, 0.29], [0.11, 0.07, 0.13, 0.02]
    ratio, least, most = ratio_of_means(high, low, 0.01)
    assert ratio == pytest.approx(np.mean(high) / np.mean(low))
    assert least < ratio < most
    assert (ratio, least, most) == ratio_of_means(high, low, 0.01)


@pytest.mark.parametrize("truth", [1.0, 3.0])
def test_of_many_seeds_the_interval_holds_the_truth_about_as_often_as_it_says(truth):
    random = np.random.default_rng(11)
    held = 0
    for _ in range(101):
        high, low = (scale * random.gamma(9.0, 1 / 9, 29) for scale in (0.1 * truth, 0.1))
        _, least, most = ratio_of_means(high, low, 0.001)
        held += least <= truth <= most
    assert 88 <= held <= 101  # 95.95 expected; below 88 by chance less than once in 1,000
