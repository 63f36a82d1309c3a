"""Schedules in words give the rates they say, held against what the optimizer used."""

from __future__ import annotations

import math

import pytest
import torch

from deadneuron.errors import LabError
from deadneuron.experiments.schedules import parse_schedule


def rates_of(kind, steps, **arguments):
    """The factors of a scheduler of torch, as the optimizer sees them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, **arguments)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_and_step_are_those_of_torch():
    steps = 41
    cosine, step = parse_schedule("cosine", steps), parse_schedule("step:7:0.3", steps)
    expected = rates_of(torch.optim.lr_scheduler.CosineAnnealingLR, steps, T_max=steps)
    assert [cosine(s) for s in range(steps)] == pytest.approx(expected)
    expected = rates_of(torch.optim.lr_scheduler.StepLR, steps, step_size=7, gamma=0.3)
    assert [step(s) for s in range(steps)] == pytest.approx(expected)


def test_a_warmup_rises_evenly_to_the_rate_in_its_last_step():
    warmup = parse_schedule("warmup:5", 11)
    assert [warmup(s) for s in range(8)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


def test_schedules_multiply():
    both, one, other = (parse_schedule(words, 23) for words in ("warmup:5+cosine", "warmup:5", "cosine"))
    for step in range(23):
        assert math.isclose(both(step), one(step) * other(step))
    assert parse_schedule("constant", 23)(17) == 1.0


@pytest.mark.parametrize(
    "words", ["", "linear", "constant:3", "cosine:3", "warmup:x", "warmup:-3", "step:5", "step:0:0.1", "cosine+"]
)
def test_what_is_no_schedule_is_told(words):
    with pytest.raises(LabError, match="unknown schedule"):
        parse_schedule(words, 10)
