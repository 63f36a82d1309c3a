"""The table of gates: for each activation module, the interval of pre-activations that lets a gradient through.

The gate is the convex hull of {x : |f'(x)| > epsilon}. One table makes every activation measurable in the same words:
a unit is active on a row whose pre-activation lies inside the open interval. The size of the derivative counts, not its
sign: GELU's derivative is negative left of about -0.75 and carries gradient there.

`tests/measure/test_gates.py` derives every entry again from autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from deadneuron.errors import UsageError
from deadneuron.records import HISTOGRAM_EDGES

Gate = tuple[float, float]
INF = math.inf
EVERYTHING: Gate = (-INF, INF)
POSITIVE: Gate = (0.0, INF)


def _leaky(slope: float, epsilon: float) -> Gate:
    return EVERYTHING if abs(slope) > epsilon else POSITIVE


def _exponential(scale: float, decay: float, epsilon: float) -> Gate:
    # f'(x) = scale · exp(x / decay) left of 0, and at least 1 right of it
    return (decay * math.log(epsilon / abs(scale)), INF) if abs(scale) > epsilon else POSITIVE


def _celu(m: nn.CELU, epsilon: float) -> Gate:
    # f' = exp(x / alpha) left of 0, which is above 1 where alpha is negative
    return _exponential(1.0, m.alpha, epsilon) if m.alpha > 0 else EVERYTHING


def _hardsigmoid(m: nn.Hardsigmoid, epsilon: float) -> Gate:
    if epsilon >= 1 / 6:
        todo = "choose an epsilon below 1/6, or leave it out with exclude="
        raise UsageError("no derivative of Hardsigmoid exceeds this epsilon", where=f"epsilon {epsilon}", todo=todo)
    return (-3.0, 3.0)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _leftmost(derivative: Callable[[float], float], minimum: float, epsilon: float) -> Gate:
    # GELU, SiLU and Mish: f' falls once from 0 at -∞ to its minimum, rises from there to above 1, and is 1 at +∞.
    # So |f'| first exceeds epsilon left of the minimum; where the bump there is lower than epsilon, right of it.
    if -derivative(minimum) > epsilon:
        return (float(brentq(lambda x: -derivative(x) - epsilon, -60.0, minimum, xtol=1e-12)), INF)
    return (float(brentq(lambda x: derivative(x) - epsilon, minimum, 1.0, xtol=1e-12)), INF)


_GELU_MINIMUM, _GELU_TANH_MINIMUM, _SILU_MINIMUM, _MISH_MINIMUM = -1.41421, -1.4185, -2.39936, -2.25638  # of f'


def _gelu(x: float) -> float:
    density = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return 0.5 * math.erfc(-x / math.sqrt(2)) + x * density


def _gelu_tanh(x: float) -> float:
    c = math.sqrt(2 / math.pi)
    inner = c * (x + 0.044715 * x**3)
    # 1 - tanh² as sech²: 1 + tanh and 1 - tanh² cancel to nothing far left
    tail = 2 / (1 + math.exp(min(-2 * inner, 700.0)))
    sech2 = 1 / math.cosh(min(abs(inner), 350.0)) ** 2
    return 0.5 * tail + 0.5 * x * sech2 * c * (1 + 3 * 0.044715 * x * x)


def _silu(x: float) -> float:
    s = 1 / (1 + math.exp(-x))
    return s * (1 + x * (1 - s))


def _mish(x: float) -> float:
    s = 1 / (1 + math.exp(-x))
    t = math.tanh(math.log1p(math.exp(x)))
    return t + x * s * (1 - t * t)


def _softplus(m: nn.Softplus, epsilon: float) -> Gate:
    # f' = sigmoid(beta·x), and exactly 1 where beta·x is above the threshold; negative betas turn it round
    edge = min(_logit(epsilon), m.threshold) / m.beta
    return (edge, INF) if m.beta > 0 else (-INF, edge)


GATES: dict[type[nn.Module], Callable[[Any, float], Gate]] = {
    nn.ReLU: lambda m, eps: POSITIVE,
    nn.ReLU6: lambda m, eps: (0.0, 6.0),
    nn.LeakyReLU: lambda m, eps: _leaky(m.negative_slope, eps),
    # PReLU's slopes are learned: `learned_low` reads them again at each drain; this is the hull over its units.
    nn.PReLU: lambda m, eps: _leaky(float(m.weight.detach().abs().max()), eps),
    # In training a slope is drawn from [lower, upper] for each element; the hull counts what may be drawn.
    nn.RReLU: lambda m, eps: _leaky(max(abs(m.lower), abs(m.upper)), eps),
    nn.ELU: lambda m, eps: _exponential(m.alpha, 1.0, eps),
    nn.CELU: _celu,
    nn.SELU: lambda m, eps: _exponential(1.0507009873554805 * 1.6732632423543772, 1.0, eps),
    nn.GELU: lambda m, eps: (
        _leftmost(_gelu, _GELU_MINIMUM, eps)
        if m.approximate == "none"
        else _leftmost(_gelu_tanh, _GELU_TANH_MINIMUM, eps)
    ),
    nn.SiLU: lambda m, eps: _leftmost(_silu, _SILU_MINIMUM, eps),
    nn.Mish: lambda m, eps: _leftmost(_mish, _MISH_MINIMUM, eps),
    nn.Softplus: _softplus,
    nn.Hardtanh: lambda m, eps: (m.min_val, m.max_val),
    nn.Hardswish: lambda m, eps: (-3.0, INF),  # f' = (2x + 3)/6 inside (-3, 3): zero only at -1.5
    nn.Hardsigmoid: _hardsigmoid,
    nn.Sigmoid: lambda m, eps: (_logit(_sigmoid_edge(eps)), -_logit(_sigmoid_edge(eps))),
    nn.Tanh: lambda m, eps: (-math.atanh(math.sqrt(1 - eps)), math.atanh(math.sqrt(1 - eps))),
    nn.Softsign: lambda m, eps: (1 - 1 / math.sqrt(eps), 1 / math.sqrt(eps) - 1),
    nn.LogSigmoid: lambda m, eps: (-INF, -_logit(eps)),  # f' = sigmoid(-x)
    nn.Threshold: lambda m, eps: (float(m.threshold), INF),
}

NO_GATE: dict[type[nn.Module], str] = {
    nn.Hardshrink: "its open set is two half-lines, no interval",
    nn.Softshrink: "its open set is two half-lines, no interval",
    nn.Tanhshrink: "its derivative vanishes at zero, so its open set is no interval",
    nn.GLU: "it multiplies pairs of units",
    nn.Softmax: "it mixes units",
    nn.Softmax2d: "it mixes units",
    nn.Softmin: "it mixes units",
    nn.LogSoftmax: "it mixes units",
}

_NO_MAP = (nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.PReLU, nn.RReLU)  # not monotone, learned, random


def _sigmoid_edge(epsilon: float) -> float:
    # the smaller root p of p·(1 - p) = epsilon, written so that it does not cancel
    return 2 * epsilon / (1 + math.sqrt(1 - 4 * epsilon))


def base_of(module: nn.Module) -> type[nn.Module] | None:
    """The table's class that this module is, or None if it is no activation of the two tables.

    A subclass counts as its base only while it has the base's forward: with another one its gate is unknown.
    """
    for kind in (*GATES, *NO_GATE):
        if type(module) is kind:
            return kind
    for kind in (*GATES, *NO_GATE):
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return kind
    return None


def why_no_gate(module: nn.Module) -> str | None:
    """Why an activation module cannot be measured, or None if it can be or is no activation."""
    base = base_of(module)
    if base is not None:
        return NO_GATE.get(base)
    if isinstance(module, tuple(GATES)):
        return f"{type(module).__name__} overrides forward, so its gate is unknown"
    return None


def gate_of(module: nn.Module, epsilon: float) -> Gate:
    """The open interval (low, high) of pre-activations where |f'| > epsilon; its ends may be infinite."""
    base = base_of(module)
    if base is None or base not in GATES:
        raise KeyError(type(module).__name__)
    low, high = GATES[base](module, epsilon)
    return float(low), float(high)


def edge_outputs(module: nn.Module) -> tuple[float, ...] | None:
    """What the activation makes of HISTOGRAM_EDGES, which turns the histogram of its input into that of its output.

    None where it does not: the activation is not monotone, random or learned.
    """
    base = base_of(module)
    if base is None or base in _NO_MAP:
        return None
    with torch.no_grad(), torch.inference_mode(False):
        edges = torch.tensor(HISTOGRAM_EDGES, dtype=torch.float64, device="cpu")
        values = base.forward(module, edges)  # not the module itself: that would call its hooks
    outputs = values.tolist()
    return tuple(outputs) if all(a <= b for a, b in pairwise(outputs)) else None


def learned_low(module: nn.Module, epsilon: float) -> Tensor | None:
    """The gate's lower end per unit where it is learned (PReLU), as a tensor on the module's device, without a sync.

    Shape [units] or [1]; -inf where the slope's size exceeds epsilon, else 0. None for all other modules.
    """
    if base_of(module) is not nn.PReLU:
        return None
    assert isinstance(module, nn.PReLU)
    slope = module.weight.detach()
    return torch.where(slope.abs() > epsilon, -INF, 0.0).to(slope.dtype)
