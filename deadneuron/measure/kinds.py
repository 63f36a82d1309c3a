"""What kind of activation something is: its name, its gate, what it makes of the histogram's edges.

Activations of the table of gates are looked up there. Any other elementwise module's gate is derived from its own
derivative, measured with autograd on a grid: the convex hull of {x : |f'(x)| > epsilon}.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from deadneuron.measure.gates import EVERYTHING, INF, Gate, base_of, edge_outputs, gate_of, learned_low
from deadneuron.records import HISTOGRAM_EDGES

_REACH = 64.0  # the grid's ends; a derivative that is open there is taken to be open to infinity
_STEP = 1 / 128
_POCKET = 0.1  # a closed stretch inside the hull that is wider makes the open set no interval
_BISECTIONS = 60


class NoGateError(ValueError):
    """Why no gate can be derived."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of activation."""

    op: str
    gate: Gate
    outputs: tuple[float, ...] | None  # at HISTOGRAM_EDGES; None: a histogram of the outputs is taken
    module: nn.Module  # a module that applies it; the user's own, or one made for a functional call

    def low(self, epsilon: float) -> Tensor | None:
        """The gate's lower end per unit where it is learned (PReLU), else None."""
        return learned_low(self.module, epsilon)


def kind_of(module: nn.Module, epsilon: float) -> Kind:
    """The kind of a module in the table of gates, or of an elementwise one outside of it.

    Raises `NoGateError` if its gate can neither be looked up nor derived.
    """
    if base_of(module) is not None:
        return Kind(type(module).__name__, gate_of(module, epsilon), edge_outputs(module), module)
    function = _Function(module)
    return Kind(type(module).__name__, _derive(function, epsilon), _outputs(function), module)


def stated_kind(module: nn.Module, gate: Gate) -> Kind:
    """The kind of a module whose gate the user states."""
    try:
        outputs = _outputs(_Function(module))
    except NoGateError:
        outputs = None
    return Kind(type(module).__name__, gate, outputs, module)


def is_linear(kind: Kind) -> bool:
    """Whether an activation in name does nothing (or no more than to scale)."""
    try:
        slopes = _Function(kind.module).slopes(_grid())
    except NoGateError:
        return False
    return kind.gate == EVERYTHING and bool((slopes.max() - slopes.min()).abs() < 1e-9)


class _Function:
    """A module as a function of numbers: on a copy, in float64, in eval mode, on the CPU, with random numbers kept."""

    def __init__(self, module: nn.Module) -> None:
        try:
            self.module = copy.deepcopy(module).to(device="cpu", dtype=torch.float64).eval().requires_grad_(False)
        except Exception as error:
            raise NoGateError(f"it cannot be copied ({type(error).__name__})") from error
        sizes = {p.numel() for p in (*self.module.parameters(), *self.module.buffers()) if p.numel() > 1}
        self.columns = sizes.pop() if len(sizes) == 1 else 1

    def __call__(self, x: Tensor) -> Tensor:
        """f on x [points], as [points, columns]: one column for each unit that has a parameter of its own."""
        wide = x[:, None].expand(-1, self.columns).clone() if not x.requires_grad else x
        try:
            with torch.random.fork_rng(devices=[]):
                y = type(self.module).forward(self.module, wide)
        except Exception as error:
            raise NoGateError(f"it cannot be evaluated ({type(error).__name__}: {error})") from error
        if not isinstance(y, Tensor) or y.shape != wide.shape:
            raise NoGateError("it does not give one value for each value")
        return y

    def slopes(self, x: Tensor) -> Tensor:
        """The largest |f'| over the columns at x [points]."""
        # A function's gate is derived in the middle of the user's forward: inside a checkpoint, whose hooks would take
        # what is saved here for the segment's own.
        own = torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is)
        with torch.inference_mode(False), torch.enable_grad(), own:
            wide = x[:, None].expand(-1, self.columns).clone().requires_grad_()
            y = self(wide)
            if y.grad_fn is None:
                raise NoGateError("no gradient goes through it")
            (slope,) = torch.autograd.grad(y.sum(), wide)
        if not bool(torch.isfinite(slope).all()):
            raise NoGateError("its derivative is not finite")
        return slope.abs().amax(1)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _grid() -> Tensor:
    count = int(2 * _REACH / _STEP) + 1
    return torch.linspace(-_REACH, _REACH, count, dtype=torch.float64, device="cpu")


def _derive(function: _Function, epsilon: float) -> Gate:
    x = _grid()
    with torch.no_grad():
        if not torch.allclose(function(x)[::3], function(x[::3]), equal_nan=True):
            raise NoGateError("it mixes values: the output at a value depends on the others")
    is_open = function.slopes(x) > epsilon
    places = is_open.nonzero()[:, 0].tolist()
    if not places:
        raise NoGateError(f"no derivative of it exceeds {epsilon}")
    pockets = [(b - a - 1) * _STEP for a, b in pairwise(places)]
    if max(pockets, default=0.0) > _POCKET:
        raise NoGateError("its open set is no interval")
    first, last = places[0], places[-1]
    low = -INF if first == 0 else _edge(function, epsilon, float(x[first - 1]), float(x[first]))
    high = INF if last == len(x) - 1 else _edge(function, epsilon, float(x[last + 1]), float(x[last]))
    return low, high


def _edge(function: _Function, epsilon: float, closed: float, opened: float) -> float:
    """Where between a closed and an open point the gate begins: the last closed point that bisection finds."""
    for _ in range(_BISECTIONS):
        middle = (closed + opened) / 2
        if float(function.slopes(torch.tensor([middle], dtype=torch.float64, device="cpu"))[0]) > epsilon:
            opened = middle
        else:
            closed = middle
    return closed if abs(closed) > 1e-12 else 0.0  # autograd lets clamp's gradient through at 0 itself


def _outputs(function: _Function) -> tuple[float, ...] | None:
    """What it makes of HISTOGRAM_EDGES, or None where that does not turn one histogram into the other."""
    if function.columns != 1:
        return None
    with torch.no_grad():
        values = function(torch.tensor(HISTOGRAM_EDGES, dtype=torch.float64, device="cpu"))[:, 0].tolist()
    rises = all(a <= b for a, b in pairwise(values))
    return tuple(values) if rises and not any(math.isnan(value) for value in values) else None
