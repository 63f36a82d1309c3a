"""Checkpoints in memory, as readers make them from files."""

from __future__ import annotations

import torch

from deadneuron.checkpoints.contents import Checkpoint, Group, Optimizer, Stored


def stored(tensor):
    """A tensor as if it lay on disk: copies are read from a copy."""
    kept = tensor.detach().clone()

    def read(first, last):
        return (kept if kept.dim() else kept.reshape(1))[first:last].clone().contiguous()

    return Stored(tuple(kept.shape), kept.dtype, read)


def plain(settings):
    """A group's settings as readers give them: numbers instead of tensors, nothing but settings."""
    return {
        key: value.item() if torch.is_tensor(value) else value for key, value in settings.items() if key != "params"
    }


def optimizer_of(model, optimizer, kind=None):
    names = {parameter: name for name, parameter in model.named_parameters()}
    states = {
        names[parameter]: {
            key: (stored(value) if value.dim() else value.item()) if torch.is_tensor(value) else value
            for key, value in state.items()
            if value is not None
        }
        for parameter, state in optimizer.state.items()
    }
    groups = tuple(
        Group(f"{type(optimizer).__name__}[{i}]", plain(group), tuple(names[p] for p in group["params"]))
        for i, group in enumerate(optimizer.param_groups)
    )
    return Optimizer(kind or type(optimizer).__name__, groups, states)


def checkpoint_of(model, optimizer=None, step=None, place="checkpoint", **changes):
    """What a reader would make of the model's and the optimizer's state dicts."""
    given = {
        "weights": {name: stored(value) for name, value in model.state_dict().items()},
        "optimizers": () if optimizer is None else (optimizer_of(model, optimizer),),
        **changes,
    }
    return Checkpoint(place, "torch training dict", step, "the optimizer's state", **given)
