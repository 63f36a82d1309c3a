"""Live objects as a reader would give them: tensors behind `Stored`, nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Checkpoint, Stored, Tree
from deadneuron.checkpoints.layouts.compose import compose
from deadneuron.checkpoints.layouts.contained import layout_of


def stored(tensor: Tensor) -> Stored:
    whole = tensor.detach().clone()

    def read(first: int, last: int) -> Tensor:
        return (whole if whole.ndim else whole.reshape(1))[first:last].clone()

    return Stored(tuple(whole.shape), whole.dtype, read)


def unread(*shape: int, dtype: torch.dtype = torch.float32) -> Stored:
    """A tensor that nobody may read."""

    def read(first: int, last: int) -> Tensor:
        raise AssertionError("it was read")

    return Stored(shape, dtype, read)


def on_file(value: Any) -> Any:
    if isinstance(value, Tensor):
        return stored(value)
    if isinstance(value, Mapping):
        return {key: on_file(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_file(inner) for inner in value)
    return value


def tree(value: Any, place: str = "model.pt") -> Tree:
    return Tree(place, "torch zip", on_file(value))


def checkpoint(value: Any, place: str = "model.pt") -> Checkpoint:
    return compose(layout_of(tree(value, place)), place, (place, "folder"))
