"""Folders that are one checkpoint: shards with an index, what lies beside the weights, and what is declined."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deadneuron.checkpoints.layouts.finding import find_checkpoints
from deadneuron.checkpoints.layouts.foreign import decline_file, decline_folder
from deadneuron.checkpoints.layouts.opening import open_checkpoint
from deadneuron.checkpoints.layouts.schedules import rates_between
from deadneuron.checkpoints.layouts.trainer import logged_rates
from deadneuron.errors import CheckpointError

WEIGHTS = {"b.weight": torch.ones(5, 3), "a.weight": torch.ones(7, 5), "a.bias": torch.ones(7)}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def shards(tmp_path):
    """A folder of two shards, and its index that tests may break."""
    save_file({"b.weight": WEIGHTS["b.weight"]}, tmp_path / "model-00001-of-00002.safetensors")
    rest = {name: value for name, value in WEIGHTS.items() if name != "b.weight"}
    save_file(rest, tmp_path / "model-00002-of-00002.safetensors")
    listed = {name: f"model-0000{1 + (name != 'b.weight')}-of-00002.safetensors" for name in WEIGHTS}

    def index(**changes):
        (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed | changes}))
        return tmp_path

    index()
    return index


def test_shards_are_one_model(shards):
    read = open_checkpoint(shards())
    assert set(read.weights) == set(WEIGHTS)
    assert torch.equal(read.weights["a.weight"].whole(), WEIGHTS["a.weight"])
    assert read.format == "Hugging Face model"
    assert len(find_checkpoints(shards()).checkpoints) == 1


def test_shards_of_pickles_keep_the_models_order(tmp_path):
    torch.save({"b.weight": WEIGHTS["b.weight"]}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"a.weight": WEIGHTS["a.weight"]}, tmp_path / "pytorch_model-00002-of-00002.bin")
    listed = {"b.weight": "pytorch_model-00001-of-00002.bin", "a.weight": "pytorch_model-00002-of-00002.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    read = open_checkpoint(tmp_path)
    assert list(read.weights) == ["b.weight", "a.weight"]
    assert read.ordered


@pytest.mark.parametrize(
    "shard",
    [
        "../model.safetensors",
        "/etc/passwd",
        "x/model.safetensors",
        "..",
        ".",
        "",
        "a\\b",
        "c:x",
        "a\0b",
        3,
        None,
        ["x"],
    ],
)
def test_an_index_cannot_lead_out_of_its_folder(shards, shard):
    with pytest.raises(CheckpointError, match=r"outside its folder|no file"):
        open_checkpoint(shards(**{"a.bias": shard}))


def test_missing_shards_are_named(shards):
    folder = shards(**{"c.weight": "model-00003-of-00003.safetensors"})
    with pytest.raises(CheckpointError, match="1 of 3 shards are missing: model-00003-of-00003") as told:
        open_checkpoint(folder)
    assert str(folder) in told.value.where


def test_a_name_that_no_shard_holds_is_a_gap(shards):
    read = open_checkpoint(shards(**{"c.weight": "model-00001-of-00002.safetensors"}))
    assert "no shard holds c.weight" in read.gaps[0].reason


EMPTY = ['{"weight_map": []}', '{"weight_map": {}}']


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", *EMPTY, "[" * 100_000, "\xff"])
def test_a_broken_index_is_one_line(shards, text):
    folder = shards()
    (folder / INDEX).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="index"):
        open_checkpoint(folder)


def test_an_index_that_is_a_pipe_does_not_hang(shards):
    folder = shards()
    (folder / INDEX).unlink()
    os.mkfifo(folder / INDEX)
    with pytest.raises(CheckpointError, match="no regular file"):
        open_checkpoint(folder)


def test_a_shard_alone_is_sent_to_its_folder(shards):
    folder = shards()
    with pytest.raises(CheckpointError, match="one shard") as told:
        open_checkpoint(folder / "model-00001-of-00002.safetensors")
    assert str(folder) in told.value.todo
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match="neither a run nor a checkpoint is here") as told:
        find_checkpoints(folder)
    assert "its index is missing" in told.value.todo


@pytest.fixture
def trainer(written, tmp_path):
    """One checkpoint of transformers' Trainer, to break."""
    folder, _ = written("transformers")
    return shutil.copytree(folder / "checkpoint-120", tmp_path / "checkpoint-120")


