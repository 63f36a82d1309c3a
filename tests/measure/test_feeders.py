"""Producers and unit axes, read from the graphs of real layers."""

from __future__ import annotations

import pytest
import routes  # noqa: F401  # adds its cases
import torch
from producers import CASES, tokens, vectors
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import INPUTS, UNITS

from deadneuron.measure.axes import reshaped
from deadneuron.measure.feeders import still_fed_by, trace


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_the_producers_axis_and_parameter_are_found(make):
    x, axis, feeder = make()
    producer = trace(x)
    assert producer.feeder is feeder
    assert producer.axis == axis
    if feeder is not None:
        assert still_fed_by(x, producer.path, feeder)


def test_a_tensor_without_a_graph_has_no_producer():
    assert trace(nn.Linear(INPUTS, UNITS).requires_grad_(False)(vectors())) is None
    with torch.no_grad():
        assert trace(nn.Linear(INPUTS, UNITS)(vectors())) is None


def test_an_input_that_wants_its_own_gradient_is_no_parameter_of_a_layer():
    x = vectors(UNITS).requires_grad_()
    assert trace(x * 2) is None


def test_what_reentrant_checkpointing_hides_feeds_no_earlier_layer():
    first, second = nn.Linear(INPUTS, 2), nn.Linear(2, UNITS)
    x = checkpoint(second, first(vectors()), use_reentrant=True)
    producer = trace(x)
    assert producer.feeder is None
    assert producer.axis is None


def test_the_same_path_to_another_layer_is_not_the_same_feeder():
    one, other = nn.Linear(INPUTS, UNITS), nn.Linear(INPUTS, UNITS)
    x = one(vectors())
    path = trace(x).path
    assert still_fed_by(one(vectors()), path, one.bias)
    assert not still_fed_by(other(vectors()), path, one.bias)
    assert not still_fed_by(one(tokens()), path, one.bias), "tokens go through one more view"
    assert not still_fed_by(nn.Linear(INPUTS, UNITS, bias=False)(vectors()), path, one.bias)


def test_a_walk_through_an_endless_graph_ends():
    x = torch.ones(3, requires_grad=True)
    for _ in range(2000):
        x = x * 1.0
    assert trace(x) is None


@pytest.mark.parametrize(
    ("before", "after", "axis", "units", "expected"),
    [
        ((77, 5), (7, 11, 5), 1, 5, 2),
        ((7, 5, 13, 17), (7, 5, 221), 1, 5, 1),
        ((7, 5, 13, 17), (35, 13, 17), 1, 5, 0),
        ((1, 35, 13), (7, 5, 13), 1, 5, 1),
        ((7, 5, 1, 1), (7, 5), 1, 5, 1),
        ((7, 20, 13), (7, 5, 4, 13), 1, 20, 1),
        ((7, 11, 10), (7, 11, 2, 5), 2, 10, 3),
        ((7, 11, 5), (7, 55), 2, 5, 1),
        ((5,), (1, 5, 1), 0, 5, 1),
        ((7, 7, 7), (49, 7), 1, 7, 0),
        ((7, 7, 7), (49, 7), 2, 7, 1),
    ],
)
def test_a_reshape_carries_the_axis(before, after, axis, units, expected):
    assert reshaped(before, after, axis, units) == expected
