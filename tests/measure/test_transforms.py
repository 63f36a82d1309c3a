"""Transforms of torch.func in compiled programs: as without us, and a gap."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from watching import added_up
from zoo import BATCH, INPUTS

import deadneuron
from deadneuron.errors import DeadneuronWarning

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2, self.last = nn.Linear(INPUTS, 4), nn.ReLU(), nn.Linear(4, 3), nn.SiLU()


class Vmapped(Layers):
    def forward(self, x):
        return self.last(self.fc2(torch.func.vmap(lambda row: F.gelu(self.act(self.fc1(row))))(x)))


class Derived(Layers):
    def forward(self, x):
        value, change = torch.func.jvp(lambda x: F.gelu(self.act(self.fc1(x))), (x,), (x,))
        return self.last(self.fc2(value + change))


def train(model, backend):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    program = torch.compile(model, backend=backend, fullgraph=True)
    yield optimizer
    torch.manual_seed(5)
    for _ in range(3):
        optimizer.zero_grad()
        program(torch.randn(BATCH, INPUTS)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("kind", [Vmapped, Derived])
def test_a_transform_inside_a_compiled_model_goes_on_as_it_would(kind, backend, tmp_path):
    plain = kind()
    model = copy.deepcopy(plain)
    list(train(plain, backend))
    training = train(model, backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadneuronWarning)
        with deadneuron.watch(model, next(training), tmp_path / "run") as monitor:
            list(training)
    assert all(map(torch.equal, plain.parameters(), model.parameters()))
    assert [gap.where for gap in monitor.gaps] == ["torch.func", "act"]
    assert {window.rows for window in added_up(tmp_path / "run").windows} == {3 * BATCH}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_gradients_of_each_example_are_what_they_would_be(backend, tmp_path):
    model = Derived()
    model.forward = lambda x: model.last(model.fc2(model.act(model.fc1(x))))
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    x = torch.randn(BATCH, INPUTS)
    expected = torch.compile(gradients, backend=backend)(parameters, x)
    torch.compiler.reset()
    program = torch.compile(lambda parameters, x: gradients(parameters, x), backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadneuronWarning)
        with deadneuron.watch(model, None, tmp_path / "run") as monitor:
            for _ in range(3):
                found = program(parameters, x)
                monitor.step(lr=0.1)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {gap.where for gap in monitor.gaps} == {"torch.func", "act", "last"}
