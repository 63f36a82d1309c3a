"""Every entry of the table of gates, derived again from autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deadneuron.errors import UsageError
from deadneuron.measure.gates import GATES, NO_GATE, base_of, edge_outputs, gate_of, learned_low, why_no_gate
from deadneuron.records import HISTOGRAM_EDGES

EPSILONS = (1e-6, 1e-3, 0.04, 0.15)


def per_channel(*slopes):
    module = nn.PReLU(len(slopes))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.LeakyReLU(),
    nn.LeakyReLU(0.0),
    nn.LeakyReLU(5e-4),
    nn.LeakyReLU(-0.3),
    nn.PReLU(),
    nn.PReLU(init=0.0),
    nn.PReLU(init=-0.2),
    nn.RReLU(),
    nn.RReLU(0.0, 0.0),
    nn.ELU(),
    nn.ELU(alpha=0.02),
    nn.ELU(alpha=3.0),
    nn.CELU(),
    nn.CELU(alpha=0.25),
    nn.CELU(alpha=-1.5),
    nn.SELU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Softplus(),
    nn.Softplus(beta=3.0),
    nn.Softplus(beta=-2.0),
    nn.Softplus(threshold=1.0),
    nn.Softplus(threshold=-20.0),
    nn.Softplus(beta=-2.0, threshold=-20.0),
    nn.Hardtanh(),
    nn.Hardtanh(-0.5, 2.0),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softsign(),
    nn.LogSigmoid(),
    nn.Threshold(-0.7, 5.0),
    nn.Threshold(1.5, 0.0),
]


def grid() -> torch.Tensor:
    """Fine in the middle, wide enough for Softsign, and on no activation's corner."""
    middle = (torch.arange(-60_000, 60_000, dtype=torch.float64) + 0.5) * 1e-3
    far = torch.logspace(math.log10(60), math.log10(2000), 20_001, dtype=torch.float64)
    return torch.cat([-far.flip(0), middle, far])


def derivative(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(module.double()(x).sum(), x)[0].detach()


def assert_is_hull(gate, x, is_open):
    opened = is_open.nonzero().flatten()
    first, last = int(opened[0]), int(opened[-1])
    if first == 0:
        assert gate[0] == -math.inf
    else:
        assert x[first - 1] <= gate[0] <= x[first]
    if last == len(x) - 1:
        assert gate[1] == math.inf
    else:
        assert x[last] <= gate[1] <= x[last + 1]


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("module", ACTIVATIONS, ids=repr)
def test_a_gate_is_the_hull_of_where_the_derivative_exceeds_epsilon(module, epsilon):
    x = grid()
    assert_is_hull(gate_of(module, epsilon), x, derivative(module, x).abs() > epsilon)


def test_every_class_of_the_table_is_derived_above():
    assert {type(module) for module in ACTIVATIONS} == set(GATES)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_prelus_lower_end_is_read_for_each_unit(epsilon):
    module = per_channel(0.0, 0.25, -0.5, 1e-2, 5e-4)
    low = learned_low(module, epsilon)
    x = grid()[:, None].expand(-1, 5)
    is_open = derivative(module, x).abs() > epsilon
    for unit in range(5):
        assert_is_hull((float(low[unit]), math.inf), x[:, unit], is_open[:, unit])
    assert gate_of(module, epsilon) == (-math.inf, math.inf)
    assert not low.requires_grad


def test_only_prelus_gate_is_learned():
    assert [kind for kind in ACTIVATIONS if learned_low(kind, 1e-3) is not None] == [
        module for module in ACTIVATIONS if isinstance(module, nn.PReLU)
    ]


def test_every_activation_class_of_torch_has_a_gate_or_a_reason():
    known = {kind.__name__ for kind in (*GATES, *NO_GATE)}
    torchs = set(torch.nn.modules.activation.__all__) - {"MultiheadAttention"}
    assert torchs <= known, f"new in torch: {torchs - known}"
    assert not set(GATES) & set(NO_GATE)


@pytest.mark.parametrize("module", [nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink()], ids=repr)
def test_activations_without_a_gate_are_closed_in_the_middle(module):
    x = grid()
    is_open = derivative(module, x).abs() > 1e-3
    assert is_open[0]
    assert is_open[-1]
    assert not is_open[(x.abs() < 0.01)].any()
    assert "no interval" in why_no_gate(module)


def test_the_activations_without_a_map_are_the_falling_the_learned_and_the_random():
    standard = {type(module): module for module in reversed(ACTIVATIONS)}
    falling = {kind for kind, module in standard.items() if (derivative(module, grid()) < -1e-9).any()}
    without = {kind for kind, module in standard.items() if edge_outputs(module) is None}
    without.discard(nn.Threshold)  # falls by a jump, where its value lies above its threshold
    assert without == falling | {nn.PReLU, nn.RReLU}


@pytest.mark.parametrize("module", [m for m in ACTIVATIONS if edge_outputs(m) is not None], ids=repr)
def test_the_edges_are_mapped_as_the_module_maps_them(module):
    edges = torch.tensor(HISTOGRAM_EDGES, dtype=torch.float64)
    assert list(edge_outputs(module)) == module(edges.clone()).tolist()


def test_a_threshold_that_jumps_down_has_no_map():
    assert edge_outputs(nn.Threshold(0.0, 7.0)) is None


def test_a_subclass_counts_as_its_base_while_it_keeps_the_forward():
    class Plain(nn.ReLU6):
        pass

    assert base_of(Plain()) is nn.ReLU6
    assert gate_of(Plain(), 1e-3) == (0.0, 6.0)
    assert why_no_gate(Plain()) is None


def test_a_subclass_with_a_forward_of_its_own_has_a_reason_instead_of_a_gate():
    class Shifted(nn.ReLU):
        def forward(self, x):
            return super().forward(x - 3)

    assert base_of(Shifted()) is None
    assert "Shifted overrides forward" in why_no_gate(Shifted())
    with pytest.raises(KeyError):
        gate_of(Shifted(), 1e-3)


def test_a_layer_that_is_no_activation_has_neither_gate_nor_reason():
    assert base_of(nn.Linear(2, 3)) is None
    assert why_no_gate(nn.Linear(2, 3)) is None


def test_an_epsilon_above_hardsigmoids_slope_is_an_error_and_no_empty_gate():
    with pytest.raises(UsageError, match="Hardsigmoid"):
        gate_of(nn.Hardsigmoid(), 0.2)
