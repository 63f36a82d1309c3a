"""Updates that are lost in rounding: rows that stayed the same then tell nothing, and nobody is called dead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints.making import stored
from checkpoints.pairs import DEAD, FORENSICS, pair, rate, rates_of
from checkpoints.variants import maker
from torch import nn

from deadneuron.checkpoints.contents import Part
from deadneuron.checkpoints.evidence.layers import find_layers
from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.checkpoints.evidence.replay import replay
from deadneuron.checkpoints.evidence.rounding import steps_apart
from deadneuron.checkpoints.scan import scan_checkpoints

UNITS, PLANTED = 61, 7


def plan(before, after, updates, axis=0):
    """Of plain SGD."""
    part = Part("weight", axis)
    return Plan(
        part, ("SGD",), {}, updates, None, None, (), {}, ({}, {}), (stored(before), stored(after)), True, False, True
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_moves_are_told_in_the_smallest_ones_that_would_be_seen(axis):
    before = torch.full((5, 3), 1.0)
    after = before.clone()
    apart = 2.0**-23  # from 1 to the next float32
    after[1, 2] += 8 * apart
    after[2, 0] += 32 * apart
    after[2, 1] += apart
    after[4] += 1024 * apart
    turned = (before, after) if axis == 0 else (before.T.contiguous(), after.T.contiguous())
    moved = np.array([False, True, True, False, True])
    assert steps_apart([plan(*turned, 16, axis)], moved) == 32 / 4
    assert steps_apart([plan(*turned, 16, axis)], moved, 2.0**-20) == pytest.approx(32 / 8, rel=1e-5)
    bias = plan(torch.zeros(5), torch.tensor([0.0, 0, 0, 0, 1e-30]), 16)
    assert steps_apart([plan(*turned, 16, axis), bias], moved) == 32 / 4
    assert steps_apart([plan(*turned, 16, axis)], ~moved & False) == np.inf


def test_a_wide_and_long_layer_is_asked_in_part():
    before = torch.ones(1009, 131)
    after = before + 2.0**-20
    after[:, :67] = 1.0 + 2.0**-21
    assert steps_apart([plan(before, after, 1)], np.ones(1009, dtype=np.bool_)) == 4


def trained(folder, lr, **options):
    """600 steps at a rate at which units live, then 200 at `lr`, of which 100 and 200 are saved with the truth."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(11, UNITS), nn.ReLU(), nn.Linear(UNITS, 3))
    target = torch.randn(11, 3)
    alive = torch.zeros(UNITS, dtype=torch.bool)
    for step in range(700):
        if step in (0, 400):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1 if step == 0 else lr, **options)
        if step == 400:
            with torch.no_grad():
                model[0].bias[:PLANTED] = -1000.0
        x = torch.randn(31, 11)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x @ target).argmax(1)).backward()
        if step >= 500:
            alive |= (model[0].weight.grad != 0).any(1)
        optimizer.step()
        if step + 1 in (500, 700):
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(content, folder / f"at_{step + 1}.pt")
    return int((~alive).sum())


@pytest.mark.parametrize("options", [{}, {"weight_decay": 5e-4}], ids=["plain", "L2"])
@pytest.mark.parametrize("lr", [1e-6, 1e-7, 1e-8])
def test_where_updates_are_lost_nobody_is_called_dead(lr, options, tmp_path):
    trained(tmp_path, lr, **options)
    diagnosis = scan_checkpoints(tmp_path)
    verdict = next(one for one in diagnosis.verdicts if one.name == "0")
    assert (verdict.dead, verdict.status) == (None, "unknown")
    assert not any(one.dead for one in diagnosis.verdicts)  # the head, all of which moved, is alive
    assert any("lost in rounding" in gap.reason for gap in diagnosis.gaps)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 5e-4}, {"weight_decay": 5e-4, "fused": True}])
@pytest.mark.parametrize("lr", [1e-1, 1e-3])
def test_where_they_are_not_the_planted_ones_are_found(lr, options, tmp_path):
    dead = trained(tmp_path, lr, **options)
    assert PLANTED <= dead < UNITS // 2
    verdict = next(one for one in scan_checkpoints(tmp_path).verdicts if one.name == "0")
    assert (verdict.dead, verdict.units) == (dead, UNITS)


def test_momentum_knows_at_any_rate(tmp_path):
    dead = trained(tmp_path, 1e-8, momentum=0.9)
    assert next(one for one in scan_checkpoints(tmp_path).verdicts if one.name == "0").dead == dead


@pytest.mark.parametrize(("limit", "told"), [(0.0, True), (float("inf"), False)])
def test_the_limit_is_the_profiles_and_matters_only_where_rows_stayed(limit, told):
    own = replace(FORENSICS, roundings=limit)
    for dead in (DEAD, []):
        kept = pair(maker("SGD"), dead=dead)
        (found,) = replay(*kept, find_layers(kept[0]), rates_of(23, rate("SGD")), own)
        assert (found.still is not None) == (told or not dead)


class Bare(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.randn(shape[0]))


@pytest.mark.parametrize("options", [{}, {"weight_decay": 5e-4}, {"momentum": 0.9}])
def test_weights_without_entries_are_no_reason_to_fail(options, tmp_path):
    model = nn.ModuleDict({"one": Bare(13, 0), "other": Bare(0, 7), "third": Bare(17, 0), "head": nn.Linear(5, 3)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    for step in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
            parameter.grad[:2] = 0
        optimizer.step()
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(content, tmp_path / f"step_{step}.pt")
    assert {verdict.name: verdict.dead for verdict in scan_checkpoints(tmp_path).verdicts}["head"] == 0
