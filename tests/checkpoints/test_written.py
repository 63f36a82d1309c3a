"""Files of the real libraries: every weight, state, name, step and rate against the live objects."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from checkpoints.conftest import WRITERS
from checkpoints.writers import write_dcp

from deadneuron.checkpoints.layouts.finding import find_checkpoints
from deadneuron.checkpoints.layouts.opening import open_checkpoint
from deadneuron.checkpoints.layouts.schedules import rates_between
from deadneuron.errors import CheckpointError

FORMATS = {
    "training dicts": "torch training dict",
    "legacy": "torch training dict",
    "convolutional": "torch training dict",
    "state dicts": "torch state dict",
    "safetensors": "safetensors",
    "timm": "timm",
    "averages": "torch state dict",
    "compiled": "torch state dict",
    "ddp": "torch training dict",
    "lightning": "Lightning",
    "lightning epochs": "Lightning",
    "accelerate": "Accelerate",
    "transformers": "Hugging Face Trainer",
    "transformers shards": "Hugging Face Trainer",
    "transformers sparse log": "Hugging Face Trainer",
}
STATELESS = {"state dicts", "safetensors", "averages", "compiled"}
KINDS = {"lightning": "Adam", "lightning epochs": "Adam", "ddp": "SGD"}
PREFIXES = {"lightning": "net.", "transformers": "net."}
EXACT = {
    **dict.fromkeys(["training dicts", "legacy", "convolutional", "lightning", "accelerate"], "rebuilt"),
    "lightning epochs": "rebuilt",
    **dict.fromkeys(["timm", "ddp"], "the rate is the same at both ends"),
    **dict.fromkeys(["transformers", "transformers shards"], "every update's rate was logged"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_everything_is_as_it_was_live(name, written):
    _, truth = written(name)
    prefix = PREFIXES.get(name.split()[0], "")
    assert len(truth.places) == len(truth.steps) == 4
    for place, step, weights, states, groups in zip(
        truth.places, truth.steps, truth.weights, truth.states, truth.groups, strict=True
    ):
        read = open_checkpoint(place)
        assert read.format == FORMATS[name]
        # timm's files tell no step in their names, and its states do.
        assert read.step == step
        assert read.averaged == (name == "averages")
        assert read.gaps == ()
        assert set(read.weights) == {prefix + key for key in weights}
        if read.ordered:
            assert [key.removeprefix(prefix) for key in read.weights] == list(weights)
        assert read.ordered == (name != "safetensors")
        for key, value in weights.items():
            kept = read.weights[prefix + key]
            assert (kept.shape, kept.dtype) == (tuple(value.shape), value.dtype)
            assert name == "averages" or torch.equal(kept.whole(), value)
        if name in STATELESS:
            assert read.optimizers == ()
            continue
        (one,) = read.optimizers
        assert one.kind == KINDS.get(name, "AdamW")
        assert [group.parameters for group in one.groups] == [tuple(prefix + n for n in group) for group in groups]
        assert set(one.states) == {prefix + key for key in states}
        for key, state in states.items():
            assert set(one.states[prefix + key]) == set(state)
            for entry, value in one.states[prefix + key].items():
                same = (
                    value == float(state[entry])
                    if isinstance(value, float)
                    else torch.equal(value.whole(), state[entry])
                )
                assert same, (key, entry)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in STATELESS])
def test_rates_are_those_that_training_used(name, written):
    folder, truth = written(name)
    series = find_checkpoints(folder)
    assert [one.step for one in series.checkpoints] == [60, 120, 180, 240]
    for earlier, later in pairwise(series.checkpoints):
        rates = rates_between(earlier, later)
        used = truth.rates_between(earlier.step, later.step)
        assert rates.exact == (name in EXACT)
        if rates.exact:
            np.testing.assert_array_equal(rates.by_update, used)
            assert rates.evidence.startswith(EXACT[name])
        else:
            np.testing.assert_allclose(rates.by_update, used, rtol=1e-3)


@pytest.mark.parametrize("name", WRITERS)
def test_the_planted_units_got_no_gradient(name, written):
    """That the truth, which other tests build on, is what was planted: one unit at 0, two at 131, one at 193."""
    _, truth = written(name)
    for layer, rows in truth.gradients.items():
        assert not np.any([row[0] for row in rows])
        assert not np.any([row[1:3] for row in rows[131:]])
        assert np.any([row[1:3] for row in rows[:131]])
        assert not np.any([row[3] for row in rows[193:]])
        assert truth.still(180, 240)[layer][:3].all()
        assert not truth.still(120, 240)[layer].all()


def test_averages_beside_trained_weights_are_passed_over(written):
    _, truth = written("timm")
    content = torch.load(truth.places[-1], weights_only=False)
    assert not torch.equal(content["state_dict"]["layers.3.bias"], content["state_dict_ema"]["layers.3.bias"])
    assert not open_checkpoint(truth.places[-1]).averaged


def test_last_is_kept_once(written):
    folder, _ = written("lightning epochs")
    series = find_checkpoints(folder)
    assert [gap.where for gap in series.gaps] == [str(folder / "last.ckpt")]
    assert "holds step 240" in series.gaps[0].reason


def test_a_distributed_checkpoint_is_declined_and_its_conversion_is_read(tmp_path):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder = write_dcp(tmp_path / "dcp")
    for ask in (open_checkpoint, find_checkpoints):
        with pytest.raises(CheckpointError, match="distributed checkpoint") as told:
            ask(folder)
        assert f"dcp_to_torch {folder}" in told.value.todo
    dcp_to_torch_save(folder, tmp_path / "converted.pt")
    read = open_checkpoint(tmp_path / "converted.pt")
    assert read.optimizers[0].kind == "AdamW"
    assert len(read.optimizers[0].states) == 6
    # A folder that holds it says so, and finds the other.
    series = find_checkpoints(tmp_path)
    assert [one.place for one in series.checkpoints] == [str(tmp_path / "converted.pt")]
    assert "distributed checkpoint" in series.gaps[0].reason
