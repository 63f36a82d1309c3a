"""What torch is given in place of a file's pickle: nothing that names anything but stand-ins."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickletools
import zipfile

import numpy as np
import pytest
import torch
from checkpoints.opcodes import name, number, numbers, pickle, table, tensor, text
from checkpoints.saving import FORMS, save
from hypothesis import given, settings
from hypothesis import strategies as st

from deadneuron.checkpoints.files import unpickling
from deadneuron.checkpoints.files.pickled import look
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.checkpoints.files.unpickling import unpickled
from deadneuron.errors import CheckpointError

PIECES = [
    *[b"N", b"\x88", b"]", b"}", b")", b"(", b"t", b"\x85", b"\x86", b"R", b"\x81", b"b", b"a", b"e", b"s", b"u", b"Q"],
    *[b"q\x00", b"q\x01", b"h\x00", b"h\x01", text("a"), number(7), number(2**70), numbers((2, 3)), tensor()],
    *[name("collections", "OrderedDict"), name("torch", "Size"), name("builtins", "set"), name("numpy", "dtype")],
    *[name("numpy", "ndarray"), name("torch._utils", "_rebuild_parameter"), name("argparse", "Namespace")],
]


@pytest.mark.parametrize("as_zip", FORMS)
def test_torch_is_given_names_of_stand_ins_alone(tmp_path, monkeypatch, as_zip):
    given_to_torch, options = [], []
    real = torch.load

    def watched(file, **how):
        with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
            given_to_torch.append(archive.read("checkpoint/data.pkl"))
            assert set(archive.namelist()) == {"checkpoint/data.pkl", "checkpoint/version", "checkpoint/byteorder"}
        options.append(how)
        return real(file, **how)

    monkeypatch.setattr(unpickling.torch, "load", watched)
    things = {"weight": torch.ones(3), "lr": np.float64(0.1), "args": argparse.Namespace(a=1), "set": {1}, "raw": b"a"}
    read_tree(save(things, tmp_path / "file.pt", as_zip))
    assert len(given_to_torch) == (1 if as_zip else 3)
    assert all(how == {"weights_only": True} for how in options)
    found = [arg for raw in given_to_torch for op, arg, _ in pickletools.genops(raw) if op.name == "GLOBAL"]
    assert len(found) >= 6
    assert all(one.startswith("deadneuron_stand_ins ") for one in found)
    assert not any(op.name == "BINPERSID" for raw in given_to_torch for op, _, _ in pickletools.genops(raw))


def test_every_name_is_seen_as_pickletools_sees_it(tmp_path):
    model = torch.nn.Linear(3, 5)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    path = save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "file.pt")
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("file/data.pkl")
    seen = {arg.replace(" ", ".") for op, arg, _ in pickletools.genops(raw) if op.name == "GLOBAL"}
    looked = look(raw, "here")
    assert set(looked.names) == seen
    assert len(looked.storages) == 2 + 3 * 2  # weights and biases; step, exp_avg and exp_avg_sq of both
    assert looked.end == len(raw)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_instructions_are_read_or_refused_and_torch_never_complains_of_a_call(pieces):
    """A call of what is no function would make torch print it in full; the look must have seen it before."""
    complaints = []
    real = torch.load

    def watched(*args, **how):
        try:
            return real(*args, **how)
        except Exception as error:
            complaints.append(str(error))
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpickling.torch, "load", watched)
        with contextlib.suppress(CheckpointError):
            unpickled(look(pickle(b"".join(pieces) + b"N"), "here"), (), "here")
    assert not any("reduce for unrecognized" in said or "Can only create new" in said for said in complaints)


def test_numbers_of_more_than_64_bits_are_few():
    body = b"](" + b"".join(number(2**100 + i) for i in range(10_001)) + b"e"
    with pytest.raises(CheckpointError, match="too many things"):
        look(pickle(body), "here")
    assert look(pickle(b"](" + b"".join(number(i) for i in range(10_001)) + b"e"), "here").names == []


def test_keys_of_a_checkpoint_pass():
    keys = [text("a"), number(7), numbers((1, 2)), b"N", b"\x88"]
    body = b"}(" + b"".join(key + b"N" for key in keys) + b"u"
    assert unpickled(look(pickle(body), "here"), (), "here").root.keys() == {"a", 7, (1, 2), None, True}


def test_what_lies_behind_the_pickle_is_not_looked_at():
    raw = pickle(table(a=number(7))) + name("posix", "system")
    assert look(raw, "here").names == []
