"""Files of torch.save, zip and legacy: what is read is what torch itself loads."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest
import torch
from checkpoints.opcodes import archive, call, group, legacy, name, number, storage, table, tensor, text
from checkpoints.saving import FORMS, save, saved
from torch import nn

from deadneuron.checkpoints.contents import Opaque, Stored
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]
NEWER = [torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu]


def random(dtype, *shape):
    return torch.randint(0, 2, shape).to(dtype) if dtype == torch.bool else (torch.rand(shape) * 100).to(dtype)


def same(one, other):
    """Bit for bit, whatever the dtype."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
    )


@pytest.mark.parametrize("as_zip", FORMS)
@pytest.mark.parametrize("dtype", [*DTYPES, *NEWER], ids=str)
def test_every_dtype_is_read_bit_for_bit(tmp_path, as_zip, dtype):
    value = random(dtype, 7, 5)
    found = saved(value, tmp_path, as_zip)
    assert found.dtype == dtype
    assert same(found.whole(), value)
    assert same(found.read(2, 6), value[2:6])


@pytest.mark.parametrize("as_zip", FORMS)
def test_shapes_and_views(tmp_path, as_zip):
    base = torch.randn(11, 13)
    things = {
        "scalar": torch.tensor(3.5),
        "one": torch.tensor([2.5]),
        "empty": torch.empty(0),
        "no rows": torch.empty(0, 7),
        "no columns": torch.empty(7, 0),
        "transposed": base.t(),
        "rows": base[3:7],
        "columns": base[:, 2:5],
        "every third": base[::3, ::2],
        "offset scalar": base[4, 5],
        "shared": base,
        "turned": torch.randn(5, 7, 3).permute(2, 0, 1),
        "channels last": torch.randn(5, 3, 2, 7).contiguous(memory_format=torch.channels_last),
        "expanded": torch.randn(5, 1).expand(5, 3),
        "reversed": base.flip(0),
        "parameter": nn.Parameter(torch.randn(3, 2)),
        "frozen": nn.Parameter(torch.randn(3, 2), requires_grad=False),
        "buffer": nn.Buffer(torch.randn(3)),
    }
    path = save(things, tmp_path / "file.pt", as_zip)
    tree = read_tree(path)
    assert tree.kind == ("torch zip" if as_zip else "torch legacy")
    assert tree.gaps == ()
    truth = torch.load(path, weights_only=True)
    for key, value in truth.items():
        found = tree.root[key]
        assert found.shape == value.shape, key
        whole = found.whole()
        assert whole.is_contiguous()
        assert torch.equal(whole, value), key
        if value.dim() == 0:
            assert found.length == 1
            assert torch.equal(found.read(0, 1), value.reshape(1))
        for row in range(value.shape[0] if value.dim() else 0):
            assert torch.equal(found.read(row, row + 1), value[row : row + 1]), key


def test_what_is_read_is_ones_own(tmp_path):
    found = saved(torch.zeros(3, 2), tmp_path)
    found.whole().fill_(7)
    assert torch.equal(found.whole(), torch.zeros(3, 2))


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_rows_that_are_not_there(tmp_path, first, last):
    with pytest.raises(IndexError):
        saved(torch.zeros(3, 2), tmp_path).read(first, last)


@pytest.mark.parametrize("as_zip", FORMS)
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_a_training_dict_is_what_torch_loads(tmp_path, as_zip, kind):
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    optimizer = kind(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 17)
    model(torch.randn(11, 5)).sum().backward()
    optimizer.step()
    scheduler.step()
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    path = save({**states, "epoch": 3}, tmp_path / "file.pt", as_zip)
    assert _filled(read_tree(path).root) == _filled(torch.load(path, weights_only=True))


def _filled(tree):
    """The tree with lists of numbers in place of tensors."""
    if isinstance(tree, (Stored, torch.Tensor)):
        return (tree.whole() if isinstance(tree, Stored) else tree).tolist()
    if isinstance(tree, dict):
        return {key: _filled(value) for key, value in tree.items()}
    return type(tree)(map(_filled, tree)) if isinstance(tree, (list, tuple)) else tree


