"""A net whose deaths under a learning rate are known by arithmetic."""

from __future__ import annotations

import torch
from torch import nn

from deadneuron.experiments.branch import probe_learning_rates

# Only the biases learn: each step at rate r moves a unit that fires on the input 1 by r, downwards where its output
# counts for the loss, upwards where against it. All numbers are whole multiples of 1/128: exact in float32.
FALLING = [1 / 16, 3 / 16, 5 / 16, 7 / 16, 30.0]  # pre-activations at the input 1
RATE, STEPS = 1 / 64, 4  # at ×1 they fall by 1/16 in all


def hand_set():
    """Five units that fall, and one that rises: silent on the input 0 until its bias, now -3/16, is above 0."""
    layer, head = nn.Linear(1, 6), nn.Linear(6, 1, bias=False)
    layer.weight.data = torch.tensor([[0.0]] * 5 + [[1.0]])
    layer.bias.data = torch.tensor([*FALLING, -3 / 16])
    head.weight.data = torch.tensor([[1.0] * 5 + [-1.0]])
    layer.weight.requires_grad_(False)
    head.weight.requires_grad_(False)
    return nn.Sequential(layer, nn.ReLU(), head)


def stepper(model, optimizer, loss_of=lambda out: out.mean()):
    def step(batch):
        optimizer.zero_grad()
        loss = loss_of(model(batch))
        loss.backward()
        optimizer.step()
        return loss

    return step


def hand_probe(multipliers=(4, 1, 2), steps=STEPS, probe=None, **options):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    batches = [torch.ones(1, 1)] * steps
    probe = [torch.zeros(7, 1)] if probe is None else probe
    step = stepper(model, optimizer)
    return probe_learning_rates(model, optimizer, step, batches, multipliers, steps, probe, **options)
