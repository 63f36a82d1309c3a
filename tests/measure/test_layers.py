"""What is a layer's activation and what is not, in eager mode and in compiled programs alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from watching import added_up, frozen_sgd
from zoo import INPUTS, NEVER, step_once, thresholds_linear

import deadneuron

STEPS, ROWS = 5, 7
PARAMETER = "it is not fed by a layer, but by parameters or by what nothing is known of"


class Slices(nn.Module):
    """Two activations of one layer, each of its own units."""

    def __init__(self):
        super().__init__()
        self.fc = thresholds_linear([-9.0, NEVER, -9.0, -9.0, -9.0, NEVER])

    def forward(self, x):
        first, second = self.fc(x).chunk(2, -1)
        return F.relu(first) + F.relu(second)


class OfParameters(nn.Module):
    """Activations of a parameter, of a number of times one, and of a layer's."""

    def __init__(self):
        super().__init__()
        self.fc, self.scale = thresholds_linear([-9.0, NEVER]), nn.Parameter(-torch.ones(2))

    def forward(self, x):
        return F.softplus(self.scale) + F.relu(self.scale * 2) + F.relu(self.fc(x))


class Chained(nn.Module):
    """A ReLU of what another activation gives, before one of a layer's."""

    def __init__(self):
        super().__init__()
        self.fc = thresholds_linear([-9.0, NEVER])

    def forward(self, x):
        return F.relu(F.softplus(self.fc(x))) + F.relu(self.fc(x))


CASES = {
    "slices": (Slices, {"relu()@fc": [1], "relu()@fc#1": [2]}, set()),
    "parameters": (OfParameters, {"relu()": [1]}, {("softplus()", PARAMETER), ("relu()", PARAMETER)}),
    "a chain": (
        Chained,
        {"softplus()": [1], "relu()": [1]},
        {("relu()", "it is fed by another activation, not by a layer")},
    ),
}


@pytest.mark.parametrize("backend", ["", "eager", "aot_eager"], ids=["uncompiled", "eager", "aot_eager"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_a_layers_is_counted_and_the_rest_is_named(case, backend, run):
    make, dead, gaps = CASES[case]
    torch.compiler.reset()
    model = make()
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        called = torch.compile(model, backend=backend, fullgraph=True) if backend else model
        for _ in range(STEPS):
            step_once(called, optimizer, torch.randn(ROWS, INPUTS))
    torch.compiler.reset()
    stored = added_up(run)
    found = {stored.info.sites[w.site].name: (w.active == 0).nonzero()[0].tolist() for w in stored.windows}
    assert found == dead
    assert {window.rows for window in stored.windows} == {STEPS * ROWS}
    assert {(gap.where, gap.reason) for gap in monitor.gaps} == gaps


def test_a_cube_of_one_layer_is_no_part_of_the_formula_of_the_next(run):
    class Cubed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(INPUTS, 5), nn.Linear(5, 3)

        def forward(self, x):
            h = self.fc(x)
            cube = torch.pow(h, 3.0)
            return 1 + torch.tanh(self.out(cube))

    with deadneuron.watch(Cubed(), None, run) as monitor:
        monitor._probe.model(torch.randn(ROWS, INPUTS))
    assert [(site.name, site.op, site.units) for site in monitor.sites] == [("tanh()", "Tanh", 3)]
    assert monitor.gaps == ()
