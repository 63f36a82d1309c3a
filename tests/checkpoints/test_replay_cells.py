"""Replay against recorded gradients: every optimizer in real trainings, planted and natural deaths. P = R = 1.000."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints.digits import PLANTED, train
from checkpoints.variants import VARIANTS, maker
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

from deadneuron.checkpoints.contents import Rates
from deadneuron.checkpoints.evidence.replay import replay
from deadneuron.profiles import load_profile

FORENSICS = load_profile().checkpoints
SCHEDULES = {
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 260),
    "stepped": lambda optimizer: StepLR(optimizer, 37, 0.7),
}


def hold(training, rates, first=160, last=260, **how):
    """Every layer's still units are those without a gradient; returns the intervals and how many were dead."""
    earlier, later = (training.checkpoints[step] for step in (first, last))
    intervals = replay(earlier, later, training.layers, rates, FORENSICS, **how)
    dead = 0
    for interval in intervals:
        truth = training.truth(interval.layer, first, last)
        np.testing.assert_array_equal(interval.still, truth, err_msg=interval.layer)
        assert not truth.all()
        dead += int(truth.sum())
    assert dead >= PLANTED * len(training.layers)
    return intervals, dead


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_mlp(variant):
    training = train("mlp", maker(variant))
    intervals, dead = hold(training, training.between(160, 260))
    assert dead > PLANTED * 3, "no unit died by itself"
    for interval in intervals:
        assert (interval.first, interval.last) == (160, 260)
        assert interval.rates == (training.rates.min(), training.rates.max())
    assert hold(training, training.between(160, 260), screened=False)[1] == dead
    if "L2" not in variant:  # the state alone
        hold(training, None)
        hold(training, training.between(160, 260, exact=False))


@pytest.mark.parametrize("kind", ["conv-bn", "conv"])
@pytest.mark.parametrize(
    "variant", ["SGD", "momentum", "momentum with L2", "Nesterov with L2", "Adam", "Adam with L2", "AdamW", "RMSprop"]
)
def test_convolutions(kind, variant):
    training = train(kind, maker(variant), steps=90, plant=20, keep=(40, 90))
    hold(training, training.between(40, 90), 40, 90)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("variant", ["SGD with L2", "momentum with L2", "Adam with L2", "AdamW"])
def test_rates_that_move(variant, schedule):
    training = train("mlp", maker(variant), schedule=SCHEDULES[schedule])
    hold(training, training.between(160, 260))


def test_a_convolution_with_a_cosine():
    training = train("conv-bn", maker("AdamW"), schedule=SCHEDULES["cosine"], steps=90, plant=20, keep=(40, 90))
    hold(training, training.between(40, 90), 40, 90)


@pytest.mark.parametrize("how", ["foreach", "fused"])
@pytest.mark.parametrize("variant", ["momentum with L2", "Adam", "Adam with L2", "AdamW", "Adagrad"])
def test_kernels(variant, how):
    training = train("mlp", maker(variant, **{how: True}))
    hold(training, training.between(160, 260))


def test_a_rate_in_a_tensor():
    training = train("mlp", lambda parameters: torch.optim.Adam(parameters, torch.tensor(0.01), weight_decay=1e-3))
    hold(training, training.between(160, 260))


def test_a_one_cycle_moves_the_momentum():
    momenta = []

    class Cycle(OneCycleLR):
        def step(self, *args):
            momenta.append(self.optimizer.param_groups[0]["betas"][0])
            super().step(*args)

    training = train("mlp", maker("Adam"), schedule=lambda optimizer: Cycle(optimizer, 0.02, total_steps=261))
    by_update = np.array(momenta[1:])[:, None]  # the first call is the constructor's
    known = training.between(160, 260)
    intervals, _ = hold(training, Rates(known.by_update, "", True, by_update[160:260]))
    assert "state and weights bit for bit" in intervals[0].evidence
    unknown = replay(*training.checkpoints.values(), training.layers, known, FORENSICS)
    assert {interval.still for interval in unknown} == {None}
    assert "a schedule moved the momentum" in unknown[0].reason


@pytest.mark.parametrize("variant", ["momentum", "Adam", "AdamW"])
def test_bfloat16(variant):
    training = train("mlp", maker(variant), dtype=torch.bfloat16)
    hold(training, training.between(160, 260))


def test_from_the_very_first_step():
    training = train("mlp", maker("Adam"), keep=(0, 260))
    hold_from_zero = replay(*training.checkpoints.values(), training.layers, training.between(0, 260), FORENSICS)
    for interval in hold_from_zero:
        np.testing.assert_array_equal(interval.still, training.truth(interval.layer, 0, 260))
    assert sum(interval.still.sum() for interval in hold_from_zero)


def test_denormals_that_a_training_flushed():
    """A momentum of 0.6 is denormal after 200 steps and stays there: a training that flushes it has zeros instead."""
    assert torch.set_flush_denormal(True)
    try:
        training = train("mlp", maker("momentum", momentum=0.6), steps=420, plant=60, keep=(160, 420))
    finally:
        torch.set_flush_denormal(False)
    assert (training.checkpoints[420].optimizers[0].states["0.bias"]["momentum_buffer"].whole()[:PLANTED] == 0).all()
    hold(training, training.between(160, 420), 160, 420)
