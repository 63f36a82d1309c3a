"""Replay: hand-set pairs and random ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints.making import stored
from checkpoints.pairs import DEAD, answer, ask, pair, rate, rates_of, with_kind
from checkpoints.variants import VARIANTS, maker
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deadneuron.checkpoints.contents import Layer, Part, Rates
from deadneuron.checkpoints.evidence.agreeing import level_of


@pytest.mark.parametrize("screened", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_without_a_gradient_are_still(variant, screened):
    found = answer(variant, pair(maker(variant)), screened=screened)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert (found.first, found.last, found.reason) == (7, 30, "")
    assert found.rates == (rate(variant), rate(variant))


@settings(max_examples=80, deadline=None)
@given(
    variant=st.sampled_from(list(VARIANTS)),
    when=st.integers(0, 18),
    unit=st.integers(0, 16),
    size=st.sampled_from([1e-6, 1e-4, 1.0]),
    updates=st.sampled_from([1, 2, 19]),
    where=st.sampled_from(["0.bias", "0.weight"]),
)
def test_one_gradient_in_one_row_at_one_step_is_seen(variant, when, unit, size, updates, where):
    """A row with one gradient is not still, and all the others are."""

    def touch(step, parameters):
        for parameter in parameters.values():
            if step >= 0:
                parameter.grad.zero_()
        if step == when % updates:
            gradient = parameters[where].grad
            gradient[(unit, 7) if gradient.dim() > 1 else unit] = size

    torch.manual_seed(when)
    found = answer(variant, pair(maker(variant), updates=updates, touch=touch), updates)
    if found.still is None:  # plain SGD, whose gradient was too small to change a weight anywhere
        assert variant == "SGD"
        assert size < 1e-3
        return
    assert found.still.sum() >= 16
    assert np.delete(found.still, unit).all()
    # Beside averages of gradients of size 1, squares below 1e-7 are lost; what m keeps of 1e-6 is not.
    lost = size < 1e-3 and ("Adagrad" in variant or "RMSprop" in variant or "Adadelta" in variant or "SGD" in variant)
    assert lost or "L2" in variant or not found.still[unit]
    assert size < 1 or not found.still[unit]


@pytest.mark.parametrize("variant", ["Adam", "Adam with L2", "momentum with L2", "SGD"])
def test_units_along_the_second_axis(variant):
    class Conv1D(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(inputs, 17))
            self.bias = nn.Parameter(torch.randn(17))

    for inputs in (53, 17):  # a square weight does not tell its axis; the bias does, by what agrees with it
        found = answer(variant, pair(maker(variant), nn.ModuleDict({"fc": Conv1D(inputs)}), axis=1))
        np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)


def test_small_chunks_change_nothing(monkeypatch):
    kept = pair(maker("AdamW"))
    monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks._BRIDGE", 1)
    monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks.spans.__defaults__", (53 * 4 * 3,))
    monkeypatch.setattr("deadneuron.checkpoints.evidence.rows._ENTRIES", 59)
    for screened in (True, False):
        np.testing.assert_array_equal(np.flatnonzero(answer("AdamW", kept, screened=screened).still), DEAD)


def test_a_unit_along_the_second_axis_is_still_only_if_every_block_of_it_is(monkeypatch):
    class Weight(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(53, 17))

    def touch(step, parameters):
        if step >= 0:
            parameters["fc.weight"].grad[4, 3] = 0.1  # one weight of a unit that else has no gradient

    kept = pair(maker("Adam"), nn.ModuleDict({"fc": Weight()}), dead=[2, 3, 5], axis=1, touch=touch)
    layers = [Layer("fc", "linear", 17, (Part("fc.weight", 1),))]
    for chunk in (17 * 4 * 3, 1 << 20):
        monkeypatch.setattr("deadneuron.checkpoints.evidence.blocks.spans.__defaults__", (chunk,))
        for screened in (True, False):
            found = ask(kept, rates_of(23, 0.01), layers, screened=screened)
            np.testing.assert_array_equal(np.flatnonzero(found.still), [2, 5])


def test_a_gradient_that_a_sum_swallows_is_seen_by_its_weight():
    """Adagrad's sum does not change by 1e-12, but the weight does, and far less than the tolerance allows others."""

    def touch(step, parameters):
        if step >= 0:
            for parameter in parameters.values():
                parameter.grad.zero_()
            parameters["0.weight"].grad[3, 7] = 1e-6

    model = nn.Sequential(nn.Linear(53, 17), nn.ReLU())
    nn.init.constant_(model[0].weight, 1.0)
    kept = pair(maker("Adagrad", lr=1.0), model, touch=touch, updates=1)
    sums = [one.optimizers[0].states["0.weight"]["sum"].whole() for one in kept]
    assert torch.equal(*sums)
    for rates in (None, rates_of(1, 1.0)):
        np.testing.assert_array_equal(np.flatnonzero(~ask(kept, rates).still), [3])


