"""Steps with zero gradients: rows are put into the very optimizer class that trained them.

All optimizers here treat every entry by itself, so that any entries of a parameter can be stepped apart from the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deadneuron.checkpoints.evidence.owners import KINDS
from deadneuron.records import Floats

_PLAIN = {"lr": 0.0, "foreach": False, "fused": False, "capturable": False, "differentiable": False}
"""The plain kernels, whatever the training had: foreach rounds as they do, and what fused ones round otherwise is
within the tolerance of weights (`agreeing`)."""


def step_rows(
    kind: str,
    settings: Mapping[str, Any],
    weights: Tensor,
    state: Mapping[str, Tensor],
    scalars: Mapping[str, float],
    updates: int,
    rates: Floats | None,
    momenta: Floats | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What `updates` steps with gradients of 0 make of weights and state. All tensors have the same shape.

    rates, momenta: [updates]; without rates the weights are not moved by them. Neither argument is written to.
    """
    parameter = torch.nn.Parameter(weights.clone())
    parameter.grad = torch.zeros_like(weights)
    known = inspect.signature(KINDS[kind]).parameters
    rule = {key: settings.get(key, default.default) for key, default in known.items() if key != "params"}
    optimizer = KINDS[kind]([parameter], **rule | {key: value for key, value in _PLAIN.items() if key in known})
    if state or scalars:
        optimizer.state[parameter] = {key: tensor.clone() for key, tensor in state.items()} | {
            key: torch.tensor(value, dtype=torch.float32) for key, value in scalars.items()
        }
    (group,) = optimizer.param_groups
    for update in range(updates):
        if rates is not None:
            group["lr"] = float(rates[update])
        if momenta is not None:
            if "betas" in group:
                group["betas"] = (float(momenta[update]), group["betas"][1])
            else:
                group["momentum"] = float(momenta[update])
        optimizer.step()
    kept = optimizer.state[parameter]
    return parameter.detach(), {key: value for key, value in kept.items() if torch.is_tensor(value) and value.dim()}
