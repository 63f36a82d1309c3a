"""The numbers of the report's part on the learning rate."""

from __future__ import annotations

from deadneuron.causes import Observed, RateBand
from deadneuron.report.rate import _observed


def said(low, high, hazard=0.5):
    band = RateBand(low, high, 307, 2149, 11, hazard, None, None, 0, 0, None, None, None)
    (line, *_) = _observed(Observed(0, "SGD[0]", (band,), None, None, 207, ""))
    return line[1].plain


def test_a_dithered_rate_that_was_divided_back_is_one_rate():
    assert 0.1 * 1.5 / 1.5 != 0.1
    assert "SGD[0] at rate 0.1: " in said(0.1, 0.1 * 1.5 / 1.5)
    assert "SGD[0] at rate 0.1–0.101: " in said(0.1, 0.101)
