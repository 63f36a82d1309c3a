"""safetensors files: what is read is what the library itself loads."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from checkpoints.opcodes import safetensors
from safetensors.torch import load_file, save_file

from deadneuron.checkpoints.contents import Opaque
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.complex64, torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_bit_for_bit(tmp_path, dtype):
    raw = torch.randint(0, 2 if dtype == torch.bool else 200, (5 * 7 * dtype.itemsize,), dtype=torch.uint8)
    value = raw.view(dtype).reshape(5, 7)
    save_file({"weight": value}, tmp_path / "file.safetensors")
    found = read_tree(tmp_path / "file.safetensors").root["tensors"]["weight"]
    assert (found.shape, found.dtype) == ((5, 7), dtype)
    assert torch.equal(found.whole().view(torch.uint8), value.view(torch.uint8))
    assert torch.equal(found.read(2, 4).view(torch.uint8), value[2:4].view(torch.uint8))


def test_names_shapes_and_metadata(tmp_path):
    tensors = {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "layers.0.weight": torch.randn(5, 3),
        "conv": torch.randn(2, 3, 5, 7),
        "ünïcödé": torch.ones(2),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    tree = read_tree(path)
    assert tree.kind == "safetensors"
    assert tree.gaps == ()
    assert tree.root["metadata"] == {"format": "pt"}
    truth = load_file(path)
    assert set(tree.root["tensors"]) == set(truth)
    for name, value in truth.items():
        assert torch.equal(tree.root["tensors"][name].whole(), value)


def test_without_metadata_and_without_tensors(tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({}, path)
    assert read_tree(path).root == {"tensors": {}, "metadata": {}}


def test_the_suffix_is_not_needed(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "blob")
    assert read_tree(tmp_path / "blob").root["tensors"]["weight"].whole().tolist() == [1, 1, 1]


def test_a_kind_of_numbers_that_torch_has_not_is_a_gap(tmp_path):
    """F6_E2M3: three values in 18 bits, no dtype of torch's."""
    header = {
        "odd": {"dtype": "F6_E2M3", "shape": [8], "data_offsets": [0, 6]},
        "sound": {"dtype": "F32", "shape": [1], "data_offsets": [6, 10]},
    }
    path = tmp_path / "file.safetensors"
    path.write_bytes(safetensors(json.dumps(header), bytes(6) + struct.pack("<f", 2.5)))
    tree = read_tree(path)
    assert tree.root["tensors"]["odd"] == Opaque("tensor of F6_E2M3")
    assert [gap.reason for gap in tree.gaps] == ["numbers of the kind F6_E2M3: not read"]
    assert tree.root["tensors"]["sound"].whole().tolist() == [2.5]


def test_a_long_series_holds_few_files_open_and_reads_all_of_them(tmp_path):
    import os

    from safetensors.torch import save_file

    trees = []
    for number in range(151):
        save_file({"w": torch.full((3,), float(number))}, tmp_path / f"{number}.safetensors")
        trees.append(read_tree(tmp_path / f"{number}.safetensors"))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for number, tree in enumerate(trees):
        assert tree.root["tensors"]["w"].whole().tolist() == [float(number)] * 3
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 70
        assert before < 151
    (tmp_path / "0.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot open the file"):
        trees[0].root["tensors"]["w"].whole()
    del trees
