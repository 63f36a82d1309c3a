"""A checkpoint's weights put into the user's model, row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from deadneuron.checkpoints.contents import Checkpoint, Stored
from deadneuron.errors import CheckpointError
from deadneuron.measure.sites import plain_name
from deadneuron.records import Gap

_CHUNK = 2**22  # bytes


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> list[Gap]:
    """Copy the weights and buffers of a checkpoint into `model`, in place.

    Names are compared without the wrappers of torch.compile, DDP and FSDP, and without a prefix that all of the
    checkpoint's share ("model." of Lightning). Entries that the model lacks, and buffers that the checkpoint lacks, are
    gaps; a parameter that is missing or has another shape raises `CheckpointError`.
    """
    parameters = dict(_plain(model.named_parameters(remove_duplicate=False)))
    buffers = dict(_plain(model.named_buffers(remove_duplicate=False)))
    weights = _matched(checkpoint.weights, parameters)
    found = {id(tensor) for name, tensor in parameters.items() if name in weights}
    missing = [name for name, tensor in parameters.items() if id(tensor) not in found]  # tied ones may be saved once
    if missing:
        todo = f"the model's function must make the network that was saved: the checkpoint has {_some(list(weights))}"
        what = f"the checkpoint lacks {len(missing)} of the model's {len(parameters)} parameters: {_some(missing)}"
        raise CheckpointError(what, where=checkpoint.place, todo=todo)
    for name, target in (*parameters.items(), *buffers.items()):
        stored = weights.get(name)
        if stored is not None and tuple(target.shape) != stored.shape:
            what = f"{name} has shape {stored.shape} in the checkpoint, and {tuple(target.shape)} in the model"
            raise CheckpointError(what, where=checkpoint.place, todo="make the network that was saved")
        if stored is not None:
            _copy(stored, target)
    step = checkpoint.step or 0
    gaps = []
    persistent = {plain_name(name) for name in model.state_dict()}
    absent = [name for name in buffers if name not in weights and name in persistent]
    if absent:
        gaps.append(Gap(checkpoint.place, f"has no {_some(absent)}: the model's own are used", step))
    extra = [name for name in weights if name not in parameters and name not in buffers]
    if extra:
        gaps.append(Gap(checkpoint.place, f"holds {_some(extra)}, which the model does not have", step))
    return gaps


def _plain(named: Iterable[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    return [(plain_name(name), tensor) for name, tensor in named]


def _matched(weights: Mapping[str, Stored], parameters: Mapping[str, Tensor]) -> Mapping[str, Stored]:
    """The weights under the model's names: with the prefix taken off under which most of its parameters are found."""
    first = next(iter(parameters), "")
    ends = [name.removesuffix(first) for name in weights if name.endswith("." + first)]
    found = {prefix: sum(prefix + name in weights for name in parameters) for prefix in ("", *ends)}
    best = max(found, key=lambda prefix: (found[prefix], -len(prefix)))
    inside = {name.removeprefix(best): stored for name, stored in weights.items() if name.startswith(best)}
    return inside if best else weights


def _copy(stored: Stored, target: Tensor) -> None:
    """In chunks of rows, so that no second copy of a large tensor is made."""
    with torch.no_grad():
        if not stored.shape:
            target.copy_(stored.whole())
            return
        rows = max(_CHUNK * stored.length // max(stored.nbytes, 1), 1)
        for first in range(0, stored.length, rows):
            last = min(first + rows, stored.length)
            target[first:last].copy_(stored.read(first, last))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
