"""Checkpoints at addresses are those of their folder, called by their address."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
import torch

from deadneuron.checkpoints.layouts.finding import find_checkpoints
from deadneuron.checkpoints.layouts.gathering import gathered, wanted
from deadneuron.errors import CheckpointError


@pytest.fixture
def elsewhere(written):
    """("memory://…", the same folder here)"""
    folder, _ = written("transformers")
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/bucket/run", recursive=True)
    yield "memory://bucket/run", folder
    system.rm("/bucket", recursive=True)


def test_an_address_gives_what_the_folder_gives(elsewhere):
    address, folder = elsewhere
    here = find_checkpoints(folder)
    with gathered(address) as series:
        assert [one.step for one in series.checkpoints] == [one.step for one in here.checkpoints] == [60, 120, 180, 240]
        assert [one.place for one in series.checkpoints] == [f"{address}/checkpoint-{s}" for s in (60, 120, 180, 240)]
        for one, other in zip(series.checkpoints, here.checkpoints, strict=True):
            assert all(torch.equal(one.weights[name].whole(), other.weights[name].whole()) for name in other.weights)
            assert one.rates == other.rates


def test_a_local_place_stays_where_it_is(written):
    folder, _ = written("state dicts")
    with gathered([folder / "step_60.pt", str(folder / "step_120.pt")]) as series:
        assert [Path(one.place) for one in series.checkpoints] == [folder / "step_60.pt", folder / "step_120.pt"]


def test_errors_and_gaps_speak_of_the_address(elsewhere):
    address, _ = elsewhere
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/run/checkpoint-60/model.safetensors", b"broken")
    with gathered(address) as series:
        assert series.gaps[0].where == f"{address}/checkpoint-60"
    with pytest.raises(CheckpointError) as told, gathered(f"{address}/checkpoint-60"):
        pass
    assert str(told.value.where).startswith(address)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("checkpoint-60/model.safetensors", True),
        ("checkpoint-60/optimizer.pt", True),
        ("checkpoint-60/trainer_state.json", True),
        ("model.safetensors.index.json", True),
        ("a/.metadata", True),
        ("a/__0_0.distcp", False),
        ("random_states_0.pkl", False),
        ("checkpoint-60/rng_state.pth", False),
        ("checkpoint-60/training_args.bin", False),
        ("checkpoints/step_60.ckpt", True),
        ("tokenizer.json", False),
        ("events.out.tfevents.1", False),
    ],
)
def test_only_what_is_read_is_fetched(name, read):
    assert wanted(name) == read