@pytest.mark.parametrize("as_zip", FORMS)
def test_plain_values_come_as_they_are(tmp_path, as_zip):
    things = {
        "numbers": [0, -1, 255, 70_000, 2**40, -(2**70), 1.5, float("inf"), True, None, 2 + 3j],
        "texts": ["", "a", "ünïcödé", "line\nbreak"],
        "bytes": b"\x00\xff",
        "size": torch.Size([2, 3]),
        "tuple": (1, (2, [3])),
        1: "a number as a key",
        (1, "b"): "a tuple as a key",
        None: "nothing as a key",
    }
    assert saved(things, tmp_path, as_zip) == things


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # torch will drop it; files of old keep it
@pytest.mark.parametrize("as_zip", FORMS)
def test_tensors_of_kinds_that_are_not_read_are_gaps(tmp_path, as_zip):
    things = {
        "sound": torch.ones(3),
        "deep": {"sparse": torch.eye(3).to_sparse()},
        "conjugated": torch.ones(3, dtype=torch.complex64).conj(),
        "quantised": torch.quantize_per_tensor(torch.ones(5), 0.1, 0, torch.qint8),
        "last": torch.full((2,), 7.0),
    }
    tree = read_tree(save(things, tmp_path / "file.pt", as_zip))
    assert torch.equal(tree.root["sound"].whole(), torch.ones(3))
    assert torch.equal(tree.root["last"].whole(), torch.full((2,), 7.0))
    places = {gap.where.rpartition(": ")[2]: gap.reason for gap in tree.gaps}
    assert set(places) == {"deep.sparse", "conjugated", "quantised"}
    assert places["deep.sparse"] == "a sparse tensor: not read"
    assert isinstance(tree.root["deep"]["sparse"], Opaque)


def test_meta_tensors_are_gaps(tmp_path):
    tree = read_tree(save({"weight": torch.empty(3, device="meta")}, tmp_path / "file.pt"))
    assert [gap.reason for gap in tree.gaps] == ["a meta tensor, which has no numbers: not read"]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_a_gap(tmp_path):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.strided)
    tree = read_tree(save({"nested": nested}, tmp_path / "file.pt"))
    assert "nested" in tree.gaps[0].reason


def test_a_tensor_subclass_is_a_gap(tmp_path):
    """As DTensor and torchao's tensors are: wrappers whose data only their own code knows."""
    from torch.testing._internal.two_tensor import TwoTensor

    full = f"{TwoTensor.__module__}.TwoTensor"
    path = save({"two": TwoTensor(torch.ones(3), torch.ones(3)), "one": torch.ones(2)}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match="TwoTensor"):
        read_tree(path)
    tree = read_tree(path, allow=[full])
    assert tree.root["two"] == Opaque(full)
    assert "only its own code can read" in tree.gaps[0].reason
    assert tree.root["one"].whole().tolist() == [1, 1]


def test_a_tensor_with_attributes_is_a_tensor(tmp_path):
    value = torch.ones(3)
    value.note = "mine"
    weight = nn.Parameter(torch.zeros(2))
    weight.note = "mine"
    found = saved([value, weight], tmp_path)
    assert [one.whole().tolist() for one in found] == [[1.0, 1.0, 1.0], [0.0, 0.0]]


def test_a_bare_storage_is_opaque(tmp_path):
    assert saved([torch.ones(3).untyped_storage()], tmp_path) == [Opaque("torch storage")]


def test_where_tensors_were_does_not_matter(tmp_path):
    held = group(text("storage"), name("torch", "FloatStorage"), text("0"), text("cuda:3"), number(6)) + b"Q"
    path = tmp_path / "file.pt"
    path.write_bytes(archive(table(weight=tensor(held=held)), {"0": np.arange(6, dtype="<f4").tobytes()}))
    assert read_tree(path).root["weight"].whole().tolist() == [[0, 1, 2], [3, 4, 5]]
    kind = name("torch.cuda", "HalfStorage")
    path.write_bytes(archive(table(weight=tensor(held=storage(kind=kind))), {"0": np.ones(6, "<f2").tobytes()}))
    assert read_tree(path).root["weight"].dtype == torch.float16