def test_what_lies_beside_the_weights_is_a_gap_where_it_is_broken(trainer):
    (trainer / "optimizer.pt").write_bytes(b"PK\3\4 nothing")
    (trainer / "trainer_state.json").write_text("{")
    read = open_checkpoint(trainer)
    assert read.optimizers == ()
    assert (read.step, read.step_from) == (120, "the file's name")
    assert {gap.where for gap in read.gaps} == {"optimizer.pt", "trainer_state.json"}


def test_the_trainers_own_pickles_are_not_opened(trainer):
    for name in ("rng_state.pth", "training_args.bin"):
        assert (trainer / name).exists()
        (trainer / name).unlink()
        os.mkfifo(trainer / name)  # whoever opened it would wait for ever
    assert open_checkpoint(trainer).gaps == ()
    for name in ("rng_state.pth", "training_args.bin", "optimizer.pt", "scheduler.pt"):
        with pytest.raises(CheckpointError, match="holds no weights"):
            open_checkpoint(trainer / name)


def test_a_folder_without_weights_says_so(trainer):
    (trainer / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="without weights"):
        open_checkpoint(trainer)


def test_steps_without_optimizer_come_from_the_trainers_state(trainer):
    (trainer / "optimizer.pt").unlink()
    read = open_checkpoint(trainer)
    assert (read.step, read.step_from) == (120, "trainer_state.json's global_step")


def test_rates_logged_by_another_count_than_the_optimizers_are_not_used(trainer):
    state = json.loads((trainer / "trainer_state.json").read_text())
    (trainer / "trainer_state.json").write_text(json.dumps(state | {"global_step": 123}))
    read = open_checkpoint(trainer)
    assert (read.step, read.step_from) == (120, "the optimizer's state (trainer_state.json's global_step says 123)")
    assert read.rates == ()
    assert "not the optimizer's" in read.gaps[0].reason


def test_adapters_are_told(trainer):
    (trainer / "model.safetensors").rename(trainer / "adapter_model.safetensors")
    read = open_checkpoint(trainer)
    assert len(read.optimizers[0].states) == 6
    assert "adapter" in read.gaps[0].reason


def test_two_models_of_accelerate_keep_their_names_apart(written, tmp_path):
    folder, _ = written("accelerate")
    copy = shutil.copytree(folder / "checkpoints" / "checkpoint_1", tmp_path / "checkpoint_1")
    save_file({"w.weight": torch.ones(2, 2)}, copy / "model_1.safetensors")
    read = open_checkpoint(copy)
    assert {"model.stem.weight", "model_1.w.weight"} <= set(read.weights)
    assert set(read.optimizers[0].states) == {name for name in read.weights if name.startswith("model.")}


def history(rates, **more):
    return {"log_history": [{"step": s, "learning_rate": r, "loss": 1.0} for s, r in rates.items()], **more}


@pytest.mark.parametrize(
    ("recorded", "version", "expected"),
    [
        (0.4, None, {1: 0.1, 2: 0.2, 3: 0.3}),  # since 4.51: the log at 3 is of the update before
        (0.3, None, {2: 0.1, 3: 0.2, 4: 0.3}),  # before: of the update to come
        (None, "4.51.0", {1: 0.1, 2: 0.2, 3: 0.3}),
        (None, "5.1.0.dev0", {1: 0.1, 2: 0.2, 3: 0.3}),
        (None, "4.50.3", {2: 0.1, 3: 0.2, 4: 0.3}),
        (None, None, {}),
    ],
)
def test_which_update_a_logged_rate_belongs_to(recorded, version, expected):
    rates, gaps = logged_rates(history({1: 0.1, 2: 0.2, 3: 0.3}, global_step=3), recorded, version)
    assert dict(rates) == expected
    assert bool(gaps) == (not expected)


def test_a_rate_that_stood_still_at_the_checkpoint_does_not_tell():
    state = history({1: 0.1, 2: 0.2, 3: 0.2}, global_step=3)
    assert logged_rates(state, 0.2, None)[0] == ()
    assert dict(logged_rates(state, 0.2, "4.30.0")[0]) == {2: 0.1, 3: 0.2, 4: 0.2}
    assert dict(logged_rates(history({1: 0.2, 2: 0.2}, global_step=2), 0.2, None)[0]) == {1: 0.2, 2: 0.2}
    assert dict(logged_rates(history({10: 0.1, 20: 0.2}, global_step=25), None, None)[0]) == {10: 0.1, 20: 0.2}


