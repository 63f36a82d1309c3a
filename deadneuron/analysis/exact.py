"""Statistics of few seeds: exact where that is possible, and said to be rough where it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from deadneuron.records import Floats

_RESAMPLES = 9999
_MOST = 80  # values that all ways are counted for
_FEWEST = 4  # seeds: a bootstrap of fewer shows a spread that is far too narrow


def mann_whitney(left: Sequence[float], right: Sequence[float]) -> float:
    """Exact two-sided p of Mann and Whitney's test that neither of two groups tends to larger values.

    The null distribution is the one over all ways to deal the values out to the two groups, of the sum of mid-ranks:
    exact with ties too. Two-sided: as far from its mean or farther. Without ties it is scipy's method="exact". Of more
    than 80 values together, where counting all ways takes long, it is scipy's normal approximation with its correction
    for ties. Raises `ValueError` for an empty group.
    """
    n, values = len(left), [*left, *right]
    if not n or n == len(values):
        raise ValueError("both groups need a value")
    if len(values) > _MOST:
        return float(stats.mannwhitneyu(left, right, method="asymptotic").pvalue)
    doubled = _doubled_ranks(values)  # integers, so that equal sums are equal
    ways = _subset_sums(doubled, n)
    middle = n * (len(values) + 1)  # twice the mean of the rank sum
    observed = abs(sum(doubled[:n]) - middle)
    extreme = sum(count for total, count in ways.items() if abs(total - middle) >= observed)
    return extreme / math.comb(len(values), n)


def smallest_p(n: int, m: int) -> float:
    """The smallest two-sided p that groups of n and m can give: 2 of C(n + m, n) ways to deal them out."""
    return min(1.0, 2 / math.comb(n + m, n))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that hold for all comparisons together (family-wise error)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    corrected, highest = [0.0] * len(ps), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = highest
    return corrected


def ratio_of_means(
    high: Sequence[float], low: Sequence[float], half: float
) -> tuple[float | None, float | None, float | None]:
    """Mean of `high` over mean of `low`, and a 95 % interval by a bootstrap over seeds (None for fewer than four).

    Where one of the means is zero, `half` (the share of half a unit) is added to both, as Haldane and Anscombe did for
    odds, and there is no interval; None where both are zero, for then there is nothing to compare. With four seeds the
    interval is rough: such percentiles are known to be too narrow.
    """
    above, below = np.asarray(high, dtype=float), np.asarray(low, dtype=float)
    if not above.any() and not below.any():
        return None, None, None
    ratio = float(_ratio(above.mean(), below.mean(), half))
    if min(len(above), len(below)) < _FEWEST or not (above.any() and below.any()):
        return ratio, None, None
    random = np.random.default_rng(0)
    drawn = [
        values[random.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1) for values in (above, below)
    ]
    left, right = np.percentile(_ratio(drawn[0], drawn[1], half), [2.5, 97.5])
    return ratio, float(left), float(right)


def _ratio(above: np.floating | Floats, below: np.floating | Floats, half: float) -> Floats:
    smoothed = np.where((np.asarray(above) == 0) | (np.asarray(below) == 0), half, 0.0)
    ratio: Floats = (above + smoothed) / (below + smoothed)
    return ratio


def _doubled_ranks(values: Sequence[float]) -> list[int]:
    ordered = sorted(values)
    # Twice the mid-rank: the first place of a value and the last one, both from 1.
    first = {value: place for place, value in reversed(list(enumerate(ordered, start=1)))}
    last = {value: place for place, value in enumerate(ordered, start=1)}
    return [first[value] + last[value] for value in values]


def _subset_sums(numbers: Sequence[int], size: int) -> dict[int, int]:
    """How many subsets of that size have each sum; Python's integers, so exact for any number of seeds."""
    ways: list[dict[int, int]] = [{0: 1}, *({} for _ in range(size))]
    for number in numbers:
        for taken in range(size, 0, -1):
            for total, count in ways[taken - 1].items():
                ways[taken][total + number] = ways[taken].get(total + number, 0) + count
    return ways[size]