@pytest.mark.parametrize("variant", ["SGD with L2", "momentum with L2", "Adam with L2"])
def test_a_gradient_that_the_tolerance_would_let_pass_is_seen_where_bits_agree(variant):
    def touch(step, parameters):
        if step >= 0:
            for parameter in parameters.values():
                parameter.grad.zero_()
            parameters["0.weight"].grad[3] = 1e-9

    model = nn.Sequential(nn.Linear(53, 17), nn.ReLU())
    nn.init.constant_(model[0].weight, 1e-3)
    kept = pair(maker(variant), model, warm=3, touch=touch)
    found = answer(variant, kept)
    np.testing.assert_array_equal(np.flatnonzero(~found.still), [3])
    assert "to 1e-05" not in found.evidence
    for one in kept:
        one.optimizers[0].groups[0].settings["fused"] = True  # kernels that round otherwise: 1e-5 is all there is
    assert "to 1e-05" in answer(variant, kept).evidence


def test_the_level_is_the_first_that_explains_most_rows_that_moved():
    moved = np.array([True] * 6 + [False] * 9)
    rest = [0] * 9  # rows of zeros agree whichever kernels there were
    for levels, level in (
        ([0, 0, 0, 0, 2, 3], 0),
        ([0, 1, 1, 1, 1, 3], 1),
        ([0, 1, 2, 2, 2, 2], 2),
        ([3, 3, 3, 3, 3, 3], 0),
        ([1, 1, 1, 2, 2, 3], 1),
    ):
        assert level_of(np.array(levels + rest), moved) == level


@pytest.mark.parametrize("variant", ["Adam with L2", "AdamW", "Adam"])
def test_adam_or_adamw_are_both_tried(variant):
    kept = with_kind(pair(maker(variant)), None)
    for one in kept:
        one.optimizers[0].groups[0].settings.pop("decoupled_weight_decay")
    found = answer(variant, kept)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert ("AdamW or Adam" in found.evidence) == (variant != "Adam")


def test_words_say_what_was_compared():
    said = {
        "Adam": "zero-gradient replay of Adam over 23 steps: state and weights bit for bit",
        "Adam with L2": "zero-gradient replay of Adam over 23 steps: state and weights bit for bit",
        "SGD with L2": "zero-gradient replay of SGD over 23 steps: weights bit for bit",
    }
    for variant, words in said.items():
        assert answer(variant, pair(maker(variant))).evidence == words
    found = ask(pair(maker("Adam")), None)
    assert found.evidence.endswith("state bit for bit; weights were not compared, because the rates are not known")
    assert found.rates is None
    assert answer("SGD", pair(maker("SGD"))).evidence.startswith("weights that stayed the same bit for bit")


def test_updates_that_a_scaler_skipped_are_counted_by_the_state():
    kept = pair(maker("AdamW"))
    kept[1] = replace(kept[1], step=36)  # six of the loop's steps updated nothing
    found = answer("AdamW", kept, 29)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert "over 23 steps" in found.evidence
    moving = Rates(np.linspace(0.01, 0.02, 29)[:, None], "", True)
    assert "the rates are not known" in ask(kept, moving).evidence


