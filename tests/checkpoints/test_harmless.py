"""What training dicts hold beside tensors: what becomes plain, what is replaced, what blocks until it is allowed."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import pathlib
import uuid

import numpy as np
import pytest
import torch
from checkpoints.saving import FORMS, save, saved

from deadneuron.checkpoints.contents import Opaque
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError


class Hue(enum.Enum):
    RED = 1


@pytest.mark.parametrize("as_zip", FORMS)
def test_numbers_of_numpy_become_numbers(tmp_path, as_zip):
    kinds = [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint16, np.bool_, np.complex64]
    found = saved([kind(1) for kind in kinds] + [np.dtype(">f8").type(0.1)], tmp_path, as_zip)
    assert found == [1.0, 1.0, 1.0, 1, 1, 1, True, 1 + 0j, 0.1]
    assert [type(value) for value in found] == [float, float, float, int, int, int, bool, complex, float]


def test_a_big_endian_number_of_numpy(tmp_path):
    scalar = np.array([1.5, 2.5], dtype=">f8")[1:].view(np.recarray)[0]
    assert saved({"lr": scalar}, tmp_path) == {"lr": 2.5}


def test_what_training_dicts_often_hold_is_replaced_without_asking(tmp_path):
    things = {
        "args": argparse.Namespace(lr=0.1, act="relu"),
        "path": pathlib.PurePosixPath("a/b"),
        "when": datetime.datetime(2026, 1, 2),
        "zone": datetime.UTC,
        "took": datetime.timedelta(seconds=3),
        "id": uuid.UUID(int=7),
        "array": np.arange(5.0),
        "object array": np.array([None, "a"], dtype=object),
        "random": np.random.RandomState(0).get_state(),
        "generator": np.random.default_rng(0),
        "dtype": torch.float16,
        "device": torch.device("cuda:1"),
        "class": int,
    }
    found = saved(things, tmp_path)
    names = {key: value.name for key, value in found.items() if isinstance(value, Opaque)}
    assert names == {
        "args": "argparse.Namespace",
        "path": "pathlib.PurePosixPath",
        "when": "datetime.datetime",
        "zone": "datetime.timezone",
        "took": "datetime.timedelta",
        "id": "uuid.UUID",
        "array": "numpy.ndarray",
        "object array": "numpy.ndarray",
        "generator": names["generator"],
        "dtype": "torch.float16",
        "device": "torch.device",
        "class": "builtins.int",
    }
    assert "numpy.random" in names["generator"]
    assert found["random"][0] == "MT19937"


def test_containers_of_other_classes_become_plain_ones(tmp_path):
    things = {
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("aab"),
        "ordered": collections.OrderedDict(b=1, a=2),
        "deque": collections.deque([1, 2], maxlen=5),
        "set": {3},
        "frozen": frozenset([4]),
        "bytes keys": {b"a": 1},
    }
    found = saved(things, tmp_path)
    assert found == {
        "default": {"a": [1]},
        "counter": {"a": 2, "b": 1},
        "ordered": {"b": 1, "a": 2},
        "deque": [1, 2],
        "set": [3],
        "frozen": [4],
        "bytes keys": {b"a": 1},
    }
    assert {type(value) for value in found.values()} == {dict, list}


def test_hyperparameters_of_lightning_are_a_dict(tmp_path):
    from lightning.fabric.utilities.data import AttributeDict

    assert saved({"hyper_parameters": AttributeDict(lr=0.1)}, tmp_path) == {"hyper_parameters": {"lr": 0.1}}


def test_a_class_of_ones_own_blocks_until_it_is_allowed(tmp_path):
    path = save({"hue": Hue.RED, "weight": torch.ones(3)}, tmp_path / "file.pt")
    full = f"{Hue.__module__}.Hue"
    with pytest.raises(CheckpointError) as caught:
        read_tree(path)
    assert full in caught.value.what
    assert f"--allow-global {full}" in caught.value.todo
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == [full]
    tree = read_tree(path, allow=[full])
    assert tree.root["hue"] == Opaque(full)
    assert torch.equal(tree.root["weight"].whole(), torch.ones(3))


class Config(dict):
    """A dict with attributes and state."""

    def __init__(self, **items):
        super().__init__(items)
        self.extra = 1


def test_an_allowed_class_may_hold_items_and_state(tmp_path):
    full = f"{Config.__module__}.Config"
    found = saved({"config": Config(lr=0.1), "lr": 0.1}, tmp_path, allow=[full])
    assert found == {"config": Opaque(full), "lr": 0.1}


def test_what_was_allowed_once_is_not_allowed_the_next_time(tmp_path):
    full = f"{Hue.__module__}.Hue"
    path = save(Hue.RED, tmp_path / "file.pt")
    before = set(torch.serialization.get_safe_globals())
    read_tree(path, allow=[full])
    with pytest.raises(CheckpointError):
        read_tree(path)
    assert set(torch.serialization.get_safe_globals()) == before
