"""Modes and tensor classes of the user's that listen to a whole training hear the same calls as without a monitor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from zoo import BATCH, INPUTS

import deadneuron

STEPS = 60  # windows are drained, statistics taken


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(INPUTS, 4), nn.PReLU(4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.act(self.fc(x))
        return F.silu(torch.maximum(self.head(h), torch.zeros(2))) + F.relu(self.head(h)) * torch.sigmoid(self.head(h))


class Functions(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.heard = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.heard.append(str(func))
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.heard = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.heard.append(str(func))
        return func(*args, **(kwargs or {}))


class Loud(torch.Tensor):
    heard: list[str]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.heard.append(str(func))
        return super().__torch_function__(func, types, args, kwargs or {})


def train(model, make=lambda x: x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    yield optimizer
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(make(torch.randn(BATCH, INPUTS))).square().sum().backward()
        optimizer.step()


def finish(training):
    for _ in training:
        pass


@pytest.mark.parametrize("kind", [Functions, Operators])
def test_a_mode_around_the_whole_training_hears_nothing_of_ours(kind, run):
    heard = []
    for watched in (False, True):
        mode, model = kind(), Layers()
        training = train(model)
        optimizer = next(training)
        if watched:
            with deadneuron.watch(model, optimizer, run, every=2), mode:
                finish(training)
        else:
            with mode:
                finish(training)
        heard.append(mode.heard)
    assert heard[0] == heard[1]


def test_a_tensor_class_of_the_users_hears_nothing_of_ours(run):
    heard = []
    for watched in (False, True):
        Loud.heard, model = [], Layers()
        training = train(model, lambda x: x.as_subclass(Loud))
        optimizer = next(training)
        if watched:
            with deadneuron.watch(model, optimizer, run, every=2):
                finish(training)
        else:
            finish(training)
        heard.append(Loud.heard)
    assert heard[0] == heard[1]


def test_what_on_finding_calls_is_the_users_and_is_heard(run):
    mode, model, said = Functions(), nn.Sequential(nn.Linear(INPUTS, 4), nn.ReLU()), []
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    with mode, deadneuron.watch(model, None, run, on_finding=lambda finding: said.append(torch.ones(1))) as monitor:
        model(torch.randn(BATCH, INPUTS))
        monitor.step(lr=0.1)
    assert said
    assert sum("ones" in call for call in mode.heard) == len(said)
