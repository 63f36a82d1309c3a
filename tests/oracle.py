"""Every activation that PyTorch computes in a forward pass, seen below autograd: an oracle that shares no mechanism
with deadneuron.

It listens to ATen's operators, so it does not care whether a module, a function, a method, a scripted function or a
custom autograd Function asked for them. What runs while gradients are computed, recomputation for gradient
checkpointing included, is left out.

Two ways of seeing too little: kernels that hold an activation inside (`Oracle.opaque` lists them), and formulas that
PyTorch has no operator for: x·sigmoid(1.7x) arrives as a sigmoid of 1.7x, softsign and torch.where not at all.
"""

from __future__ import annotations

import linecache
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

INF = math.inf
SELU_SCALE = 1.0507009873554805


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One activation, applied once. `x` is what went into it, copied before it ran."""

    op: str  # what it computes: "relu", "relu6", "selu" …, whichever operator it arrived as
    module: str  # dotted path of the innermost module whose forward was running; "" is the model itself
    x: Tensor
    order: int
    aten: str  # the operator: "clamp_min_.default"
    kind: str  # class of that module
    line: str  # the innermost line of Python outside torch
    pass_number: int  # which call of an outermost module it belongs to


@dataclass(frozen=True, slots=True)
class Opaque:
    """A kernel that computes activations inside, where nobody sees what goes into them."""

    aten: str
    module: str
    line: str


def _named(name: str) -> Callable[..., tuple[str, Tensor] | None]:
    return lambda x, *args, **kwargs: (name, x)


def _clamp_name(low: float | None, high: float | None) -> str | None:
    """A clamp is an activation if its lower end is zero."""
    if low is None or low != 0:
        return None
    return "relu" if high in (None, INF) else "relu6" if high == 6 else "hardtanh"


def _clamp(x: Tensor, low=None, high=None, *, min=None, max=None) -> tuple[str, Tensor] | None:
    low, high = (min if low is None else low), (max if high is None else high)
    if isinstance(low, Tensor):
        low = 0.0 if _is_zero(low) else None
    if isinstance(high, Tensor):
        high = high.item() if high.numel() == 1 else math.nan
    name = _clamp_name(low, high)
    return name and (name, x)


def _maximum(x: Tensor, other: Tensor) -> tuple[str, Tensor] | None:
    """Of two operands the one that is zero all over is the constant: where both are, the one that needs no gradient."""
    zeros = [t for t in (other, x) if _is_zero(t)]
    if not zeros:
        return None
    constant = min(zeros, key=lambda t: (t.requires_grad, t.numel()))
    return "relu", x if constant is other else other


def _is_zero(t: Tensor) -> bool:
    return t.is_floating_point() and not bool(t.any())


def _hardtanh(x: Tensor, low: float = -1.0, high: float = 1.0) -> tuple[str, Tensor]:
    return _clamp_name(low, high) or "hardtanh", x


def _elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> tuple[str, Tensor]:
    return "selu" if math.isclose(scale, SELU_SCALE) else "elu", x


def _gelu(x: Tensor, *, approximate: str = "none") -> tuple[str, Tensor]:
    return "gelu" if approximate == "none" else "gelu_tanh", x


# By ATen's name without the overload and without the underscore of the in-place twin. As measured: F.relu6 is hardtanh,
# F.selu is elu with a scale, F.prelu is _prelu_kernel, F.rrelu is rrelu_with_noise also outside training, torch.max of
# two tensors is maximum, clip is clamp; celu stays celu.
ACTIVATIONS: dict[str, Callable[..., tuple[str, Tensor] | None]] = {
    **{name: _named(name) for name in ("relu", "leaky_relu", "celu", "silu", "mish", "softplus", "threshold")},
    **{name: _named(name) for name in ("hardswish", "hardsigmoid", "sigmoid", "tanh")},
    "_prelu_kernel": _named("prelu"),
    "rrelu_with_noise": _named("rrelu"),
    "log_sigmoid_forward": _named("log_sigmoid"),
    "erf": _named("erf"),  # half of a GELU that is written out
    "elu": _elu,
    "gelu": _gelu,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "maximum": _maximum,
    "fmax": _maximum,
}

OPAQUE = {
    *("_transformer_encoder_layer_fwd", "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"),
    *("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "quantized_lstm", "quantized_gru", "glu"),
}


class _Ear(TorchDispatchMode):
    """Hears every operator before it runs."""

    def __init__(self, hear: Callable[[Any, tuple, dict], None]):
        super().__init__()
        self._hear = hear

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # Without autograd above it, an operator that is made of others arrives whole.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if torch._C._current_graph_task_id() == -1:
            self._hear(func, args, kwargs)
        return func(*args, **kwargs)


class Oracle:
    """`with Oracle(model) as oracle: …`, then `oracle.calls`."""

    def __init__(self, model: nn.Module):
        self.calls: list[Call] = []
        self.opaque: list[Opaque] = []
        self._names = {id(module): name for name, module in model.named_modules()}
        self._running: list[nn.Module] = []
        self._passes = 0
        self._handles: list[Any] = []
        self._ear = _Ear(self._look)

    def __enter__(self) -> Oracle:
        # Hooks on the model itself would turn off the fast path of nn.TransformerEncoderLayer.
        self._handles = [
            register_module_forward_pre_hook(lambda module, args: self._enter(module)),
            register_module_forward_hook(lambda module, args, output: self._leave(module), always_call=True),
        ]
        self._ear.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._ear.__exit__(*exception)
        for handle in self._handles:
            handle.remove()

    def _look(self, func, args, kwargs) -> None:
        name, overload = func._schema.name.partition("::")[2], func._overloadname
        read = ACTIVATIONS.get(name) or ACTIVATIONS.get(name.removesuffix("_"))
        if name in OPAQUE:
            self.opaque.append(Opaque(f"{name}.{overload}", self._place()[0], line_outside_torch()))
        if read is None or overload not in ("default", "Tensor") or not args[0].is_floating_point():
            return
        found = read(*args, **kwargs)
        if found is None:
            return
        op, x = found
        path, kind = self._place()
        aten = f"{name}.{overload}"
        copy = x.detach().clone()
        self.calls.append(Call(op, path, copy, len(self.calls), aten, kind, line_outside_torch(), self._passes))

    def _place(self) -> tuple[str, str]:
        if not self._running:
            return "", ""
        module = self._running[-1]
        kind = type(module).__name__
        return self._names.get(id(module), f"<{kind}>"), kind

    def _enter(self, module: nn.Module) -> None:
        self._passes += not self._running
        self._running.append(module)

    def _leave(self, module: nn.Module) -> None:
        while self._running and self._running.pop() is not module:
            pass


def counts(call: Call, axis: int, gate: tuple[float, float]) -> list[int]:
    """For each unit the number of rows inside the gate. NaN is inside; so is an infinity where the gate has no end."""
    values = np.moveaxis(call.x.double().numpy(), axis, 0)
    rows = values.reshape(len(values), -1)
    low, high = gate
    outside = np.zeros(rows.shape, dtype=bool)
    if low != -INF:
        outside |= rows <= low
    if high != INF:
        outside |= rows >= high
    return (~outside).sum(axis=1).tolist()


TORCH = os.path.dirname(torch.__file__) + os.sep


def line_outside_torch() -> str:
    """The innermost line of Python that is neither torch's nor this file's: "models/opt/modeling_opt.py:203: code"."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(TORCH)):
        frame = frame.f_back
    if frame is None:
        return ""
    path, number = frame.f_code.co_filename, frame.f_lineno
    short = path.rpartition("site-packages" + os.sep)[2]
    return f"{short}:{number}: {linecache.getline(path, number).strip()}"
