"""Files of torch.save from before torch 1.6, or of today with `_use_new_zipfile_serialization=False`.

Five pickles follow one another: a magic number, the protocol, what the machine was like, the object, the storages'
keys. Then each storage: its length (8 bytes, in elements), and its numbers. So where each lies is told by the lengths,
and none is read before it is asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping

import torch

from deadneuron.checkpoints.contents import Stored, Tree
from deadneuron.checkpoints.files.archive import AGAIN
from deadneuron.checkpoints.files.described import Rebuilt
from deadneuron.checkpoints.files.harmless import stand_ins
from deadneuron.checkpoints.files.opened import OpenFile, Span
from deadneuron.checkpoints.files.pickled import LONGEST, Look, look
from deadneuron.checkpoints.files.plain import plain
from deadneuron.checkpoints.files.unpickling import unpickled
from deadneuron.checkpoints.files.views import stored
from deadneuron.errors import CheckpointError

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number 0x1950A86A20F9469CFC6C
_PROTOCOL = b"\x80\x02M\xe9\x03."  # the pickled number 1001
_HEADS = (2**20, 2**23)  # bytes that are read for the pickles: mostly the first will do
_LENGTH = 8  # bytes of a storage's length


def read_legacy(file: OpenFile, allow: Collection[str]) -> Tree:
    """Raises `CheckpointError` for what cannot be read safely."""
    place = file.place
    looks = _looks(file)
    # All names are judged before anything is built.
    stand_ins((name for looked in looks for name in looked.names), allow, place)
    machine, held, keys = (unpickled(looked, allow, place) for looked in looks)
    if not isinstance(machine.root, dict) or machine.root.get("little_endian") is not True:
        todo = "save it on a machine that is little-endian"
        raise CheckpointError("its numbers are big-endian, which is not read", where=place, todo=todo)
    spans = _spans(file, looks[-1].end, keys.root, held.storages)

    def find(rebuilt: Rebuilt, name: str) -> Stored:
        return stored(rebuilt, file, spans[rebuilt.storage.key], name)

    tree, gaps = plain(held.root, place, find)
    return Tree(place, "torch legacy", tree, gaps)


def _looks(file: OpenFile) -> list[Look]:
    """What the machine was like, the object, and the storages' keys; how long these are is told by reading them."""
    for length in _HEADS:
        if length < file.size:
            with contextlib.suppress(CheckpointError):  # they may be longer, or damaged: a longer head tells
                return _looks_within(file, length)
    return _looks_within(file, min(file.size, LONGEST))


def _looks_within(file: OpenFile, length: int) -> list[Look]:
    raw = file.read(0, length)
    end = len(MAGIC) + len(_PROTOCOL)
    if raw[len(MAGIC) : end] != _PROTOCOL:
        raise CheckpointError("it is of an unknown version of torch.save", where=file.place, todo=AGAIN)
    looks: list[Look] = []
    for _ in range(3):
        looks.append(look(raw, file.place, end))
        end = looks[-1].end
    return looks


def _spans(file: OpenFile, start: int, keys: object, storages: Mapping[str, torch.dtype]) -> Mapping[str, Span]:
    """Where the storages lie, which follow one another in the order of `keys` from `start` on."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise CheckpointError("its list of storages does not fit its tensors", where=file.place, todo=AGAIN)
    spans: dict[str, Span] = {}
    for key in keys:
        length = int.from_bytes(file.read(start, _LENGTH), "little") * storages[key].itemsize
        start += _LENGTH
        if key in spans or start + length > file.size:
            raise CheckpointError("it ends before its tensors do", where=file.place, todo=AGAIN)
        spans[key] = Span(start, length)
        start += length
    return spans
