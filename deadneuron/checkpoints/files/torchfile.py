"""Files of torch.save as they are written since torch 1.6: a zip archive with a pickle and one member a storage."""

from __future__ import annotations

from collections.abc import Collection

from deadneuron.checkpoints.contents import Stored, Tree
from deadneuron.checkpoints.files.archive import AGAIN, members
from deadneuron.checkpoints.files.described import Rebuilt
from deadneuron.checkpoints.files.opened import OpenFile
from deadneuron.checkpoints.files.pickled import LONGEST, look
from deadneuron.checkpoints.files.plain import plain
from deadneuron.checkpoints.files.unpickling import unpickled
from deadneuron.checkpoints.files.views import stored
from deadneuron.errors import CheckpointError


def read_zip(file: OpenFile, allow: Collection[str]) -> Tree:
    """Raises `CheckpointError` for what cannot be read safely."""
    place = file.place
    spans = members(file)
    if "constants.pkl" in spans or any(name.startswith("code/") for name in spans):
        what = "this is a TorchScript archive: a program, no checkpoint"
        raise CheckpointError(what, where=place, todo="save its state_dict() with torch.save")
    pickle = spans.get("data.pkl")
    if pickle is None:
        what = "this zip archive is none that torch.save wrote"
        raise CheckpointError(what, where=place, todo="give the checkpoint itself, unpacked if need be")
    if pickle.length > LONGEST:
        what = f"its pickle is longer than {LONGEST // 2**20} MiB"
        raise CheckpointError(what, where=place, todo="save tensors, not lists of numbers")
    order = spans.get("byteorder")
    if order is not None and file.read(order.start, min(order.length, 6)) != b"little":
        todo = "save it on a machine that is little-endian"
        raise CheckpointError("its numbers are big-endian, which is not read", where=place, todo=todo)

    def find(rebuilt: Rebuilt, name: str) -> Stored:
        span = spans.get(f"data/{rebuilt.storage.key}")
        if span is None:
            raise CheckpointError(f"the numbers of {name} are missing", where=place, todo=AGAIN)
        return stored(rebuilt, file, span, name)

    looked = look(file.read(pickle.start, pickle.length), place)
    root, gaps = plain(unpickled(looked, allow, place).root, place, find)
    return Tree(place, "torch zip", root, gaps)