def test_a_storage_that_no_tensor_uses_does_not_shift_the_others(tmp_path):
    """Legacy files tell where storages lie by the lengths of those before."""
    unused = storage("a", 3, name("torch", "DoubleStorage"), legacy=True)
    body = group(unused, tensor(held=storage("b", legacy=True)))
    path = tmp_path / "file.pt"
    storages = {"a": (3, np.zeros(3).tobytes()), "b": (6, np.arange(6, dtype="<f4").tobytes())}
    path.write_bytes(legacy(body, storages))
    assert read_tree(path).root[1].whole().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("as_zip", FORMS)
@pytest.mark.parametrize("length", [1_300_003, 9_000_011])
def test_long_pickles_are_read_whole(tmp_path, as_zip, length):
    """Legacy files do not tell how long their pickles are."""
    found = saved({"log": "x" * length, "weight": torch.arange(7.0)}, tmp_path, as_zip)
    assert len(found["log"]) == length
    assert found["weight"].whole().tolist() == list(range(7))


def test_names_of_python_2(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(archive(group(call(name("__builtin__", "set"), b"](K\x01e"), b"U\x03abc")))
    assert read_tree(path).root == ([1], "abc")


def test_an_enormous_list_of_nothing_is_not_built(tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(archive(call(name("builtins", "list"), call(name("builtins", "range"), number(10**12)))))
    assert read_tree(path).root == []


def test_shared_parts_are_read_once_and_stay_shared(tmp_path):
    part = {"weight": torch.ones(3)}
    found = saved([part, part], tmp_path)
    assert found[0] is found[1]


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = save(torch.arange(700.0), tmp_path / "file.pt")
    found = read_tree(path).root
    assert found.read(3, 5).tolist() == [3, 4]
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(CheckpointError, match="has changed"):
        found.read(3, 5)
    os.truncate(path, 100)
    with pytest.raises(CheckpointError, match="has changed"):
        found.whole()


def test_a_file_that_is_replaced_or_removed_stays_readable(tmp_path):
    path = save(torch.arange(7.0), tmp_path / "file.pt")
    found = read_tree(path).root
    os.replace(save(torch.zeros(7), tmp_path / "other.pt"), path)
    assert found.whole().tolist() == list(range(7))
    path.unlink()
    assert found.whole().tolist() == list(range(7))


def test_files_are_closed_when_their_trees_are_dropped(tmp_path):
    path = save({"weight": torch.ones(3)}, tmp_path / "file.pt")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    trees = [read_tree(path) for _ in range(13)]
    assert len(os.listdir("/proc/self/fd")) == before + 13
    weight = trees[0].root["weight"]
    del trees
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert weight.whole().tolist() == [1, 1, 1]


def test_links_are_followed(tmp_path):
    """As in the Hugging Face hub's cache."""
    save(torch.ones(3), tmp_path / "blob")
    (tmp_path / "model.bin").symlink_to("blob")
    assert read_tree(tmp_path / "model.bin").root.whole().tolist() == [1, 1, 1]


def test_the_name_does_not_tell_the_format(tmp_path):
    save(torch.ones(3), tmp_path / "weights.safetensors")
    assert read_tree(tmp_path / "weights.safetensors").kind == "torch zip"


def test_threads_read_side_by_side(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    value = torch.arange(70_000.0).reshape(7000, 10)
    path = save(value, tmp_path / "file.pt")
    with ThreadPoolExecutor(5) as pool:
        trees = list(pool.map(lambda _: read_tree(path), range(7)))
        parts = list(pool.map(lambda row: trees[row % 7].root.read(row, row + 7), range(0, 7000, 7)))
    assert torch.equal(torch.cat(parts), value)
