"""Few points, and no step's rate far from the line through them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deadneuron.sinks.rates import Line

STEPS = 997


def drawn(rates):
    line, points = Line(), []
    for step, rate in enumerate(rates):
        points += line.add((step, rate, 0.0))
    return [(step, rate) for step, rate, _ in points + line.rest()]


CURVES = {
    "constant": (lambda s: 0.1, 2),
    "one jump": (lambda s: 0.1 if s < 331 else 0.01, 4),
    "one step only": (lambda s: 5.0 if s == 331 else 0.1, 5),
    "first step only": (lambda s: 5.0 if s == 0 else 0.1, 3),
    "linear": (lambda s: 0.1 * (1 - s / STEPS), 40),
    "warm-up and cosine": (lambda s: s / 97 if s < 97 else 0.5 * (1 + math.cos(math.pi * s / STEPS)), 60),
    "to zero and back": (lambda s: 0.1 if s % 200 < 100 else 0.0, 21),
    "zero": (lambda s: 0.0, 2),
}


@pytest.mark.parametrize("name", CURVES)
def test_every_steps_rate_lies_within_one_percent_of_the_line(name):
    curve, most = CURVES[name]
    rates = [curve(step) for step in range(STEPS)]
    points = drawn(rates)
    assert points[0] == (0, rates[0])
    assert points[-1] == (STEPS - 1, rates[-1])
    assert all(rates[step] == rate for step, rate in points)
    assert len(points) <= most
    between = np.interp(range(STEPS), *zip(*points, strict=True))
    np.testing.assert_allclose(between, rates, rtol=0.0101, atol=1e-15)


def test_noise_is_kept_point_by_point():
    rates = np.random.default_rng(7).uniform(0.5, 1.5, 101).tolist()
    assert len(drawn(rates)) > 80
