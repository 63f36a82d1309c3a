"""How many units are silent at the initialization, from theory: what the learning rate must not be blamed for.

Over a symmetric random initialization the pre-activations of one unit on n inputs are n Gaussians of mean zero that
all share one correlation rho (exactly so in the infinite-width limit, if all pairs of inputs are equally alike). Given
their common part g they are independent, so the share of units that are silent on all n inputs is

    D(n, rho) = integral of phi(g) · Phi((a - g·sqrt(rho)) / sqrt(1 - rho))^n dg

for a gate that opens above a standard deviations. Special cases for a = 0: rho = 0 gives 2^-n, rho = 1/2 gives
1/(n + 1), rho = 1 gives 1/2, n = 2 gives (pi - arccos rho) / 2 pi.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtr

from deadneuron.records import Floats

_FAR = 12.0  # standard deviations: what lies beyond is below 1e-32


def silent_share(examples: float, correlation: float, opens_at: float = 0.0) -> float:
    """D(n, rho): the expected share of units that are silent on n examples at a symmetric initialization.

    Args:
        examples: n ≥ 0.
        correlation: rho between two examples' pre-activations; below 0 counts as 0, above 1 as 1.
        opens_at: the gate's lower end in standard deviations of the pre-activation (0 for ReLU).
    """
    rho = min(max(correlation, 0.0), 1.0)
    if rho == 0.0:
        return math.exp(examples * float(log_ndtr(opens_at)))
    if 1.0 - rho < 1e-12:
        return float(ndtr(opens_at)) if examples > 0 else 1.0
    root, rest = math.sqrt(rho), math.sqrt(1 - rho)

    def density(g: float) -> float:
        silent = examples * float(log_ndtr((opens_at - g * root) / rest))
        return math.exp(silent - 0.5 * g * g) / math.sqrt(2 * math.pi)

    # The integrand falls off where Phi(…)^n passes one half: a narrow place for large n, told to the quadrature.
    edge = float(np.clip((opens_at - rest * _half_point(examples)) / root, -_FAR + 1e-6, _FAR - 1e-6))
    value, _ = quad(density, -_FAR, _FAR, points=[edge], limit=200, epsabs=1e-12)
    return float(value)


def _half_point(examples: float) -> float:
    """The z at which Phi(z)^n is one half."""
    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if examples * float(log_ndtr(middle)) < -math.log(2) else (low, middle)
    return (low + high) / 2


_MAD = 0.6744897501960817  # median of |z| of a standard Gaussian


def measured_correlation(mean: Floats, square: Floats, rows: int) -> float | None:
    """rho of a layer from each unit's mean and mean square over the same `rows` pre-activations, or None.

    The units are the ensemble. What two rows of a unit have in common is the unit's mean, whose variance over the units
    is rho·s²; what they do not is the variance within a unit, (1 - rho)·s². The variance of the means is taken from
    the median of their sizes: a bias that was set by hand in a third of the units must not pass for correlation. None
    where fewer than two rows or no finite, non-zero unit was seen.
    """
    known = np.isfinite(mean) & np.isfinite(square)
    if rows < 2 or not known.any() or not square[known].any():
        return None
    within = float(np.mean(np.maximum(square[known] - mean[known] ** 2, 0.0))) * rows / (rows - 1)
    between = max((float(np.median(np.abs(mean[known]))) / _MAD) ** 2 - within / rows, 0.0)
    return between / (between + within) if between + within > 0 else None


# ── known families, layer by layer ───────────────────────────────────────────────────────────────────────────────────


def he_correlation(layer: int, inputs: float = 0.0) -> float:
    """rho of hidden layer `layer` (from 1) of a bias-free ReLU net, whose inputs have that cosine.

    The arc-cosine kernel of degree 1 (Cho and Saul, 2009); the scale of the weights plays no role.
    """
    rho = inputs
    for _ in range(layer - 1):
        rho = _rectified(rho)
    return rho


def default_correlation(layer: int, *, inputs: int, width: int, cosine: float = 0.0, square: float = 1.0) -> float:
    """rho of hidden layer `layer` (from 1) of a ReLU net with PyTorch's default nn.Linear.

    Weights and biases are uniform within 1/sqrt(fan_in), of variance 1/(3·fan_in). The bias is the same for all
    examples: it drives rho to 1 with depth. `square` is the mean square of an input feature.
    """
    bias = 1 / (3 * inputs)
    q, c = square / 3 + bias, cosine * square / 3 + bias
    for _ in range(layer - 1):
        rho = c / q
        bias = 1 / (3 * width)
        q, c = q / 6 + bias, q / 6 * _rectified(rho) + bias
    return c / q


def uncentred_correlation(kappa: float) -> float:
    """rho of a first layer whose inputs are not centred: kappa = rms of the features' means / their deviation."""
    return kappa**2 / (1 + kappa**2)


def _rectified(rho: float) -> float:
    """The correlation (about zero) of max(0, z) and max(0, z') for standard Gaussians of correlation rho."""
    rho = min(max(rho, -1.0), 1.0)
    return (math.sqrt(1 - rho * rho) + rho * (math.pi - math.acos(rho))) / math.pi
