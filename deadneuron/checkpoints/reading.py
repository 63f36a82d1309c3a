"""Reads one local file safely, whatever it is called and whoever made it: its tree, with tensors that stay on disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from deadneuron.checkpoints.contents import Tree
from deadneuron.checkpoints.opened import OpenFile
from deadneuron.checkpoints.safetensorsfile import read_safetensors
from deadneuron.checkpoints.torchfile import read_zip
from deadneuron.errors import CheckpointError


def read_tree(path: Path, allow: Collection[str] = ()) -> Tree:
    """What the file holds. Its format is told by its first bytes, never by its name.

    Nothing that the file names is imported or run: see `deadneuron.checkpoints.harmless`. The file stays open until
    the tree and its tensors are dropped.

    Parameters
    ----------
    path : a regular file, or a symlink to one
    allow : full names ("my_project.Config") that may stand in the file; inert objects take their places

    Raises
    ------
    CheckpointError
        the file cannot be opened, is of no known format, is damaged, or names what is not allowed
    """
    file = OpenFile(path)
    if file.size == 0:
        raise CheckpointError("the file is empty", where=file.place, todo="fetch or save it again")
    head = file.read(0, min(file.size, 16))
    if head.startswith(b"PK\3\4"):
        return read_zip(file, allow)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors(file, str(path))
    raise CheckpointError(
        "this is no checkpoint: neither safetensors nor of torch.save",
        where=file.place,
        todo="give a file with weights",
    )
