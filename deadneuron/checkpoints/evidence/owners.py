"""Which parameter group and which optimizer state a parameter has, and what its optimizer does with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deadneuron.checkpoints.contents import Checkpoint, State, Stored

KINDS: dict[str, type[torch.optim.Optimizer]] = {
    kind.__name__: kind
    for kind in (
        *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam),
        *(torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adamax, torch.optim.Adadelta),
    )
}
"""The optimizers that are known here. All of them treat every entry by itself: rows can be stepped apart."""

HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Owner:
    """What one parameter has of its optimizer."""

    kind: str | None
    group: int  # counted over all optimizers
    settings: Mapping[str, Any]
    state: State

    @property
    def moments(self) -> dict[str, Stored]:
        """The tensors of the state."""
        return {key: value for key, value in self.state.items() if isinstance(value, Stored)}

    @property
    def step(self) -> int | None:
        """Updates that the state has seen; None where it does not count them."""
        step = self.state.get("step")
        return int(step) if isinstance(step, (int, float)) and math.isfinite(step) else None

    def number(self, key: str, default: float = 0.0) -> float:
        """A setting as a number; `default` where it is missing or none."""
        value = self.settings.get(key, default)
        return float(value) if isinstance(value, (int, float)) else default

    @property
    def betas(self) -> tuple[float, float] | None:
        betas = self.settings.get("betas")
        if isinstance(betas, (tuple, list)) and len(betas) == 2 and all(isinstance(b, (int, float)) for b in betas):
            return float(betas[0]), float(betas[1])
        return None

    @property
    def decoupled(self) -> bool:
        return self.kind == "AdamW" or bool(self.settings.get("decoupled_weight_decay"))

    @property
    def coupled(self) -> bool:
        """Whether the weight decay is added to the gradient: then a row's state never rests, dead or not."""
        return self.number("weight_decay") != 0 and not self.decoupled

    @property
    def plain(self) -> bool:
        """SGD without momentum, which keeps no state."""
        return self.kind == "SGD" and self.number("momentum") == 0

    @property
    def resting(self) -> bool:
        """Whether weights without a gradient stay where they are, whatever the rates: no decay and no momentum."""
        if self.number("weight_decay") != 0:
            return False
        return (
            self.plain
            or self.kind in ("Adagrad", "Adadelta")
            or (self.kind == "RMSprop" and self.number("momentum") == 0)
        )


def owners_of(checkpoint: Checkpoint) -> dict[str, Owner]:
    """Owners by the parameter's name; parameters that no optimizer lists have none."""
    found: dict[str, Owner] = {}
    number = 0
    for optimizer in checkpoint.optimizers:
        for group in optimizer.groups:
            for name in group.parameters:
                found[name] = Owner(optimizer.kind, number, group.settings, optimizer.states.get(name, {}))
            number += 1
    return found
