"""Trainings on the digits with every gradient recorded: the truth that checkpoints are held against.

Some units of each hidden layer are planted dead at one step; others die by themselves, since the rates are high.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from checkpoints.making import checkpoint_of
from torch import nn
from torch.nn.functional import cross_entropy

from deadneuron.checkpoints.contents import Rates
from deadneuron.checkpoints.evidence.layers import find_layers

PLANTED = 5


@cache
def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16.0, dtype=torch.float32)[order], torch.tensor(labels)[order]


class Images(nn.Module):
    def forward(self, x):
        return x.view(-1, 1, 8, 8)


def mlp(bias=True):
    hidden = [(64, 61), (61, 59), (59, 53)]
    layers = [one for a, b in hidden for one in (nn.Linear(a, b, bias=bias), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(53, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def conv_norm():
    return nn.Sequential(
        Images(),
        *(nn.Conv2d(1, 23, 3, padding=1, bias=False), nn.BatchNorm2d(23), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(23, 37, 3, padding=1, bias=False), nn.BatchNorm2d(37), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(37, 10)),
    )


def conv():
    return nn.Sequential(
        Images(),
        *(nn.Conv2d(1, 23, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(23, 37, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(37, 10)),
    )


MODELS = {"mlp": mlp, "conv-bn": conv_norm, "conv": conv}
PLANT = {"mlp": -50.0, "conv-bn": -10.0, "conv": -50.0}


@dataclass
class Training:
    """Checkpoints of one training, and which rows had a gradient at which update."""

    checkpoints: dict  # by step
    layers: tuple
    flowed: dict  # layer → [updates, units] whether any of its rows had a gradient
    rates: np.ndarray  # [updates, groups]
    model: nn.Module = field(repr=False)

    def truth(self, layer, first, last):
        """[units] no gradient in the updates first … last-1."""
        return ~self.flowed[layer][first:last].any(0)

    def last(self, layer, step):
        """[units] updates since the last gradient, at that step; inf for never."""
        flowed = self.flowed[layer][:step]
        newest = step - 1 - np.argmax(flowed[::-1], axis=0)
        return np.where(flowed.any(0), step - 1 - newest, np.inf)

    def silent(self, step):
        """layer → [units] positive on no image, with the weights of that checkpoint and norms over all images."""
        weights = self.checkpoints[step].weights
        self.model.load_state_dict({name: one.whole() for name, one in weights.items()})
        found, x = [], digits()[0]
        with torch.no_grad():
            for module in self.model.train():
                x = module(x)
                if isinstance(module, nn.ReLU):
                    found.append((x.movedim(1, 0).reshape(x.shape[1], -1) <= 0).all(1).numpy())
        return {layer.name: one for layer, one in zip(self.layers, found, strict=True)}

    def between(self, first, last, exact=True):
        return Rates(self.rates[first:last], "recorded in the training", exact)


def train(
    kind, make, *, schedule=None, steps=260, plant=60, keep=(160, 260), seed=0, batch=64, dtype=torch.float32, **changes
):
    """kind: of MODELS; make: parameters → optimizer; schedule: optimizer → scheduler."""
    torch.manual_seed(seed)
    model = MODELS[kind]().to(dtype)
    images, labels = digits()
    optimizer = make(model.parameters())
    scheduler = schedule(optimizer) if schedule else None
    layers = find_layers(checkpoint_of(model))[:-1]
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed + 7)
    flowed = {layer.name: np.zeros((steps, layer.units), dtype=bool) for layer in layers}
    rates, kept = [], {}
    for step in range(steps + 1):
        if step in keep:
            kept[step] = replace(checkpoint_of(model, optimizer, step), **changes)
        if step == steps:
            break
        if step == plant:
            with torch.no_grad():
                for layer in layers:
                    parameters[layer.parts[0].name][:PLANTED] = PLANT[kind]
        chosen = torch.randint(len(images), (batch,), generator=generator)
        loss = cross_entropy(model(images[chosen].to(dtype)).float(), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        for layer in layers:
            for part in layer.parts:
                gradient = parameters[part.name].grad.movedim(part.axis, 0)
                flowed[layer.name][step] |= (gradient.reshape(layer.units, -1) != 0).any(1).numpy()
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        if scheduler:
            scheduler.step()
    assert np.isfinite(loss.item())
    return Training(kept, layers, flowed, np.array(rates), model)
