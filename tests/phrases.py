"""Ways to write an activation, and what each is for the oracle and for deadneuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

GELU_SCALE = 0.7978845608028654


@dataclass(frozen=True)
class Spelling:
    """One way to write an activation."""

    op: str  # as the oracle calls it
    apply: Callable[[Tensor], Tensor] | None = None
    module: Callable[[], nn.Module] | None = None
    name: str = ""  # as deadneuron calls the function
    unsure: bool = False  # it could be a part of a formula
    leaks: bool = False  # its gate has no lower end: no unit of it dies
    bend: Callable[[float], float] = lambda end: end  # from an end of the gate to where the oracle hears it
    eager: bool = False  # no more than a gap in compiled code


def gelu_by_hand(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(GELU_SCALE * (x + 0.044715 * torch.pow(x, 3))))


def _in_gelu(end: float) -> float:
    return GELU_SCALE * (end + 0.044715 * end**3)


def _function(op: str, apply: Callable[[Tensor], Tensor], name: str = "", **traits: Any) -> Spelling:
    return Spelling(op, apply, name=name or op, **traits)


SPELLINGS: dict[str, Spelling] = {
    "nn.ReLU": Spelling("relu", module=nn.ReLU),
    "F.relu": _function("relu", F.relu),
    "torch.relu": _function("relu", torch.relu),
    "relu()": _function("relu", lambda x: x.relu()),
    "relu_()": _function("relu", lambda x: x.relu_()),
    "F.relu in place": _function("relu", lambda x: F.relu(x, inplace=True)),
    "clamp(min=0)": _function("relu", lambda x: x.clamp(min=0)),
    "torch.clamp_": _function("relu", lambda x: torch.clamp_(x, 0)),
    "clamp_min": _function("relu", lambda x: x.clamp_min(0)),
    "maximum": _function("relu", lambda x: torch.maximum(x, torch.zeros_like(x))),
    "max": _function("relu", lambda x: torch.max(torch.zeros((), dtype=x.dtype), x)),
    "fresh nn.ReLU": _function("relu", lambda x: nn.ReLU()(x)),
    "nn.ReLU in place": Spelling("relu", module=lambda: nn.ReLU(inplace=True)),
    "nn.PReLU": Spelling("prelu", module=nn.PReLU, leaks=True),
    "nn.RReLU": Spelling("rrelu", module=nn.RReLU, leaks=True),
    "nn.LeakyReLU in place": Spelling("leaky_relu", module=lambda: nn.LeakyReLU(0.2, inplace=True), leaks=True),
    "F.leaky_relu": _function("leaky_relu", F.leaky_relu, leaks=True),
    "F.leaky_relu_": _function("leaky_relu", lambda x: F.leaky_relu_(x, 0.2), leaks=True),
    "nn.GELU": Spelling("gelu", module=nn.GELU),
    "F.gelu": _function("gelu", F.gelu),
    "F.gelu tanh": _function("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), "gelu"),
    "fresh nn.GELU": _function("gelu", lambda x: nn.GELU()(x)),
    "gelu by hand": _function("tanh", gelu_by_hand, "gelu", bend=_in_gelu, eager=True),
    "nn.SiLU in place": Spelling("silu", module=lambda: nn.SiLU(inplace=True)),
    "F.silu": _function("silu", F.silu),
    "x * sigmoid(x)": _function("sigmoid", lambda x: x * torch.sigmoid(x), "swish", eager=True),
    "sigmoid(x) * x": _function("sigmoid", lambda x: x.sigmoid() * x, "swish", eager=True),
    "quick gelu": _function(
        "sigmoid", lambda x: x * torch.sigmoid(1.702 * x), "swish", bend=lambda end: 1.702 * end, eager=True
    ),
    "F.elu": _function("elu", F.elu),
    "nn.ELU in place": Spelling("elu", module=lambda: nn.ELU(inplace=True)),
    "torch.celu": _function("celu", torch.celu),
    "F.selu": _function("selu", F.selu),
    "F.mish": _function("mish", F.mish),
    "F.softplus": _function("softplus", F.softplus),
    "nn.Softplus": Spelling("softplus", module=nn.Softplus),
    "F.relu6": _function("relu6", F.relu6),
    "clamp(0, 1)": _function("hardtanh", lambda x: x.clamp(0, 1)),
    "nn.Hardtanh": Spelling("hardtanh", module=nn.Hardtanh),
    "F.hardswish in place": _function("hardswish", lambda x: F.hardswish(x, inplace=True)),
    "F.hardsigmoid": _function("hardsigmoid", F.hardsigmoid),
    "F.threshold": _function("threshold", lambda x: F.threshold(x, 0.1, 0.0)),
    "F.logsigmoid": _function("log_sigmoid", F.logsigmoid, "logsigmoid", leaks=True),
    "nn.Tanh": Spelling("tanh", module=nn.Tanh),
    "torch.tanh": _function("tanh", torch.tanh, unsure=True, eager=True),
    "tanh_()": _function("tanh", lambda x: x.tanh_(), eager=True),
    "sigmoid()": _function("sigmoid", lambda x: x.sigmoid(), unsure=True, eager=True),
    "fresh nn.Sigmoid": _function("sigmoid", lambda x: nn.Sigmoid()(x), unsure=True, eager=True),
}
