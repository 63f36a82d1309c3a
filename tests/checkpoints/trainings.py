"""Tiny trainings with planted deaths, watched while they run: the truth that checkpoints are held against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 240
SAVES = (60, 120, 180, 240)  # updates made when a checkpoint is written
PLANTED = {0: 1, 131: 2, 193: 1}  # after so many updates, so many more units of every hidden layer die


class Dense(nn.Module):
    """Three layers whose names, sorted, are not in the model's order; no two layers have one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(7, 13)
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(13, 11), nn.ReLU())
        self.a_head = nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a_head(self.body(self.stem(x)))


class Convolutional(nn.Module):
    """With batch norm, so that there are buffers and parameters of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
            *(nn.Conv2d(5, 7, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 9, 3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.reshape(-1, 1, 7, 7))


HIDDEN = {Dense: ("stem", "body.1"), Convolutional: ("layers.1", "layers.3")}
INPUTS = {Dense: 7, Convolutional: 49}


@dataclass
class Truth:
    """What really happened, by the names of the bare model. Step s: s updates have been made."""

    places: list[Path] = field(default_factory=list)  # of the checkpoints, in order
    steps: list[int] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)  # at each of them
    states: list[dict[str, dict[str, Any]]] = field(default_factory=list)  # of the optimizer, by parameter
    groups: list[list[tuple[str, ...]]] = field(default_factory=list)  # names in each parameter group
    rates: list[list[float]] = field(default_factory=list)  # [updates][groups] as used
    momenta: list[list[float]] = field(default_factory=list)  # [updates][groups]
    gradients: dict[str, list[np.ndarray]] = field(default_factory=dict)  # layer → [updates] bool [units]
    edits: list[tuple[int, range]] = field(default_factory=list)  # (update before which they were planted, units)

    def still(self, first: int, last: int) -> dict[str, np.ndarray]:
        """[units] of each hidden layer: no gradient in updates first … last-1."""
        return {layer: ~np.any(rows[first:last], axis=0) for layer, rows in self.gradients.items()}

    def rates_between(self, first: int, last: int) -> np.ndarray:
        return np.array(self.rates[first:last])


def batch(kind: type, step: int, size: int = 17) -> tuple[Tensor, Tensor]:
    """The same at every call: inputs, and classes that a fixed projection tells."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(size, INPUTS[kind], generator=generator)
    y = (x @ torch.linspace(-1, 1, INPUTS[kind] * 3).reshape(-1, 3)).argmax(1)
    return x, y


def loss_of(model: nn.Module, kind: type, step: int) -> Tensor:
    x, y = batch(kind, step)
    return functional.cross_entropy(model(x), y)


def record(
    model: nn.Module, optimizer: torch.optim.Optimizer, truth: Truth, saves: Sequence[int] = SAVES, plant: bool = True
) -> None:
    """Writes down what happens to a bare `model` while anybody steps its optimizer, and plants deaths.

    A unit is planted by a bias of -50: it gets no gradient from the next forward on.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    layers = {layer: model.get_submodule(layer) for layer in HIDDEN[type(model)]}
    truth.gradients.update({layer: [] for layer in layers})

    def before(inner: torch.optim.Optimizer, *_: object) -> None:
        truth.rates.append([float(group["lr"]) for group in inner.param_groups])
        truth.momenta.append([_momentum(group) for group in inner.param_groups])

    def after(inner: torch.optim.Optimizer, *_: object) -> None:
        # Not before: Lightning's step runs forward and backward itself.
        for layer, module in layers.items():
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            rows = [(grad != 0).reshape(len(grad), -1).any(1) for grad in grads]
            truth.gradients[layer].append(torch.stack(rows).any(0).numpy())
        step = len(truth.rates)
        if step in saves:
            truth.steps.append(step)
            truth.weights.append({name: value.clone() for name, value in model.state_dict().items()})
            truth.states.append({names[p]: copy.deepcopy(dict(state)) for p, state in inner.state.items()})
            truth.groups.append([tuple(names[p] for p in group["params"]) for group in inner.param_groups])

    # Before the next forward, that is after whoever saves has saved.
    def planting(_: nn.Module, __: object) -> None:
        step = len(truth.gradients[next(iter(layers))])
        before = sum(units for start, units in PLANTED.items() if step > start)
        if (
            plant
            and model.training
            and step in PLANTED
            and (step, range(before, before + PLANTED[step])) not in truth.edits
        ):
            truth.edits.append((step, range(before, before + PLANTED[step])))
        with torch.no_grad():  # the new ones alone: a bias that is set again is no longer where the optimizer left it
            for module in layers.values() if plant and model.training and step in PLANTED else ():
                module.bias[before : before + PLANTED[step]] = -50.0

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    model.register_forward_pre_hook(planting)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    save: Callable[[int], Path],
    *,
    runner: nn.Module | None = None,
    truth: Truth | None = None,
    epoch: int | None = None,
    saves: Sequence[int] = SAVES,
    late: bool = False,
) -> Truth:
    """A plain loop. `scheduler` steps every update, or every `epoch` updates; `save` is called before it if `late`.

    `runner` is what is called where that is not the bare model: a wrapper.
    """
    truth = truth or Truth()
    record(model, optimizer, truth, saves)
    for step in range(max(saves)):
        loss = loss_of(runner or model, type(model), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done = step + 1
        if done in saves and late:
            truth.places.append(save(done))
        if scheduler is not None and done % (epoch or 1) == 0:
            scheduler.step()
        if done in saves and not late:
            truth.places.append(save(done))
    return truth


def split(model: nn.Module, decay: float = 0.01) -> list[dict[str, Any]]:
    """Two groups as transformers and timm make them: with and without weight decay."""
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _momentum(group: dict[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))
