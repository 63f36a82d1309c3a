"""The table of functional activations: which torch calls apply one, and which module of the gates' table each equals.

A reader has the signature of the function that it reads, so that Python itself sorts out positional, keyword and
default arguments. It returns (pre-activation, kind, parameters, tensor parameter), or None if this call is no
activation: `clamp(min=0)` is one, `clamp(-1, 1)` is not. Readers are traced by torch.compile, so they are plain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from deadneuron.measure.gates import INF

Applied = tuple[Tensor, str, tuple[float, ...], Tensor | None]
Reader = Callable[..., Applied | None]


class Swish(nn.Module):
    """x · sigmoid(beta · x): SiLU for beta = 1, "quick GELU" for beta = 1.702."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


def _prelu(weight: Tensor) -> nn.PReLU:
    module = nn.PReLU(weight.numel())
    # The user's own parameter, so that what it has learned is read at each drain.
    module.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight.detach(), requires_grad=False)
    return module


MODULES: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "prelu": _prelu,
    "rrelu": nn.RReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": lambda tanh: nn.GELU("tanh" if tanh else "none"),
    "silu": nn.SiLU,
    "swish": Swish,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "hardtanh": nn.Hardtanh,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softsign": nn.Softsign,
    "logsigmoid": nn.LogSigmoid,
    "threshold": nn.Threshold,
}

# Activations in name, without a gate that is an interval.
NO_INTERVAL: dict[Any, str] = {
    F.hardshrink: "hardshrink",
    torch.hardshrink: "hardshrink",
    Tensor.hardshrink: "hardshrink",
    F.softshrink: "softshrink",
    F.tanhshrink: "tanhshrink",
    F.glu: "glu",
}


def _plain(kind: str) -> Reader:
    def read(input: Tensor, inplace: bool = False) -> Applied:
        return input, kind, (), None

    return read


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Applied:
    return input, "leaky_relu", (float(negative_slope),), None


def _rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    generator: Any = None,
) -> Applied:
    return input, "rrelu", (float(lower), float(upper)), None


def _elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Applied:
    return input, "elu", (float(alpha),), None


def _celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Applied:
    return input, "celu", (float(alpha),), None


def _read_prelu(input: Tensor, weight: Tensor) -> Applied:
    return input, "prelu", (), weight


def _gelu(input: Tensor, *, approximate: str = "none") -> Applied:
    return input, "gelu", (1.0 if approximate == "tanh" else 0.0,), None


def _softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Applied:
    return input, "softplus", (float(beta), float(threshold)), None


def _hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Applied:
    return input, "hardtanh", (float(min_val), float(max_val)), None


def _threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Applied:
    return input, "threshold", (float(threshold), float(value)), None


def _clamp(input: Tensor, min: Any = None, max: Any = None, *, out: Any = None) -> Applied | None:
    if isinstance(min, (int, float)) and min == 0 and (max is None or isinstance(max, (int, float))):
        return (input, "relu", (), None) if max is None or max == INF else (input, "hardtanh", (0.0, float(max)), None)
    return _maximum(input, min) if isinstance(min, Tensor) and max is None else None


def _clamp_min(input: Tensor, min: Any, *, out: Any = None) -> Applied | None:
    return _clamp(input, min)


def _maximum(input: Tensor, other: Any, *, out: Any = None) -> Applied | None:
    """A ReLU if the other tensor is zero, which its values tell later; it may be the first of the two."""
    if not isinstance(other, Tensor):
        return None
    if input.dim() == 0 or (other.requires_grad and not input.requires_grad):
        input, other = other, input
    return None if other.requires_grad else (input, "relu", (), other)


def _max(input: Tensor, *rest: Any, **names: Any) -> Applied | None:
    return _maximum(input, rest[0]) if len(rest) == 1 and isinstance(rest[0], Tensor) and not names else None


_SPELLINGS: dict[Reader, tuple[Any, ...]] = {
    _plain("relu"): (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_),
    _plain("relu6"): (F.relu6,),
    _leaky_relu: (F.leaky_relu, F.leaky_relu_),
    _read_prelu: (F.prelu, torch.prelu, Tensor.prelu),
    _rrelu: (F.rrelu, torch.rrelu, F.rrelu_),
    _elu: (F.elu, F.elu_),
    _celu: (F.celu, torch.celu, torch.celu_),
    _plain("selu"): (F.selu, torch.selu, torch.selu_),
    _gelu: (F.gelu,),
    _plain("silu"): (F.silu,),
    _plain("mish"): (F.mish,),
    _softplus: (F.softplus,),
    _hardtanh: (F.hardtanh, F.hardtanh_),
    _plain("hardswish"): (F.hardswish,),
    _plain("hardsigmoid"): (F.hardsigmoid,),
    _plain("sigmoid"): (torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid, torch.special.expit),
    _plain("tanh"): (torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, F.tanh),
    _plain("erf"): (torch.erf, Tensor.erf),
    _plain("softsign"): (F.softsign,),
    _plain("logsigmoid"): (F.logsigmoid,),
    _threshold: (F.threshold, torch.threshold, torch.threshold_),
    _clamp: (
        torch.clamp,
        torch.clamp_,
        Tensor.clamp,
        Tensor.clamp_,
        torch.clip,
        torch.clip_,
        Tensor.clip,
        Tensor.clip_,
    ),
    _clamp_min: (torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_),
    _maximum: (torch.maximum, Tensor.maximum, torch.fmax, Tensor.fmax),
    _max: (torch.max, Tensor.max),
}

READERS: dict[Any, Reader] = {function: read for read, functions in _SPELLINGS.items() for function in functions}

# Part of a formula as often as they are a layer's activation: `measure.formulas` decides.
UNSURE = ("sigmoid", "tanh", "erf")