@pytest.mark.parametrize("state", [{}, {"log_history": 3}, {"log_history": [3, {}, {"step": "x", "learning_rate": 1}]}])
def test_logs_that_are_none_are_none(state):
    assert logged_rates(state, 0.1, None) == ((), ())


def test_older_logs_are_read_to_the_bit(written, tmp_path):
    """What transformers before 4.51 wrote: at each step the rate of the next update."""
    folder, truth = written("transformers")
    copy = shutil.copytree(folder, tmp_path / "older")
    for place in copy.glob("checkpoint-*"):
        state = json.loads((place / "trainer_state.json").read_text())
        final = torch.load(place / "optimizer.pt")["param_groups"][0]["lr"]
        for entry in state["log_history"]:
            step = entry["step"]
            entry["learning_rate"] = truth.rates[step][0] if step < len(truth.rates) else final
        (place / "trainer_state.json").write_text(json.dumps(state))
    first, second = (open_checkpoint(copy / f"checkpoint-{step}") for step in (120, 180))
    rates = rates_between(first, second)
    assert rates.exact
    np.testing.assert_array_equal(rates.by_update, truth.rates_between(120, 180))


@pytest.mark.parametrize(
    ("names", "what", "todo"),
    [
        ([".metadata", "__0_0.distcp"], "distributed checkpoint", "dcp_to_torch"),
        (["__0_0.distcp"], "distributed checkpoint", "dcp_to_torch"),
        (["pytorch_model_fsdp_0", "optimizer_0", "scheduler.pt"], "FSDP", "accelerate merge-weights"),
        (["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed", "zero_to_fp32.py"),
        (["bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], "DeepSpeed", "zero_to_fp32.py"),
        (["latest", "global_step500", "config.json"], "DeepSpeed", "zero_to_fp32.py"),
        (["zero_to_fp32.py", "latest"], "DeepSpeed", "zero_to_fp32.py"),
        (["latest_checkpointed_iteration.txt", "iter_0000100"], "Megatron", "convert"),
        (["mp_rank_00", "mp_rank_01"], "Megatron", "convert"),
        (["_CHECKPOINT_METADATA", "default"], "Orbax", "torch.save"),
        (["saved_model.pb", "variables"], "TensorFlow", "torch.save"),
        (["ckpt.index", "ckpt.data-00000-of-00001"], "TensorFlow", "torch.save"),
    ],
)
def test_folders_of_others_are_declined_with_a_way_on(names, what, todo, tmp_path):
    with pytest.raises(CheckpointError, match=what) as told:
        decline_folder(names, str(tmp_path))
    assert todo in told.value.todo
    for name in names:  # nothing of it is opened: whoever did would wait for ever
        os.mkfifo(tmp_path / name)
    for ask in (open_checkpoint, find_checkpoints):
        with pytest.raises(CheckpointError, match=what):
            ask(tmp_path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("flax_model.msgpack", "Flax"),
        ("tf_model.h5", "Keras"),
        ("model.gguf", "GGUF"),
        ("model.onnx", "ONNX"),
        ("weights.npz", "numpy"),
        ("random_states_0.pkl", "pickle"),
        ("__0_0.distcp", "distributed"),
        ("mp_rank_00_model_states.pt", "DeepSpeed"),
        ("model.ckpt.data-00000-of-00001", "TensorFlow"),
        ("local_state_dict_rank_0.pt", "one rank's shard"),
    ],
)
def test_files_of_others_are_declined_by_name(name, what, tmp_path):
    os.mkfifo(tmp_path / name)
    for ask in (open_checkpoint, find_checkpoints):
        with pytest.raises(CheckpointError, match=what):
            ask(tmp_path / name)


def test_files_of_others_in_a_folder_are_told(tmp_path):
    for name in ("model.gguf", "random_states_0.pkl", "notes.txt"):
        os.mkfifo(tmp_path / name)
    torch.save(WEIGHTS, tmp_path / "step_3.pt")
    series = find_checkpoints(tmp_path)
    assert [one.step for one in series.checkpoints] == [3]
    (tmp_path / "step_3.pt").unlink()
    with pytest.raises(CheckpointError, match="neither a run nor a checkpoint is here"):
        find_checkpoints(tmp_path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "epoch=1.ckpt", "optimizer.pt", "pytorch_model.bin"])
def test_own_files_are_not_declined(name):
    decline_file(name, name)
    decline_folder([name], "folder")
