"""Axes of the page's drawings: numbers stand where they should, labels are round and never touch, whatever comes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadneuron.report.charts.axes import LETTER, NARROW, linear, logarithmic

EXTREME = st.floats(1e-300, 1e300) | st.floats(1e-3, 1e3) | st.sampled_from([0.0, 5e-324, 1e-300, 1e300, math.inf])


def texts(ticks) -> list[str]:
    return [tick.text for tick in ticks]


def test_a_logarithmic_axis_has_equal_factors_at_equal_distances():
    axis = logarithmic([0.01, 1.0], margin=0.06)  # two decades, and 0.12 more on both sides
    assert [axis.at(value) for value in (0.01, 0.1, 1.0)] == pytest.approx([0.12 / 2.24, 0.5, 2.12 / 2.24])
    assert axis.at(1e-9) == axis.at(0.0) == 0
    assert axis.at(1e9) == axis.at(math.inf) == 1


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.05, 0.8], ["0.05", "0.1", "0.2", "0.5"]),
        ([0.01, 1.0], ["0.01", "0.1", "1"]),
        ([0.1], ["0.05", "0.1", "0.2"]),
        ([0.14, 0.2], ["0.14", "0.16", "0.18", "0.2"]),
        ([1e-12, 1e12], ["1e-10", "1", "1e+10"]),
        ([0.1, 0.1 + 1e-4], ["0.05", "0.1", "0.2"]),
        ([1e-300, 1e300], ["1e-200", "1", "1e+200"]),
        ([], ["0.5", "1", "2"]),
    ],
)
def test_labels_are_round(values, labels):
    assert texts(logarithmic(values).ticks()) == labels


def test_zero_stands_apart():
    axis = logarithmic([0.0, 0.01, 1.0])
    assert axis.zero
    assert 0 < axis.at(0.0) < 0.15 < axis.at(0.01)
    assert texts(axis.ticks()) == ["0", "0.01", "0.1", "1"]


@pytest.mark.parametrize(
    ("top", "labels"),
    [
        (97.0, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        (101.0, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %", "120 %"]),
        (16.5, ["0 %", "5 %", "10 %", "15 %", "20 %"]),
        (0.0, ["0 %", "0.2 %", "0.4 %", "0.6 %", "0.8 %", "1 %"]),
        (math.nan, ["0 %", "0.2 %", "0.4 %", "0.6 %", "0.8 %", "1 %"]),
    ],
)
def test_a_linear_axis_begins_with_zero_and_ends_with_a_round_number(top, labels):
    axis = linear(top)
    assert texts(axis.ticks(" %")) == labels
    assert axis.at(0.0) == 0
    assert axis.at(axis.top) == axis.at(math.inf) == 1
    assert axis.at(axis.top / 4) == pytest.approx(0.25)


@given(st.lists(EXTREME, max_size=13))
def test_labels_never_touch_and_every_number_has_a_place(values):
    axis = logarithmic(values)
    ticks = axis.ticks()
    assert ticks
    for left, right in pairwise(ticks):
        assert NARROW * (right.at - left.at) > LETTER * (len(left.text) + len(right.text)) / 2
    for tick in ticks:  # a label stands where its number does
        assert axis.at(float(tick.text)) == pytest.approx(tick.at, abs=0.002)
    places = [axis.at(value) for value in sorted(values)]
    assert all(0 <= place <= 1 for place in places)
    assert places == sorted(places)


@given(EXTREME)
def test_linear_ticks_never_touch(top):
    axis = linear(top)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    assert [tick.at for tick in ticks] == sorted({tick.at for tick in ticks})
    if 1e-200 < top < 1e200:
        assert axis.top >= top * (1 - 1e-8)
        assert axis.top <= 1.4 * top
