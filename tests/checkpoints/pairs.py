"""Pairs of checkpoints with random gradients, and what replay answers to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from checkpoints.making import checkpoint_of
from checkpoints.variants import maker
from torch import nn

from deadneuron.checkpoints.contents import Interval, Rates
from deadneuron.checkpoints.layers import find_layers
from deadneuron.checkpoints.replay import replay
from deadneuron.profiles import load_profile

FORENSICS = load_profile().checkpoints
DEAD = [2, 5, 11]


def rates_of(updates, rate, exact=True, groups=1):
    return Rates(np.full((updates, groups), rate), "the rate is the same at both ends", exact)


def pair(make, model=None, warm=7, updates=23, dead=DEAD, axis=0, dtype=torch.float32, touch=None, after=None):
    """Two checkpoints of random gradients; the dead units have none between them. touch(step, parameters) may change
    gradients, after(model, optimizer) happens at the first checkpoint."""
    model = (model or nn.Sequential(nn.Linear(53, 17), nn.ReLU())).to(dtype)
    optimizer = make(model.parameters())
    kept = []
    for step in range(warm + updates + 1):
        if step in (warm, warm + updates):
            kept.append(checkpoint_of(model, optimizer, step))
            if step == warm and after:
                after(model, optimizer)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
            if step >= warm:
                parameter.grad.movedim(axis if parameter.dim() > 1 else 0, 0)[dead] = 0
        if touch:
            touch(step - warm, dict(model.named_parameters()))
        optimizer.step()
    return kept


def ask(kept, rates, layers=None, **how) -> Interval:
    layers = layers or find_layers(kept[0])
    (interval,) = replay(*kept, layers, rates, FORENSICS, **how)
    return interval


def rate(variant):
    return maker(variant)([nn.Parameter(torch.ones(1))]).param_groups[0]["lr"]


def answer(variant, kept, updates=23, **how):
    return ask(kept, rates_of(updates, rate(variant)), **how)


def with_kind(kept, kind):
    return [replace(one, optimizers=(replace(one.optimizers[0], kind=kind),)) for one in kept]
