"""Sigmoids and tanhs that are part of a formula: x · sigmoid(βx), GELU's ½ x (1 + erf(x / √2)) and its form with tanh.

What a functional sigmoid or tanh is, is known by what becomes of its output. So it waits: multiplied with its own
input it is a Swish, plus one after a cube it is a GELU, and these are judged whole, on x. Everything else that is fed
by a layer through nothing but sums, scalings and views is an activation of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from deadneuron.measure.aside import aside

if TYPE_CHECKING:
    from deadneuron.measure.functional import Call, Functions

_TIMES = (torch.mul, torch.multiply, Tensor.mul, Tensor.mul_, Tensor.multiply, Tensor.__mul__, Tensor.__rmul__)
_OVER = (torch.div, torch.divide, Tensor.div, Tensor.divide, Tensor.__truediv__)
_PLUS = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_)
_POWERS = (torch.pow, Tensor.pow, Tensor.__pow__)
# Functions that own parameters, the unit axis of what they give, and where their parameters stand.
_PRODUCERS: dict[Any, tuple[int, tuple[int, ...]]] = {
    F.linear: (-1, (2, 1)),
    F.bilinear: (-1, (3, 2)),
    torch.addmm: (-1, (0, 2)),
    F.embedding: (-1, (1,)),
    F.layer_norm: (-1, (3, 2)),
    F.rms_norm: (-1, (2,)),
    F.batch_norm: (1, (4, 3)),
    F.group_norm: (1, (3, 2)),
    F.instance_norm: (1, (4, 3)),
    **dict.fromkeys(
        (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), (1, (2, 1))
    ),
}


@dataclass(slots=True)
class Pending:
    """A sigmoid or tanh whose output nobody has used yet."""

    call: Call
    output: Tensor
    base: Tensor  # x of a sigmoid(beta · x)
    beta: float
    version: int  # of base: a change in place makes it another pre-activation


@dataclass(slots=True)
class Made:
    """The layer that ran last."""

    output: ref[Tensor]
    rank: int
    axis: int
    parameter: Tensor | None


class Formulas:
    """What the functional activations of one model are part of."""

    interesting = frozenset((*_TIMES, *_OVER, *_PLUS, *_POWERS, *_PRODUCERS))

    def __init__(self, functions: Functions) -> None:
        self.functions = functions
        self.pending: Pending | None = None
        self.last: Made | None = None
        self._scaled: tuple[ref[Tensor], ref[Tensor], float] | None = None  # (beta · x, x, beta)
        self._cubed: ref[Tensor] | None = None

    def begin(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A function is called that may be part of a formula; what `end` needs, or None."""
        used = self._use(func, args)
        if used is not None:
            return used
        if func in _PRODUCERS:
            return func, args, kwargs
        if func in _POWERS and len(args) == 2 and _is_number(args[1]) and args[1] == 3 and isinstance(args[0], Tensor):
            self._cubed = ref(args[0])
        elif (func in _TIMES and len(args) == 2 and any(_is_number(arg) for arg in args)) or (
            func in _OVER and len(args) == 2 and _is_number(args[1]) and args[1] != 0
        ):
            return func, args, kwargs
        return None

    def end(self, call: Any, output: Any) -> None:
        """It has returned."""
        if not isinstance(output, Tensor):
            return
        if isinstance(call, Finish):
            call.tap.end(output)
            return
        func, args, kwargs = call
        if func in _PRODUCERS:
            axis, places = _PRODUCERS[func]
            owned = [args[place] for place in places if place < len(args)] + [kwargs.get("bias"), kwargs.get("weight")]
            parameter = next((p for p in owned if isinstance(p, Tensor)), None)
            self._cubed = self._scaled = None  # formulas lie between a layer and the next
            self.last = Made(ref(output), output.dim(), axis % output.dim() if output.dim() else 0, parameter)
            return
        x, beta = (args[0], args[1]) if isinstance(args[0], Tensor) else (args[1], args[0])
        if not isinstance(x, Tensor) or isinstance(beta, Tensor):
            return
        self._scaled = (ref(output), ref(x), 1 / float(beta) if func in _OVER else float(beta))

    def wait(self, call: Call, output: Tensor) -> None:
        """A sigmoid or tanh has given `output`."""
        base, beta = call.x, 1.0
        if self._scaled is not None and self._scaled[0]() is call.x:
            x = self._scaled[1]()
            if x is not None and self._scaled[2] > 0:
                base, beta = x, self._scaled[2]
        self.pending = Pending(call, output, base, beta, _version(base))

    def settle(self) -> None:
        """What still waits is no part of a formula that is known."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        call, functions = pending.call, self.functions
        if call.kind == "erf":
            return  # no activation by itself
        if _version(pending.base) != pending.version:
            functions.miss(call.caller, call.kind, "what it was given was overwritten before its use was known")
            return
        tap = functions.layer(call.caller, call.kind, (), call.x)
        if tap is not None:
            tap.observe(call.x, call.phase)
            tap.end(pending.output)

    def made(self, x: Tensor) -> bool:
        """Whether the layer that ran last gave just this tensor (or what it is a view of)."""
        output = self.last.output() if self.last is not None else None
        return output is not None and (output is x or x._base is output)

    def clear(self) -> None:
        self.pending = self.last = self._scaled = self._cubed = None

    def _use(self, func: Any, args: tuple[Any, ...]) -> Finish | None:
        """The output that waits is used: by its formula, or by something else."""
        pending = self.pending
        if pending is None or not any(arg is pending.output for arg in args[:3]):
            return None
        with aside():
            call = pending.call
            intact = _version(pending.base) == pending.version
            others = [arg for arg in args[:2] if arg is not pending.output]
            other = others[0] if len(others) == 1 else None
            if call.kind == "sigmoid" and func in _TIMES and other is pending.base and intact:
                return self._whole("swish", (pending.beta,), pending.base)
            if func in _PLUS and _is_number(other) and other == 1 and intact:
                erf = call.kind == "erf" and math.isclose(pending.beta, math.sqrt(0.5), rel_tol=1e-4)
                cubed = self._cubed() if self._cubed is not None and call.kind == "tanh" else None
                x = pending.base if erf else cubed
                if x is not None:
                    finish = self._whole("gelu", (0.0 if erf else 1.0,), x)
                    if finish is not None:
                        finish.tap.end_alone(x)  # its output comes some functions later
                    return None
            self.settle()
        return None

    def _whole(self, kind: str, parameters: tuple[float, ...], x: Tensor) -> Finish | None:
        pending, self.pending = self.pending, None
        assert pending is not None
        tap = self.functions.layer(pending.call.caller, kind, parameters, x)
        if tap is None:
            return None
        tap.observe(x, pending.call.phase)
        return Finish(tap)


@dataclass(slots=True)
class Finish:
    """A formula whose last function is being called."""

    tap: Any


def _version(x: Tensor) -> int:
    """How often `x` was changed in place; tensors of inference mode do not know."""
    return 0 if x.is_inference() else x._version


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
