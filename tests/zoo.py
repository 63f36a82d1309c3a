"""Odd models whose truth is known, and a slow plain counter that knows nothing of deadneuron.

Sizes are different primes, so that a mixed-up axis changes a shape or a count.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from deadneuron.records import HISTOGRAM_EDGES

BATCH, INPUTS, UNITS, TIME, HEIGHT, WIDTH, LENGTH = 7, 3, 5, 11, 13, 17, 19
NEVER = 5e4  # a threshold that no input reaches, within the range of float16


def thresholds_linear(thresholds, inputs: int = INPUTS) -> nn.Linear:
    """Unit u gives x[…, 0] - thresholds[u]: it fires on the rows whose first feature is above its threshold."""
    layer = nn.Linear(inputs, len(thresholds))
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = 1
        layer.bias.copy_(-torch.tensor(thresholds))
    return layer


def thresholds_conv(kind: type[nn.Module], thresholds, inputs: int = INPUTS) -> nn.Module:
    """The same with a 1×1 convolution over the first channel."""
    layer = kind(inputs, len(thresholds), 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, 0] = 1
        layer.bias.copy_(-torch.tensor(thresholds))
    return layer


@dataclass
class Seen:
    """What went through one activation: pre-activations and outputs, copied before anything could change them."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)

    @classmethod
    def through(cls, module: nn.Module) -> Seen:
        seen = cls()
        module.register_forward_pre_hook(lambda m, args: seen.inputs.append(args[0].detach().clone()))
        module.register_forward_hook(lambda m, args, output: seen.outputs.append(output.detach().clone()))
        return seen


def rows_of(x: torch.Tensor, axis: int) -> list[list[float]]:
    """Plain lists: for each unit its values at all other positions."""
    values = x.double().numpy()
    others = [range(n) for i, n in enumerate(values.shape) if i != axis]
    rows = []
    for unit in range(values.shape[axis]):
        indices = ((*place[:axis], unit, *place[axis:]) for place in itertools.product(*others))
        rows.append([float(values[index]) for index in indices])
    return rows


def inside(value: float, gate: tuple[float, float]) -> bool:
    """NaN counts as inside, whatever the gate."""
    return math.isnan(value) or not (
        (value <= gate[0] and gate[0] != -math.inf) or (value >= gate[1] and gate[1] != math.inf)
    )


def active_by_hand(x: torch.Tensor, axis: int, gate: tuple[float, float]) -> list[int]:
    return [sum(inside(value, gate) for value in row) for row in rows_of(x, axis)]


def bin_by_hand(value: float) -> int:
    """The bin of one number: an edge belongs to the side of zero, zero to the bin below it."""
    edges = HISTOGRAM_EDGES.tolist()
    if value == 0:
        return edges.index(0.0)
    if value > 0:
        return sum(edge < value for edge in edges)
    return sum(edge <= value for edge in edges)


def histogram_by_hand(x: torch.Tensor) -> np.ndarray:
    counts = np.zeros(len(HISTOGRAM_EDGES) + 1, dtype=np.int64)
    for value in x.float().flatten().tolist():
        if not math.isnan(value):
            counts[bin_by_hand(value)] += 1
    return counts


def step_once(model: nn.Module, optimizer, x: torch.Tensor) -> float:
    """One plain training step on the sum of squares of the output."""
    optimizer.zero_grad()
    loss = model(x).square().sum()
    loss.backward()
    optimizer.step()
    return loss.item()


def hooks_of(model: nn.Module, *optimizers) -> dict[str, object]:
    """Everything that a module or optimizer holds of hooks, and the names of its attributes."""
    state: dict[str, object] = {}
    for name, module in model.named_modules():
        state[name] = {
            key: (list(value) if key.endswith(("hooks", "kwargs", "called")) else None)
            for key, value in vars(module).items()
        }
    for index, optimizer in enumerate(optimizers):
        state[f"optimizer {index}"] = {
            key: (list(value) if "hooks" in key else None) for key, value in vars(optimizer).items()
        }
    return state
