"""What cannot be probed is told, and leaves the training as it was."""

from __future__ import annotations

import math

import pytest
import torch
from handset import RATE, hand_set, stepper

from deadneuron.errors import BranchError, ProfileError, UsageError
from deadneuron.experiments.branch import probe_learning_rates


def twice(model, optimizer):
    step = stepper(model, optimizer)
    return lambda batch: (step(batch), step(batch))[1]


def never(model, optimizer):
    return lambda batch: model(batch).mean()


def scheduled(model, optimizer):
    step = stepper(model, optimizer)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def scheduled_step(batch):
        loss = step(batch)
        scheduler.step()
        return loss

    return scheduled_step


def giving(value):
    def make(model, optimizer):
        step = stepper(model, optimizer)
        return lambda batch: (step(batch), value)[1]

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (twice, "step_fn made 2 optimizer steps in one call"),
        (never, "step_fn made no optimizer step.*gathers gradients"),
        (scheduled, r"step_fn changed the learning rate to 0\.00703125, where .* 0\.0078125 \(×0\.5\).*scheduler"),
        (giving(None), "step_fn gave no loss"),
        (giving("0.5"), r"no number for its loss \(str\)"),
        (giving(object()), r"no number for its loss \(object\)"),
        (giving(True), r"no number for its loss \(bool\)"),
        (giving(torch.ones(3)), r"no number for its loss \(a tensor of shape \(3,\)\)"),
    ],
)
def test_a_wrong_step_is_told_and_everything_is_restored(make, words):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    step = make(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(BranchError, match=words):
        probe_learning_rates(model, optimizer, step, [torch.ones(1, 1)], (0.5,), 3)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert optimizer.param_groups[0]["lr"] == RATE
    assert len(optimizer._optimizer_step_pre_hooks) == 0


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"multipliers": ()}, UsageError, "multipliers must be positive"),
        ({"multipliers": (1, 0)}, UsageError, "multipliers must be positive"),
        ({"multipliers": (1, math.inf)}, UsageError, "multipliers must be positive"),
        ({"multipliers": ("a",)}, UsageError, "multipliers must be positive"),
        ({"steps": 0}, UsageError, "steps must be at least 1"),
        ({"batches": []}, BranchError, r"there is no batch \(batches\)"),
        ({"probe": []}, BranchError, r"there is no batch \(probe\)"),
        ({"optimizer": 3}, UsageError, "no torch optimizer"),
        ({"extra": ["x"]}, UsageError, r"extra\[0\] \(str\)"),
        ({"profile": "nope"}, ProfileError, "unknown profile"),
    ],
)
def test_wrong_arguments(options, kind, words):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    given = {"optimizer": optimizer, "batches": [torch.ones(1, 1)], "multipliers": (1,), "steps": 1} | options
    with pytest.raises(kind, match=words):
        probe_learning_rates(model, step_fn=stepper(model, optimizer), **given)


def test_rates_that_cannot_be_multiplied():
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with pytest.raises(BranchError, match=r"every learning rate is 0 here \(SGD\[0\]\).*warm-up"):
        probe_learning_rates(model, optimizer, stepper(model, optimizer), [torch.ones(1, 1)])
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(BranchError, match="without a learning rate"):
        probe_learning_rates(model, optimizer, stepper(model, optimizer), [torch.ones(1, 1)])
