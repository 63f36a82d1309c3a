"""Reads one local file safely, whatever it is called and whoever made it: its tree, with tensors that stay on disk."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from deadneuron.checkpoints.contents import Tree
from deadneuron.checkpoints.files.legacy import MAGIC, read_legacy
from deadneuron.checkpoints.files.opened import OpenFile
from deadneuron.checkpoints.files.safetensorsfile import read_safetensors
from deadneuron.checkpoints.files.torchfile import read_zip
from deadneuron.errors import CheckpointError

_WEIGHTS = "give a file of torch.save or a safetensors file"
_OTHERS = {
    b"\x80": "a pickle, but none that torch.save wrote",
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of numpy",
    b"\x1f\x8b": "a compressed file",
    b"\xfd7zXZ": "a compressed file",
    b"\x28\xb5\x2f\xfd": "a compressed file",
    b"BZh": "a compressed file",
    b"PAR1": "a Parquet file",
    b"version https://git-": "a pointer of Git LFS, whose file was not fetched",
}


def read_tree(path: Path, allow: Collection[str] = ()) -> Tree:
    """What the file holds. Its format is told by its first bytes, never by its name.

    Nothing that the file names is imported or run: see `harmless` beside this. The file stays open until the tree and
    its tensors are dropped.

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
    head = file.read(0, min(file.size, 32))
    if head.startswith(b"PK\3\4"):
        return read_zip(file, allow)
    if head.startswith(MAGIC):
        return read_legacy(file, allow)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return read_safetensors(file, str(path))
    raise CheckpointError(f"this is no checkpoint: {_kind(file, head)}", where=file.place, todo=_WEIGHTS)


def _kind(file: OpenFile, head: bytes) -> str:
    """What the file seems to be."""
    if file.size > 512 and file.read(257, 5) == b"ustar":
        return "a tar archive, perhaps of a torch older than 0.1.11"
    for start, kind in _OTHERS.items():
        if head.startswith(start):
            return kind
    return "it begins like no file of torch.save or safetensors"
