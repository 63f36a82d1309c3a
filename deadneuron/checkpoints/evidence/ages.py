"""How long ago the last gradient came, from what two running averages have kept of it.

Let m = (1-a) Σ a^j g_j and v = (1-b) Σ b^j g_j² be Adam's averages of an entry (j = 0 is the newest gradient) and let
the last k gradients be 0. By Cauchy-Schwarz, for a² < b,

    m² = (1-a)² (Σ (a/√b)^j · √b^j g_j)² ≤ (1-a)² Σ_{j≥k} (a²/b)^j · Σ b^j g_j² = v · C q^k,
    q = a²/b,  C = (1-a)² / ((1-b)(1-q)),

and so for any set of entries whose last k gradients are all 0: r = Σm² / Σv ≤ C q^k, k ≤ ln(C/r) / ln(1/q). It is a
theorem and no estimate: whatever the gradients were, the last one came no longer ago than that. Bias correction, the
terms of NAdam and RAdam, AMSGrad's maximum and decoupled decay do not touch m and v. With coupled L2 the decay is a
gradient itself, and nothing is proved. Adamax keeps u = max(b u, |g|): there |m| ≤ u (1-a)/(1-a/b) (a/b)^k, which is
the same with v = u², q = (a/b)² and C = ((1-a)/(1-a/b))².
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadneuron.checkpoints.evidence.owners import Owner
from deadneuron.records import Floats

ROUNDING = 1e-4  # relative, of r: averages in float32 are good to about 1e-6 of the largest terms in them


@dataclass(frozen=True, slots=True)
class Decay:
    """How r = Σm²/Σv falls in steps without a gradient."""

    beta: float  # the factor of m a step
    ratio: float  # q, the factor of r a step: in (0, 1)
    ceiling: float  # C: no row ever has a larger r
    typical: float  # r of a row that gets independent gradients of mean 0 at every step
    first: str  # the state's key of m
    second: str  # of v, or of u
    squared: bool  # the second is u, and v = u²


def decay_of(owner: Owner) -> Decay | None:
    """None where the state keeps no such pair, or where m does not fall faster than √v."""
    if owner.betas is None:
        return None
    a, b = owner.betas
    if not 0 < a < 1 or not 0 < b < 1:
        return None
    if {"exp_avg", "exp_avg_sq"} <= owner.moments.keys():
        q = a * a / b
        if q >= 1:
            return None
        ceiling = (1 - a) ** 2 / ((1 - b) * (1 - q))
        return Decay(a, q, ceiling, (1 - a) / (1 + a), "exp_avg", "exp_avg_sq", False)
    if {"exp_avg", "exp_inf"} <= owner.moments.keys():
        q = (a / b) ** 2
        if q >= 1:
            return None
        ceiling = ((1 - a) / (1 - a / b)) ** 2
        return Decay(a, q, ceiling, (1 - a) / (1 + a) / 10, "exp_avg", "exp_inf", True)  # u² is about 10 mean squares
    return None


def most(decay: Decay, ratio: Floats) -> Floats:
    """Steps that can have passed since the last gradient at most; inf where the ratio r is 0 or NaN. Shape as given."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(decay.ceiling / (ratio * (1 - ROUNDING))) / math.log(1 / decay.ratio)
    return np.where(np.isnan(steps), np.inf, np.maximum(steps, 0.0))


def estimate(decay: Decay, ratio: Floats, typical: float, step: int | None = None) -> Floats:
    """Estimated steps since the last gradient of rows whose r was `typical` while they had some; inf where r is 0.

    step: updates that the state has seen. While v still grows to its size, r is larger than it is later, by the factor
    (1 - a^2n) / (1 - b^n) after n updates with independent gradients (that of m², over that of v); a row that stopped
    early keeps it.
    """
    rate = math.log(1 / decay.ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(typical / ratio) / rate
        if step is not None and not decay.squared:
            plain = steps
            for _ in range(_ROUNDS):
                stopped = np.clip(step - steps, 1, step)
                steps = plain + np.log(_early(decay, stopped) / _early(decay, np.float64(step))) / rate
    return np.maximum(steps, 0.0)


_ROUNDS = 4  # of a fixed point whose slope is below 1/10


def _early(decay: Decay, updates: Any) -> Any:
    slow = decay.beta**2 / decay.ratio  # b
    return (1 - decay.beta ** (2 * updates)) / (1 - slow**updates)


def saturation(beta: float, size: float, smallest: float) -> float:
    """Steps after which an average of that size, multiplied by beta a step, is below the smallest normal number."""
    return math.log(size / smallest) / math.log(1 / beta) if size > smallest else 0.0