def test_several_groups_have_their_own_rates():
    def make(parameters):
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.3}], weight_decay=0.01)

    kept = pair(make)
    found = ask(kept, Rates(np.tile([0.1, 0.3], (23, 1)), "", True))
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert found.rates == (0.3, 0.3)
    mistold = ask(kept, Rates(np.tile([0.3, 0.1], (23, 1)), "", True))
    assert mistold.still is None
    assert f"{len(DEAD)} units moved as units without a gradient do" in mistold.reason


def test_the_first_updates_of_all_begin_without_a_state():
    for variant in ("Adam", "momentum with L2", "NAdam", "Adagrad"):
        found = answer(variant, pair(maker(variant), warm=0))
        np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)


def test_a_part_that_says_nothing_is_named_and_the_others_speak():
    kept = pair(maker("Adam"))
    states = [dict(one.optimizers[0].states) for one in kept]
    for state in states:
        state["0.weight"] = {**state["0.weight"], "exp_avg": stored(torch.zeros(17, 53, dtype=torch.uint8))}
    kept = [replace(o, optimizers=(replace(o.optimizers[0], states=s),)) for o, s in zip(kept, states, strict=True)]
    found = answer("Adam", kept)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert "without 0.weight, because its optimizer's state does not lie row by row" in found.evidence


def test_nan_is_never_still():
    def touch(step, parameters):
        if step == 3:
            parameters["0.bias"].grad[1] = torch.nan

    for variant in ("Adam", "SGD", "momentum with L2"):
        found = answer(variant, pair(maker(variant), touch=touch))
        np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)


def test_another_rate_than_was_used_is_told_and_adams_state_decides():
    found = ask(pair(maker("AdamW")), rates_of(23, 0.011))
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert f"the weights of {len(DEAD)} of these units moved otherwise" in found.evidence


TINY = [3, 7, 13]


def tiny_gradients(step, parameters):
    if step >= 0:
        for parameter in parameters.values():
            parameter.grad[TINY] *= 3e-8


@pytest.mark.parametrize("variant", ["momentum", "momentum with L2", "SGD with L2", "Nesterov with L2"])
def test_gradients_that_are_tiny_are_no_doubt_where_other_rows_agree_to_the_bit(variant):
    found = answer(variant, pair(maker(variant), touch=tiny_gradients))
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)


def test_gradients_that_are_tiny_confirm_no_rates_that_are_told_wrong():
    variant = "momentum with L2"
    found = ask(pair(maker(variant), touch=tiny_gradients), rates_of(23, rate(variant) * 1.1))
    assert found.still is None
    assert f"{len(DEAD) + len(TINY)} units moved as units without a gradient do" in found.reason


@pytest.mark.parametrize("variant", ["momentum", "momentum with L2"])
def test_biases_alone_that_have_a_gradient_behind_dead_inputs_are_alive(variant):
    def touch(step, parameters):
        if step >= 0:
            parameters["0.weight"].grad.zero_()

    found = answer(variant, pair(maker(variant), dead=[], touch=touch))
    assert found.reason == ""
    assert not found.still.any()


@pytest.mark.parametrize(("dtype", "updates"), [(torch.float16, 131), (torch.float32, 1009)])
def test_a_buffer_that_shrank_to_nothing_does_not_decide_alone(dtype, updates):
    """One gradient, soon after the earlier checkpoint: it has left the buffer by the later one, but not the weights."""

    def touch(step, parameters):
        if step == 1:
            for parameter in parameters.values():
                parameter.grad[DEAD] = 1e-2

    kept = pair(maker("momentum"), dtype=dtype, updates=updates, touch=touch)
    found = answer("momentum", kept, updates)
    assert found.still is not None
    assert not found.still.any()
