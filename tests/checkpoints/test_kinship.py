"""Checkpoints of two trainings: told by weights that have nothing in common, and never judged as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints.making import checkpoint_of
from checkpoints.pairs import DEAD, FORENSICS, ask, pair, rate, rates_of
from checkpoints.variants import maker
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.blocks import CHUNK
from deadneuron.checkpoints.evidence.kinship import are_strangers, in_common
from deadneuron.checkpoints.evidence.layers import find_layers
from deadneuron.checkpoints.scan import scan_checkpoints
from deadneuron.errors import CheckpointError


def net():
    return nn.Sequential(nn.Linear(11, 43), nn.ReLU(), nn.Linear(43, 29), nn.ReLU(), nn.Linear(29, 3))


def train(folder, seed, saves):
    """All trainings learn one task: only chance is different."""
    target = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(seed)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    folder.mkdir()
    for step in range(1, saves[-1] + 1):
        x = torch.randn(31, 11)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), (x @ target).argmax(1)).backward()
        optimizer.step()
        if step in saves:
            content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(content, folder / f"step_{step}.pt")
    return model


def strangers(one, other):
    a, b = checkpoint_of(one), checkpoint_of(other)
    return are_strangers(a, b, find_layers(a), FORENSICS)


def made(seed, mean=0.0, scale=1.0):
    torch.manual_seed(seed)
    model = net()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale).add_(mean)
    return model


@given(seed=st.integers(0, 10**6), mean=st.sampled_from([0.0, 0.3, -5.0]), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_a_net_that_moved_as_far_as_it_is_wide_is_no_stranger(seed, mean, scale):
    model, moved = made(seed, mean, scale), made(seed, mean, scale)
    assert not strangers(model, model)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += torch.randn_like(parameter) * parameter.std()
    assert not strangers(model, moved)


@pytest.mark.parametrize("mean", [0.0, 0.3, -5.0])
@pytest.mark.parametrize("seed", range(11))
def test_another_net_is_a_stranger_and_so_is_one_whose_units_were_numbered_anew(seed, mean):
    model = made(seed, mean)
    assert strangers(model, made(seed + 101, mean))
    shuffled = made(seed, mean)
    with torch.no_grad():
        for into, out in ((0, 2), (2, 4)):
            order = torch.arange(shuffled[into].out_features).roll(7)
            shuffled[into].weight.copy_(shuffled[into].weight[order])
            shuffled[out].weight.copy_(shuffled[out].weight[:, order])
    assert strangers(model, shuffled)


def test_one_row_that_only_shrank_is_enough_whatever_became_of_the_others():
    model, other = made(1), made(2)
    with torch.no_grad():
        other[2].weight[17] = 0.125 * model[2].weight[17]
    assert not strangers(model, other)


def test_what_is_too_small_or_does_not_vary_tells_nothing():
    assert not strangers(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3)))
    constant = made(1)
    with torch.no_grad():
        for parameter in constant.parameters():
            parameter.fill_(0.5)
    assert not strangers(constant, made(2))
    broken = made(1)
    with torch.no_grad():
        broken[0].weight[7] = torch.nan
    assert not strangers(made(1), broken)


def test_two_trainings_whose_steps_alternate_are_refused(tmp_path):
    train(tmp_path / "a", 1, (200, 400, 600))
    train(tmp_path / "b", 2, (300, 500, 700))
    with pytest.raises(CheckpointError, match="another training"):
        scan_checkpoints([tmp_path / "a", tmp_path / "b"])
    assert scan_checkpoints(tmp_path / "a").gaps == ()


def test_where_one_follows_the_other_the_step_between_them_is_a_gap(tmp_path):
    train(tmp_path / "a", 1, (200, 400))
    train(tmp_path / "b", 2, (500, 700))
    diagnosis = scan_checkpoints([tmp_path / "a", tmp_path / "b"])
    assert [gap.reason.partition(":")[0] for gap in diagnosis.gaps] == ["steps 400–500 not compared"]
    assert "nothing in common" in diagnosis.gaps[0].reason


def test_the_same_steps_in_two_folders_are_told(tmp_path):
    train(tmp_path / "a", 1, (200, 400))
    train(tmp_path / "b", 2, (200, 400))
    gaps = scan_checkpoints([tmp_path / "a", tmp_path / "b"]).gaps
    assert len(gaps) == 2
    assert all("one training at a time" in gap.reason for gap in gaps)


@pytest.mark.parametrize("variant", ["Adam", "Adam with L2", "AdamW", "momentum", "momentum with L2"])
def test_where_all_else_was_forgotten_units_that_moved_as_the_replay_leads_show_one_training(variant):
    for dead in (DEAD, []):

        def forget(step, parameters, dead=dead):
            if step == 20:
                with torch.no_grad():
                    live = torch.ones(131, dtype=torch.bool)
                    live[dead] = False
                    parameters["0.weight"][live] = 3 * torch.randn(131 - len(dead), 53)

        kept = pair(maker(variant), nn.Sequential(nn.Linear(53, 131), nn.ReLU()), touch=forget, dead=dead)
        found = ask(kept, rates_of(23, rate(variant)))
        if dead:
            assert found.still is not None
            assert np.flatnonzero(found.still).tolist() == DEAD
        else:
            assert "nothing in common" in found.reason


def test_a_training_that_forgot_all_between_its_saves_is_not_refused_for_what_chance_leaves(tmp_path):
    models = [made(1), made(2), made(3)]
    with torch.no_grad():
        for last, first in zip(models[2].parameters(), models[0].parameters(), strict=True):
            last += 0.15 * first
    first, _, last = (checkpoint_of(model) for model in models)
    common = in_common(first, last, find_layers(first), FORENSICS)
    assert common is not None
    assert FORENSICS.stranger < common < 3 * FORENSICS.stranger
    for step, model in enumerate(models, start=1):
        torch.save({"model": model.state_dict(), "step": 100 * step}, tmp_path / f"step_{step}00.pt")
    scan_checkpoints(tmp_path)


def test_wide_and_long_weights_are_read_a_chunk_at_a_time():
    read = []

    def at(shape):
        def some(first, last):
            read.append((last - first) * shape[1] * 4)
            return torch.ones((last - first, *shape[1:]))

        return Stored(shape, torch.float32, some)

    for shape in ((263, 150_001), (150_001, 263)):
        one = checkpoint_of(nn.ReLU(), weights={"0.weight": at(shape), "0.bias": at((263, 1))})
        wide = checkpoint_of(nn.ReLU(), weights={**one.weights, "0.bias": Stored((263,), torch.float32, torch.empty)})
        assert not are_strangers(wide, wide, find_layers(wide), FORENSICS)
        assert max(read) <= CHUNK
        assert sum(read) < 2 * 300 * 150_001 * 4
        read.clear()
