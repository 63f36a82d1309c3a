"""What one checkpoint says: hand-set states and weights, what is not said, and what is not even read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints.digits import train
from checkpoints.making import checkpoint_of, stored
from checkpoints.variants import maker
from torch import nn

from deadneuron.checkpoints.contents import Progress, Stored
from deadneuron.checkpoints.evidence.alone import traces_of
from deadneuron.checkpoints.evidence.layers import find_layers
from deadneuron.profiles import load_profile

FORENSICS = load_profile().checkpoints
PATIENCE = 100


def traces(checkpoint, patience=PATIENCE, layers=None):
    layers = find_layers(checkpoint) if layers is None else layers
    return traces_of(checkpoint, layers, patience, FORENSICS)


def stepped(model, make, gradients):
    """The optimizer after steps whose gradients the function writes: (step, name, gradient)."""
    optimizer = make(model.parameters())
    for step in range(gradients.steps):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn_like(parameter)
            gradients(step, name, parameter.grad)
        optimizer.step()
    return checkpoint_of(model, optimizer, gradients.steps)


class Stops:
    """Gradients of units stop at given steps; -1: none ever."""

    def __init__(self, steps, stops, axis=0):
        self.steps, self.stops, self.axis = steps, stops, axis

    def __call__(self, step, name, gradient):
        for unit, stop in self.stops.items():
            if step > stop:
                gradient.movedim(self.axis if gradient.dim() > 1 else 0, 0)[unit] = 0


def wide():
    return nn.Sequential(nn.Linear(53, 17), nn.ReLU())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("variant", ["Adam", "AdamW", "AMSGrad", "NAdam", "RAdam", "Adamax"])
def test_rows_that_never_had_a_gradient_and_rows_that_stopped(variant, bias):
    model = nn.Sequential(nn.Linear(53, 17, bias=bias), nn.ReLU())
    (said,) = traces(stepped(model, maker(variant), Stops(301, {2: -1, 5: 100, 11: 0, 13: 299})))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])
    assert said.age[2] == np.inf
    assert said.age[5] == pytest.approx(200, abs=9)
    assert said.age[11] == pytest.approx(300, abs=15)
    assert (said.age[[0, 1, 3, 4, 13]] < 20).all()
    np.testing.assert_array_equal(np.flatnonzero(said.age_most >= PATIENCE), [2, 5, 11])
    assert said.age_most[5] >= 200
    assert said.age_most[13] >= 1
    assert 600 < said.saturates < 900
    assert said.closed is None
    assert (said.step, len(said.evidence)) == (301, 3)


def test_momentum_rows():
    (said,) = traces(stepped(wide(), maker("momentum"), Stops(301, {2: -1, 5: 100, 13: 299})))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])
    assert said.age[5] == pytest.approx(200, abs=5)
    assert said.age_most is None
    assert (np.delete(said.age, [2, 5]) < 20).all()


def test_momentum_with_decay_is_measured_across_the_weights():
    (said,) = traces(stepped(wide(), maker("momentum with L2"), Stops(301, {2: -1, 5: 200})))
    assert said.never is None
    assert said.age[5] == pytest.approx(100, abs=5)
    assert said.age[2] == pytest.approx(said.saturates)  # what is left across the weights is rounding
    assert (np.delete(said.age, [2, 5]) < 20).all()


@pytest.mark.parametrize("variant", ["RMSprop", "centered RMSprop with momentum", "Adagrad", "Adadelta"])
@pytest.mark.parametrize("bias", [True, False])
def test_sums_tell_never_and_nothing_else(variant, bias):
    model = nn.Sequential(nn.Linear(53, 17, bias=bias), nn.ReLU())
    (said,) = traces(stepped(model, maker(variant), Stops(31, {2: -1, 5: 3})))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])
    assert (said.age, said.age_most) == (None, None)


def test_an_adagrad_that_did_not_start_at_0():
    make = maker("Adagrad", initial_accumulator_value=0.1)
    (said,) = traces(stepped(wide(), make, Stops(31, {2: -1})))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])


@pytest.mark.parametrize("variant", ["Adam with L2", "RMSprop with L2", "Adagrad with L2", "NAdam with L2"])
def test_with_the_decay_in_the_gradient_the_state_says_nothing(variant):
    (said,) = traces(stepped(wide(), maker(variant), Stops(31, {2: -1})))
    assert (said.never, said.age, said.age_most) == (None, None, None)
    assert "weight decay" in said.evidence[0]


@pytest.mark.parametrize("what", ["plain SGD", "no optimizer", "nobody's", "first step", "quantised", "sharded"])
def test_what_has_no_state_row_by_row_says_nothing(what):
    checkpoint = stepped(wide(), maker("SGD" if what == "plain SGD" else "Adam"), Stops(7, {2: -1}))
    if what == "no optimizer":
        checkpoint = replace(checkpoint, optimizers=())
    elif what != "plain SGD":
        (optimizer,) = checkpoint.optimizers
        wrong = {
            "nobody's": {},
            "first step": {"step": 0.0},
            "quantised": {"exp_avg_sq": stored(torch.zeros(17, 53, dtype=torch.uint8))},
            "sharded": {"exp_avg_sq": stored(torch.zeros(5, 53))},
        }[what]
        states = {name: {**state, **wrong} for name, state in optimizer.states.items()} if wrong else {}
        checkpoint = replace(checkpoint, optimizers=(replace(optimizer, states=states),))
    (said,) = traces(checkpoint)
    assert (said.never, said.age, said.age_most, said.evidence) == (None, None, None, ())


def test_float16_is_not_trusted_to_say_never():
    (said,) = traces(stepped(wide().half(), lambda p: torch.optim.Adam(p, eps=1e-3), Stops(31, {2: -1})))
    assert said.never is None
    assert any("float16" in one for one in said.evidence)


def test_bfloat16_is():
    (said,) = traces(stepped(wide().bfloat16(), maker("Adam"), Stops(301, {2: -1, 5: 100})))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])
    assert said.age[5] == pytest.approx(200, abs=60)  # averages of 8 bits
    assert (said.age_most[[0, 1, 3]] < PATIENCE).all()


def test_rows_that_are_nan_are_unknown():
    checkpoint = stepped(wide(), maker("Adam"), Stops(31, {2: -1}))
    for name in ("0.bias", "0.weight"):
        state = checkpoint.optimizers[0].states[name]
        broken = state["exp_avg_sq"].whole()
        broken[3] = torch.nan
        state["exp_avg_sq"] = stored(broken)
    (said,) = traces(checkpoint)
    assert not said.never[3]
    assert np.isnan(said.age[3])
    assert said.age_most[3] == np.inf
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0])
@pytest.mark.parametrize("variant", ["Adam", "momentum", "momentum with L2", "RMSprop"])
def test_states_of_one_value_raise_nothing(variant, value):
    checkpoint = stepped(wide(), maker(variant), Stops(3, {}))
    for state in checkpoint.optimizers[0].states.values():
        for key, one in state.items():
            if isinstance(one, Stored):
                state[key] = stored(torch.full(one.shape, value))
    (said,) = traces(checkpoint)
    if said.never is not None:
        assert said.never.all() == (value == 0)
    if said.age is not None and value != 0:
        assert np.isnan(said.age).all()
    if said.age is not None and said.never is not None and value == 0:
        assert (said.age == np.inf).all()


class Conv1D(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))


@pytest.mark.parametrize("inputs", [53, 17])
def test_units_along_the_second_axis_even_where_the_shape_is_square(inputs):
    stops = Stops(301, {2: -1, 5: 100}, axis=1)
    (said,) = traces(stepped(nn.ModuleDict({"fc": Conv1D(inputs, 17)}), maker("Adam"), stops))
    np.testing.assert_array_equal(np.flatnonzero(said.never), [2])
    np.testing.assert_array_equal(np.flatnonzero(said.age_most >= PATIENCE), [2, 5])
    assert said.age[5] == pytest.approx(200, abs=12)


def test_certificates_of_signs():
    model = nn.Sequential(nn.Linear(7, 43), nn.ReLU(), nn.Linear(43, 11), nn.ReLU(), nn.Linear(11, 3))
    with torch.no_grad():
        model[2].weight[1], model[2].bias[1] = -1.0, -1.0  # closed
        model[2].weight[2], model[2].bias[2] = -1.0, 0.1  # open at 0
        model[2].weight[3], model[2].bias[3] = 0.0, 0.0  # constant 0: closed
        model[2].weight[4], model[2].bias[4] = torch.nan, -1.0
        model[2].weight[5], model[2].bias[5] = -1.0, -1.0
        model[2].weight[5, 40] = 1e-20  # one positive weight, beyond the first columns
    first, second, _ = traces(checkpoint_of(model))
    assert first.closed is None  # its inputs are data
    np.testing.assert_array_equal(np.flatnonzero(second.closed), [1, 3])
    x = torch.rand(997, 43) * 100
    with torch.no_grad():
        assert (model[2](x)[:, second.closed] <= 0).all()
    assert "this assumes that 0 ends" in second.closing or "certain if 0 ends" in second.closing


def test_a_norm_that_closes_its_units():
    model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU())
    with torch.no_grad():
        model[1].bias[:] = torch.tensor([-3.1, -2.9, -3.1, 0.0, -1e-9, 0.1, torch.nan])
        model[1].weight[:] = torch.tensor([1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0])
    (said,) = traces(checkpoint_of(model))
    np.testing.assert_array_equal(np.flatnonzero(said.closed), [0, 2, 3, 4])


def counted(checkpoint, counts):
    """The checkpoint, with entries counted as they are read."""

    def wrap(name, one):
        def read(first, last):
            counts[name] = counts.get(name, 0) + last - first
            return one.read(first, last)

        return Stored(one.shape, one.dtype, read)

    optimizers = tuple(
        replace(
            one,
            states={
                name: {
                    key: wrap(f"{name}/{key}", value) if isinstance(value, Stored) else value
                    for key, value in state.items()
                }
                for name, state in one.states.items()
            },
        )
        for one in checkpoint.optimizers
    )
    return replace(
        checkpoint,
        optimizers=optimizers,
        weights={name: wrap(name, value) for name, value in checkpoint.weights.items()},
    )


def test_rows_that_their_biases_prove_alive_are_not_read(monkeypatch):
    monkeypatch.setattr("deadneuron.checkpoints.evidence.moments._SAMPLE", 1)
    monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks._BRIDGE", 1)
    model = nn.Sequential(nn.Linear(53, 997), nn.ReLU())
    checkpoint = stepped(model, maker("Adam"), Stops(201, {500: 50}))
    counts = {}
    (said,) = traces(counted(checkpoint, counts))
    assert counts["0.bias/exp_avg"] == 997
    assert counts["0.weight/exp_avg_sq"] < 97
    assert "0.weight" not in counts
    np.testing.assert_array_equal(np.flatnonzero(said.age_most >= PATIENCE), [500])


def test_chunks_and_their_borders_change_nothing(monkeypatch):
    model = nn.Sequential(nn.Linear(53, 97, bias=False), nn.ReLU(), nn.Linear(97, 41), nn.ReLU())
    checkpoint = stepped(model, maker("Adam"), Stops(201, {2: -1, 13: 50, 40: 120}))
    whole = traces(checkpoint)
    monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks._BRIDGE", 1)
    monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks.spans.__defaults__", (53 * 4 * 7,))
    for one, other in zip(whole, traces(checkpoint), strict=True):
        for name in ("never", "age", "age_most"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_progress_ends_where_it_said_it_would():
    told = []
    checkpoint = stepped(nn.Sequential(wide(), nn.Linear(17, 5)), maker("Adam"), Stops(3, {}))
    traces_of(
        checkpoint,
        find_layers(checkpoint),
        PATIENCE,
        FORENSICS,
        Progress(lambda done, total: told.append((done, total))),
    )
    assert told[-1] == (12 * (53 * 17 + 17 + 17 * 5 + 5), 12 * (53 * 17 + 17 + 17 * 5 + 5))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


@pytest.mark.parametrize("variant", ["Adam", "AdamW", "Adamax"])
def test_in_a_real_training_no_proof_is_wrong_and_never_is_exact(variant):
    training = train("mlp", maker(variant))
    for step, checkpoint in training.checkpoints.items():
        for said in traces(checkpoint, layers=training.layers):
            true = training.last(said.layer, step)
            assert (np.isinf(said.age_most) | (true <= said.age_most)).all()
            np.testing.assert_array_equal(said.never, np.isinf(true))
            assert (said.age_most < PATIENCE).sum() >= 0.9 * (true < PATIENCE).sum()


def test_nothing_of_torch_is_left_changed():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        traces(checkpoint_of(wide()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
