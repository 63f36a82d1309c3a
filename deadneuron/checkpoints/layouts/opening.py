"""One checkpoint of any layout, from a file or a folder."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from deadneuron.checkpoints.contents import Checkpoint
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.checkpoints.layouts.compose import compose
from deadneuron.checkpoints.layouts.contained import layout_of
from deadneuron.checkpoints.layouts.folders import SHARD, is_checkpoint, lies_beside, read_folder
from deadneuron.checkpoints.layouts.foreign import decline_file, decline_folder
from deadneuron.errors import CheckpointError

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")


def open_checkpoint(place: str | Path, allow: Collection[str] = ()) -> Checkpoint:
    """Weights, optimizer state, schedule and step of one checkpoint; tensors stay on disk until they are asked for.

    `allow` names classes that a file may build ("argparse.Namespace"). Raises `CheckpointError` where the place is
    no checkpoint, is of a kind that is declined, or cannot be read safely; everything less is a gap.
    """
    path = Path(place)
    names = (path.name, path.absolute().parent.name)
    try:
        if path.is_dir():
            inside = sorted(entry.name for entry in os.scandir(path))
            decline_folder(inside, str(path))
            if is_checkpoint(inside):
                return compose(read_folder(path, allow), str(path), names)
            return open_checkpoint(_only_file(path, inside), allow)
        if not path.exists():
            raise CheckpointError("there is no such file or folder", where=str(path), todo="check the path")
        decline_file(path.name, str(path))
        if SHARD.search(path.name):
            todo = f"give its folder, {path.parent}"
            raise CheckpointError("this is one shard of a checkpoint", where=str(path), todo=todo)
        if lies_beside(path.name):
            todo = f"give the folder that holds the weights too, {path.parent}"
            raise CheckpointError("this file holds no weights", where=str(path), todo=todo)
        return compose(layout_of(read_tree(path, allow)), str(path), names)
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({error.strerror})", where=str(path)) from None
    except ValueError as error:  # a path with a NUL
        raise CheckpointError(f"it cannot be read ({error})", where=repr(str(path))) from None


def _only_file(folder: Path, names: Collection[str]) -> Path:
    files = [name for name in names if name.endswith(SUFFIXES) and not lies_beside(name)]
    if len(files) == 1:
        return folder / files[0]
    if files:
        todo = f"give one of them, such as {folder / files[0]}"
        raise CheckpointError(
            f"this folder holds {len(files)} files, and is no one checkpoint", where=str(folder), todo=todo
        )
    todo = f"files that end in {', '.join(SUFFIXES)}, and folders of transformers or Accelerate, are read"
    raise CheckpointError("this folder holds no checkpoint", where=str(folder), todo=todo)
