"""The training loop of all experiments: plain PyTorch under the monitor."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from deadneuron.errors import LabError
from deadneuron.experiments.digits import Digits, batches
from deadneuron.profiles import Profile
from deadneuron.watching import watch


def make_optimizer(name: str, model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    """An optimizer by one of the names of `grid.OPTIMIZERS`; all else is as in PyTorch. Raises `LabError`."""
    parameters = list(model.parameters())
    if name in ("SGD", "SGD+momentum", "SGD+nesterov"):
        momentum = momentum if "+" in name else 0.0
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=name == "SGD+nesterov")
    for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        if kind.__name__ == name:
            return kind(parameters, lr=lr)
    raise LabError("unknown optimizer", where=name, todo="choose one that the documentation of the lab names")


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    digits: Digits,
    run: Path,
    *,
    steps: int,
    batch: int,
    generator: torch.Generator,
    on_step: Callable[[int], None],
    rate: Callable[[int], float] | None = None,
    profile: str | Profile = "default",
    look: Callable[[], None] | None = None,
    look_every: int = 1,
) -> list[float]:
    """Train on the digits, write the run to `run` (an older one there is replaced) and give the loss of each step.

    rate: the learning rate by step; None leaves the optimizer's. on_step: called after each step. look: called before
    the first step, after every `look_every` steps and after the last, while the monitor does not count. Training ends
    early at a loss that is NaN or Inf: what comes after would tell nothing more.
    """
    losses: list[float] = []
    stream = batches(digits, batch, generator)
    size = len(digits.train_x)
    with watch(model, optimizer, run=run, profile=profile, dataset_size=size, overwrite=True) as monitor:

        def pause_and_look() -> None:
            if look is not None:
                monitor.pause()
                look()
                model.train()
                monitor.resume()

        pause_and_look()
        model.train()
        for step, (x, y) in zip(range(steps), stream, strict=False):
            if rate is not None:
                for group in optimizer.param_groups:
                    group["lr"] = rate(step)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            monitor.log(loss=loss.detach())
            losses.append(loss.item())
            on_step(step)
            if not math.isfinite(losses[-1]):
                break
            if (step + 1) % look_every == 0 or step + 1 == steps:
                pause_and_look()
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, digits: Digits) -> float:
    """Share of the held-out images that the model reads rightly."""
    model.eval()
    return float((model(digits.test_x).argmax(1) == digits.test_y).float().mean())
