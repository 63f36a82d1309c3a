"""Axes, gates, dtypes and odd values in a real training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from watching import DEAD, SHAPES, STEPS, THRESHOLDS, added_up, check_window, frozen_sgd, train
from zoo import (
    BATCH,
    INPUTS,
    LENGTH,
    NEVER,
    TIME,
    UNITS,
    Seen,
    step_once,
    thresholds_conv,
    thresholds_linear,
)

import deadneuron
from deadneuron.errors import DeadneuronWarning, UsageError
from deadneuron.store.reader import read_folder

# ── frozen layers and guessed axes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_graph_the_axis_is_guessed_from_the_layer_registered_before(shape, run):
    make, size, axis = SHAPES[shape]
    model = nn.Sequential(make().requires_grad_(False), nn.ReLU())
    with deadneuron.watch(model, None, run) as monitor:
        model(torch.randn(size))
        monitor.step(lr=0.1)
    (site,), (window,) = monitor.sites, added_up(run).windows
    assert (site.unit_axis, site.axis_from, site.feeder, site.group) == (axis, "registration", None, 0)
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_an_axis_that_is_only_assumed_is_a_gap(run):
    model = nn.Sequential(nn.ReLU())
    with deadneuron.watch(model, None, run) as monitor:
        with pytest.warns(DeadneuronWarning, match="unit_axis="):
            model(torch.randn(BATCH, TIME, UNITS))
        monitor.step(lr=0.1)
    assert monitor.sites[0].axis_from == "shape"
    assert "assumed" in monitor.gaps[0].reason


def test_a_frozen_layer_behind_a_trained_one_has_no_feeder_and_its_own_axis(run):
    frozen = thresholds_conv(nn.Conv1d, THRESHOLDS, TIME).requires_grad_(False)
    model = nn.Sequential(nn.Linear(INPUTS, LENGTH), frozen, nn.ReLU())
    stored = train(model, run, lambda step: torch.randn(BATCH, TIME, INPUTS), 3)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.unit_axis, site.axis_from, site.feeder, site.group) == (1, "producer", None, None)
    assert window.rows == 3 * BATCH * LENGTH
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_a_layer_that_is_frozen_midway_keeps_its_site(run):
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), thresholds_linear(THRESHOLDS), nn.ReLU())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(6):
            model[1].requires_grad_(step < 3)
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    stored = added_up(run)
    assert [site.feeder for site in stored.info.sites] == ["1.bias"]
    assert [w.rows for w in stored.windows] == [6 * BATCH]


def test_the_user_decides_the_unit_axis(run):
    model = nn.Sequential(nn.Conv1d(INPUTS, UNITS, 1), nn.ReLU(), nn.Conv1d(UNITS, UNITS, 1), nn.ReLU())
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS, LENGTH), 3, unit_axis={"3": -1})
    assert [(s.units, s.unit_axis, s.axis_from) for s in stored.info.sites] == [
        (UNITS, 1, "producer"),
        (LENGTH, 2, "user"),
    ]
    assert [w.rows for w in stored.windows] == [3 * BATCH * LENGTH, 3 * BATCH * UNITS]


def test_a_unit_axis_that_names_no_activation_is_an_error(run):
    with pytest.raises(UsageError, match="unit_axis names no activation"):
        deadneuron.watch(nn.Sequential(nn.ReLU()), None, run, unit_axis={"fc*": 1})
    assert not run.exists()


def test_a_unit_axis_that_the_tensor_does_not_have_is_a_gap(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU())
    with (
        pytest.warns(DeadneuronWarning, match="unit_axis 3 is outside"),
        deadneuron.watch(model, None, run, unit_axis={"1": 3}),
    ):
        model(torch.randn(BATCH, INPUTS))
    assert added_up(run).windows == ()


def test_a_number_of_units_that_changes_is_a_gap(run):
    model = nn.Sequential(nn.ReLU())
    with deadneuron.watch(model, None, run):
        model(torch.randn(BATCH, 5))
        with pytest.warns(DeadneuronWarning, match="expected 5 units"):
            model(torch.randn(BATCH, 3))
    assert added_up(run).windows[0].rows == BATCH


# ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_prelu_is_judged_by_the_slopes_it_has_after_the_last_drain(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(UNITS))
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(100):
            if step == 40:  # in the first window: read again at its end
                with torch.no_grad():
                    model[1].weight.copy_(torch.tensor([0.25, 0.0, 0.25, 0.0, 0.25]))
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    start, first, second = read_folder(run).windows
    assert (start.active + first.active).tolist() == [50 * BATCH] * UNITS
    assert (second.first_step, second.rows) == (50, 50 * BATCH)
    assert (second.active == 0).nonzero()[0].tolist() == [1]
    assert second.active[[0, 2, 4]].tolist() == [second.rows] * 3
    assert 0 < second.active[3] < second.rows


def test_prelu_along_channels_while_units_are_features(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(TIME, init=0.0))
    stored = train(model, run, lambda step: torch.randn(BATCH, TIME, INPUTS), 3)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.unit_axis, site.gate) == (2, (0.0, math.inf))
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


@pytest.mark.parametrize("activation", [nn.LeakyReLU(), nn.RReLU(), nn.PReLU()], ids=repr)
def test_an_activation_with_an_open_gate_has_no_silent_unit(activation, run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), activation)
    (window,) = train(model, run, lambda step: torch.randn(BATCH, INPUTS)).windows
    assert window.active.tolist() == [window.rows] * UNITS == [STEPS * BATCH] * UNITS


@pytest.mark.parametrize("activation", [nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Mish(), nn.SELU()], ids=repr)
def test_a_smooth_activation_is_closed_far_below_zero_only(activation, run):
    model = nn.Sequential(thresholds_linear([0.0, NEVER, 1.5, -2.0, 200.0]), activation)
    (window,) = train(model, run, lambda step: torch.rand(BATCH, INPUTS)).windows
    assert window.active.tolist() == [window.rows, 0, window.rows, window.rows, 0]


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh(), nn.Softsign(), nn.Hardtanh()], ids=repr)
def test_a_saturated_unit_is_closed_on_either_side(activation, run):
    model = nn.Sequential(thresholds_linear([0.5, NEVER, -NEVER, 0.5, 0.5]), activation)
    (window,) = train(model, run, lambda step: torch.rand(BATCH, INPUTS), every=1).windows
    assert window.active.tolist() == [window.rows, 0, 0, window.rows, window.rows]
    assert window.above.tolist() == [0, 0, window.rows, 0, 0]


def test_a_nan_never_makes_a_unit_silent(run):
    def inputs(step):
        x = torch.full((BATCH, INPUTS), -1.0)
        if step == 10:
            x[2, 1] = math.nan
        return x

    class OnlySecondUnit(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear([0.0, 0.0, -9.0]), nn.ReLU()

        def forward(self, x):
            h = self.fc(x.nan_to_num())
            return self.act(torch.cat([h[:, :1], h[:, 1:2] + 0 * x[:, 1:2], h[:, 2:]], 1))

    def loop(model, optimizer, x):  # no gradients: a NaN in the loss would reach all weights, even at a rate of 0
        model(x)
        optimizer.step()

    (window,) = train(OnlySecondUnit(), run, inputs, loop=loop).windows
    assert window.active.tolist() == [0, 1, STEPS * BATCH]
    assert window.last_active.tolist() == [-1, 10, STEPS - 1]
    assert window.nonfinite.tolist() == [0, 1, 0]
    assert window.mean[1] == -1.0, "of the finite rows"
    assert window.first_nonfinite.tolist() == [-1, 10, -1]
    assert window.peak[0] == -1.0


def test_infinite_rows_are_told_apart_from_finite_ones(run):
    model = nn.Sequential(nn.ReLU())
    x = torch.tensor([[math.inf, -math.inf, 1.0], [1.0, -1.0, 3.0]])
    with deadneuron.watch(model, None, run) as monitor:
        model(x)
        monitor.step(lr=0.1)
    (window,) = added_up(run).windows
    assert window.active.tolist() == [2, 0, 2]
    assert window.nonfinite.tolist() == [1, 1, 0]
    assert window.mean.tolist() == [1.0, -1.0, 2.0]
    assert window.magnitude.tolist() == [1.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_count_the_same(dtype, run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU()).to(dtype)
    seen = Seen.through(model[1])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS).to(dtype))
    check_window(stored.windows[0], seen.inputs, seen.outputs, 1, (0.0, math.inf), 0, 10, BATCH)


def test_autocast_counts_what_the_activation_saw(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(UNITS, init=0.0), nn.Linear(UNITS, 2), nn.ReLU())

    def loop(model, optimizer, x):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().sum()
        loss.backward()
        optimizer.step()

    seen = Seen.through(model[1])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS), loop=loop)
    assert seen.inputs[0].dtype == torch.bfloat16
    check_window(stored.windows[0], seen.inputs, seen.outputs, 1, (0.0, math.inf), 0, 10, BATCH)
    assert [site.feeder for site in stored.info.sites] == ["0.bias", "2.bias"]
