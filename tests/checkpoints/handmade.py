"""Checkpoints made by hand, in memory."""

from __future__ import annotations

import torch

from deadneuron.checkpoints.contents import Checkpoint, Stored


def stored(tensor):
    """A tensor as if it lay on disk."""
    kept = tensor.detach().clone()
    flat = kept.reshape(1) if kept.dim() == 0 else kept
    return Stored(tuple(kept.shape), kept.dtype, lambda first, last: flat[first:last].clone().contiguous())


def weights_only(model_or_weights, step=None, **more):
    """A checkpoint of weights without an optimizer."""
    weights = model_or_weights.state_dict() if isinstance(model_or_weights, torch.nn.Module) else model_or_weights
    tensors = {name: stored(tensor) for name, tensor in weights.items()}
    return Checkpoint(f"step-{step}.pt", "torch state dict", step, "the file's name", tensors, **more)
