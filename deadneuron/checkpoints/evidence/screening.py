"""Closed forms of what steps without a gradient make of a row: rows that are far from it had one, and are not stepped.

Only what is cheap and sure is asked: an average of squares is multiplied by beta2^K, a sum stays, a momentum buffer is
multiplied by mu^K, and SGD with decay is a linear map of (weight, buffer), one 2 × 2 matrix a step. All is allowed a
slack, so that rounding never rules a row out: what remains is stepped by the optimizer itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.evidence.plans import Plan
from deadneuron.records import Floats

_NUMBER = torch.float32, torch.float64  # what decays as its closed form; half-precision averages get stuck

Screen = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""(earlier, later) tensors by key, "weight" the weights → [rows, values] whether an entry may have had no gradient."""


def screen_of(plan: Plan, slack: float) -> tuple[tuple[str, ...], Screen] | None:
    """The keys to read ("weight" for the weights) and the test; None where there is no closed form."""
    if len(plan.kinds) > 1 or any(one.dtype not in _NUMBER for one in (plan.weights[0], *plan.states[1].values())):
        return None
    dtype = next(iter(plan.states[1].values()), plan.weights[0]).dtype
    slack += plan.updates * torch.finfo(dtype).eps  # each step rounds once
    if plan.kinds[0] == "SGD" and plan.rates is not None and (plan.coupled or plan.keys):
        return _linear(plan, slack)
    if plan.coupled or not plan.states[0]:
        return None
    factors = {key: factor for key in plan.keys if (factor := _factor(plan, key, dtype)) is not None}
    return (tuple(factors), _decaying(factors, slack)) if factors else None


def _factor(plan: Plan, key: str, dtype: torch.dtype) -> float | None:
    settings, kind = plan.settings, plan.kinds[0]
    if key == "exp_avg_sq":
        base = settings["betas"][1]
    elif key == "square_avg":
        base = settings["alpha" if kind == "RMSprop" else "rho"]
    elif key == "sum":
        base = 1.0
    elif key == "momentum_buffer" and kind in ("SGD", "RMSprop") and plan.momenta is None:
        base = settings["momentum"]
    else:
        return None
    return float(torch.tensor(base, dtype=dtype)) ** plan.updates  # the kernels round the factor, too


def _decaying(factors: Mapping[str, float], slack: float) -> Screen:
    def screen(earlier: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> Tensor:
        fits: Tensor | None = None
        for key, factor in factors.items():
            expected = earlier[key] * factor
            floor = 256 * torch.finfo(expected.dtype).tiny  # near the denormals the factor no longer holds
            near = (later[key] - expected).abs() <= expected.abs() * slack + floor
            fits = near if fits is None else fits & near
        assert fits is not None
        return fits

    return screen


def _linear(plan: Plan, slack: float) -> tuple[tuple[str, ...], Screen]:
    """SGD: (w, b) after all steps is one matrix times (w, b) before."""
    matrix = sgd_matrix(plan)
    buffered = "momentum_buffer" in plan.keys
    begun = bool(plan.states[0])

    def screen(earlier: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> Tensor:
        w = earlier["weight"].double()
        b = earlier["momentum_buffer"].double() if buffered and begun else torch.zeros_like(w)
        fits = _near(later["weight"], matrix[0, 0] * w, matrix[0, 1] * b, slack)
        if buffered:
            fits &= _near(later["momentum_buffer"], matrix[1, 0] * w, matrix[1, 1] * b, slack)
        return fits

    return ("weight", "momentum_buffer") if buffered else ("weight",), screen


def _near(seen: Tensor, first: Tensor, second: Tensor, slack: float) -> Tensor:
    floor = 256 * torch.finfo(seen.dtype).tiny
    near: Tensor = (seen.double() - (first + second)).abs() <= slack * (first.abs() + second.abs()) + floor
    return near


def sgd_matrix(plan: Plan) -> Floats:
    """[2, 2] in float64: what all updates of SGD without gradients make of (weight, momentum buffer).

    With g = decay · w: b ← mu b + (1 - dampening) g, w ← w - lr b, or w - lr (g + mu b) with Nesterov's momentum; the
    first buffer of all is g itself (torch.optim.SGD).
    """
    settings = plan.settings
    decay = float(settings.get("weight_decay", 0.0))
    damped = 1 - float(settings.get("dampening", 0.0))
    product = np.eye(2)
    fresh = not plan.states[0]
    for update in range(plan.updates):
        rate = 0.0 if plan.rates is None else float(plan.rates[update])
        mu = float(settings.get("momentum", 0.0)) if plan.momenta is None else float(plan.momenta[update])
        if not plan.keys:
            step = np.array([[1 - rate * decay, 0.0], [0.0, 0.0]])
        else:
            buffer = np.array([decay, 0.0]) if fresh else np.array([damped * decay, mu])
            gradient = np.array([decay, 0.0]) + mu * buffer if settings.get("nesterov") else buffer
            step = np.array([np.array([1.0, 0.0]) - rate * gradient, buffer])
        product = step @ product
        fresh = False
    return product
