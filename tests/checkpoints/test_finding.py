"""What a user gives, and which checkpoints it stands for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deadneuron.checkpoints.layouts.finding import find_checkpoints
from deadneuron.checkpoints.layouts.opening import open_checkpoint
from deadneuron.errors import CheckpointError

MODEL = {"a.weight": torch.ones(5, 3), "a.bias": torch.ones(5)}
OTHER = {"b.weight": torch.ones(5, 3)}


def put(place: Path, weights=MODEL, **more) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": weights, **more} if more else weights, place)
    return place


def found(places):
    series = find_checkpoints(places)
    return [(Path(one.place).name, one.step) for one in series.checkpoints]


def gaps(places):
    return [f"{Path(gap.where).name}: {gap.reason}" for gap in find_checkpoints(places).gaps]


def test_a_folder_of_files_in_order_of_steps(tmp_path):
    for step in (1000, 200, 30):
        put(tmp_path / f"step_{step}.pt")
    for name in ("optimizer.pt", "rng_state.pth", "training_args.bin", "random_states_0.pkl", "log.txt"):
        (tmp_path / name).write_bytes(b"not opened")
    expected = [("step_30.pt", 30), ("step_200.pt", 200), ("step_1000.pt", 1000)]
    assert found(tmp_path) == found([tmp_path]) == found(str(tmp_path)) == expected
    assert found(tmp_path / "step_*.pt") == found(sorted(tmp_path.glob("step*"))) == expected
    assert found(tmp_path / "step_?00.pt") == [("step_200.pt", 200)]
    assert found([tmp_path / "step_30.pt", tmp_path]) == expected


def test_folders_of_transformers_and_what_lies_above_them(written, tmp_path):
    folder, _ = written("transformers")
    steps = [(f"checkpoint-{step}", step) for step in (60, 120, 180, 240)]
    assert found(folder) == found(folder / "checkpoint-*") == steps
    assert found(folder / "checkpoint-60") == steps[:1]
    copy = shutil.copytree(folder, tmp_path / "out")
    shutil.copy(copy / "checkpoint-240" / "model.safetensors", copy / "model.safetensors")  # trainer.save_model()
    assert found(copy) == found(tmp_path) == steps
    assert gaps(copy) == ["out: nothing tells its step: it is left out"]


def test_accelerates_folders_are_found_two_levels_below(written):
    folder, _ = written("accelerate")
    names = [f"checkpoint_{i}" for i in range(4)]
    assert [name for name, _ in found(folder)] == [name for name, _ in found(folder / "checkpoints")] == names


def test_lightnings_logs_are_found_below(written, tmp_path):
    folder, _ = written("lightning")
    inner = tmp_path / "lightning_logs" / "version_0" / "checkpoints"
    inner.parent.mkdir(parents=True)
    shutil.copytree(folder, inner)
    assert [step for _, step in found(tmp_path)] == [60, 120, 180, 240]
    shutil.copytree(inner.parent, inner.parent.parent / "version_1")
    with pytest.raises(CheckpointError, match="may be different trainings") as told:
        find_checkpoints(tmp_path)
    folders = [str(inner.parent.parent / version / "checkpoints") for version in ("version_0", "version_1")]
    assert told.value.todo.endswith(f"both: {' '.join(folders)}")


def test_copies_of_a_step_are_kept_once(tmp_path):
    for name in ("best.pt", "last.pt", "model_7.pt", "zz.pt"):
        put(tmp_path / name, step=7)
    put(tmp_path / "step_9.pt")
    assert found(tmp_path) == [("model_7.pt", 7), ("step_9.pt", 9)]
    assert sorted(gap.partition(":")[0] for gap in gaps(tmp_path)) == ["best.pt", "last.pt", "zz.pt"]
    assert "as " + str(tmp_path / "model_7.pt") in gaps(tmp_path)[0]


def test_one_with_an_optimizer_is_kept_before_one_without(written, tmp_path):
    folder, _ = written("training dicts")
    shutil.copy(folder / "step_60.pt", tmp_path / "step_60.pt")
    content = torch.load(folder / "step_60.pt")
    torch.save(content["model"], tmp_path / "a_step_60.pt")
    assert found(tmp_path) == [("step_60.pt", 60)]


def test_the_largest_group_of_one_architecture_is_judged(tmp_path):
    for step in (3, 5):
        put(tmp_path / f"step_{step}.pt")
    put(tmp_path / "other_step_4.pt", OTHER)
    put(tmp_path / "wider_step_4.pt", {"a.weight": torch.ones(7, 3), "a.bias": torch.ones(7)})
    assert found(tmp_path) == [("step_3.pt", 3), ("step_5.pt", 5)]
    assert all("another model" in gap for gap in gaps(tmp_path))
    assert len(gaps(tmp_path)) == 2


def test_averages_beside_trained_weights_are_left_out(tmp_path):
    for step in (3, 5):
        put(tmp_path / f"step_{step}.pt", step=step)
        torch.save({"ema": MODEL, "step": step}, tmp_path / f"ema_{step}.pt")
    assert found(tmp_path) == [("step_3.pt", 3), ("step_5.pt", 5)]
    assert all("averages" in gap for gap in gaps(tmp_path))


def test_without_any_step_they_stand_in_the_order_of_their_names(tmp_path):
    for epoch in (10, 9, 1):
        put(tmp_path / f"epoch_{epoch}.pt")
    assert found(tmp_path) == [("epoch_1.pt", None), ("epoch_9.pt", None), ("epoch_10.pt", None)]
    put(tmp_path / "step_3.pt")
    assert found(tmp_path) == [("step_3.pt", 3)]
    assert len(gaps(tmp_path)) == 3


def test_what_cannot_be_read_is_a_gap_unless_it_is_all(tmp_path):
    put(tmp_path / "step_3.pt")
    (tmp_path / "step_4.pt").write_bytes(b"PK\3\4 nothing")
    assert found(tmp_path) == [("step_3.pt", 3)]
    assert "step_4.pt: it is not read" in gaps(tmp_path)[0]
    with pytest.raises(CheckpointError) as told:
        find_checkpoints(tmp_path / "step_4.pt")
    assert told.value.where == str(tmp_path / "step_4.pt")
    (tmp_path / "step_3.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints can be read"):
        find_checkpoints(tmp_path)


@pytest.mark.parametrize("place", ["nothing", "nothing/*.pt", "empty", "a\0b", "empty/step_*.pt"])
def test_nothing_there_is_one_line_that_says_what_was_looked_for(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError) as told:
        find_checkpoints(tmp_path / place)
    assert told.value.todo or "null" in told.value.what
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / place)


def test_nothing_given_is_an_error():
    with pytest.raises(CheckpointError, match="neither a run nor a checkpoint is here"):
        find_checkpoints([])


def test_one_place_that_is_several_is_not_opened_as_one(tmp_path):
    put(tmp_path / "step_3.pt")
    assert open_checkpoint(tmp_path).step == 3
    put(tmp_path / "step_4.pt")
    with pytest.raises(CheckpointError, match="holds 2 files") as told:
        open_checkpoint(tmp_path)
    assert "step_3.pt" in told.value.todo


def test_pipes_and_loops_of_links_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "step_3.pt")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.pt").symlink_to(tmp_path / "self.pt")
    with pytest.raises(CheckpointError):
        find_checkpoints(tmp_path)
    put(tmp_path / "step_4.pt")
    assert found(tmp_path) == [("step_4.pt", 4)]


NAMES = [
    "step_1.pt",
    "step_2.pt",
    "last.pt",
    "best.ckpt",
    "model.safetensors",
    "optimizer.pt",
    "scheduler.bin",
    "x.txt",
]
NAMES += ["trainer_state.json", "x.distcp", "model.gguf", "model-00001-of-00002.safetensors"]
PLACES = st.tuples(st.sampled_from(["", "a", "a/b", "checkpoint-3"]), st.sampled_from(NAMES))


@given(st.dictionaries(PLACES, st.integers(0, 3), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_folder_is_a_series_or_one_line(tmp_path, content):
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for (inner, name), kind in content.items():
        place = folder / inner / name
        if kind == 0:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"{}")
        else:
            put(place, [MODEL, OTHER, {}][kind - 1])
    try:
        series = find_checkpoints(folder)
    except CheckpointError as error:
        told = str(error)
    else:
        told = ""
        steps = [one.step for one in series.checkpoints]
        assert series.checkpoints
        assert None in steps or steps == sorted(set(steps))
        assert len({frozenset((n, s.shape) for n, s in one.weights.items()) for one in series.checkpoints}) == 1
    assert "\n" not in told
