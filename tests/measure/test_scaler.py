"""Steps that GradScaler skips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from zoo import BATCH, INPUTS, UNITS

import deadneuron
from deadneuron.store.reader import read_folder

nan = math.nan


def small_model():
    return nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, 2))


def batch():
    return torch.randn(BATCH, INPUTS)


def rates(stored):
    return [tick.rates for tick in stored.ticks]


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_is_a_marked_tick(fused, run):
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=fused)
    scaler = GradScaler("cpu", init_scale=4.0)
    original = GradScaler.step
    changed = []
    with deadneuron.watch(model, optimizer, run):
        for step in range(7):
            optimizer.zero_grad()
            scaler.scale(model(batch()).sum()).backward()
            if step in (2, 5):
                model[2].bias.grad[0] = math.inf
            before = model[2].bias.detach().clone()
            scaler.step(optimizer)
            scaler.update()
            changed.append(not torch.equal(before, model[2].bias))
    assert changed == [True, True, False, True, True, False, True]
    stored = read_folder(run)
    assert [tick.skipped for tick in stored.ticks] == [not moved for moved in changed]
    assert rates(stored) == [(0.1,)] * 7
    assert GradScaler.step is original
    assert sum(w.samples for w in stored.windows) == 7 * BATCH


def test_a_scaler_that_is_switched_off_skips_nothing(run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cpu", enabled=False)
    with deadneuron.watch(model, optimizer, run):
        scaler.scale(model(batch()).sum()).backward()
        scaler.step(optimizer)
    assert [tick.skipped for tick in read_folder(run).ticks] == [False]


def test_where_the_scaler_skips_one_of_two_optimizers_the_other_keeps_its_rate(run):
    model = small_model()
    first = torch.optim.SGD(model[0].parameters(), lr=0.5)
    second = torch.optim.SGD(model[2].parameters(), lr=0.25)
    scaler = GradScaler("cpu", init_scale=4.0)
    with deadneuron.watch(model, [first, second], run):
        for step in range(3):
            first.zero_grad()
            second.zero_grad()
            scaler.scale(model(batch()).sum()).backward()
            if step == 1:
                model[2].bias.grad[0] = math.inf
            scaler.step(first)
            scaler.step(second)
            scaler.update()
    ticks = read_folder(run).ticks
    assert [tick.skipped for tick in ticks] == [False] * 3
    assert ticks[1].rates[0] == 0.5
    assert math.isnan(ticks[1].rates[1])
    assert ticks[0].rates == ticks[2].rates == (0.5, 0.25)


def test_the_scalers_method_is_back_once_the_last_of_two_monitors_closes(tmp_path):
    original = GradScaler.step
    one = deadneuron.watch(small_model(), None, tmp_path / "one")
    other = deadneuron.watch(small_model(), None, tmp_path / "other")
    assert GradScaler.step is not original
    one.close()
    assert GradScaler.step is not original
    other.close()
    assert GradScaler.step is original
