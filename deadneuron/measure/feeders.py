"""What feeds an activation: its producer's unit axis and parameter, read from the autograd graph.

A walk back from the pre-activation through `grad_fn`, breadth first, to the nearest operation that owns a parameter.
It does not pass through operations that mix units (a frozen layer, attention): what lies behind them feeds other units.
On the way back to the activation its unit axis is carried through views, permutations, poolings, residual adds and
everything elementwise. The rank of the tensor alone cannot tell (N, C, L) from (N, T, F); the producer can.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

from deadneuron.measure.axes import carry, wrapped

Node = Any  # torch.autograd.graph.Node; its saved attributes are not typed

_WRAPPERS = (  # what may stand between a parameter and the operation that uses it
    *("TBackward", "Transpose", "Permute", "View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Expand"),
    # Casts of autocast, instance norm, the weight of one expert, weight and spectral norm.
    *("ToCopy", "Clone", "Repeat", "Select", "WeightNorm", "Div"),
)
# What lies behind these feeds other units; reentrant checkpointing hides its whole segment in one node.
_MATRICES = ("Addmm", "Baddbmm", "Mm", "Bmm", "Mv", "GroupedMm")
_MIXING = (*_MATRICES, "ScaledDotProduct", "CheckpointFunction")
# Behind these lie the units of an earlier activation: looked at only where no other branch has a producer.
_ACTIVATIONS = (
    *("Relu", "Gelu", "Silu", "Mish", "Elu", "Celu", "LeakyRelu", "Prelu", "Rrelu", "Hardtanh", "Hardswish"),
    *("Hardsigmoid", "Sigmoid", "Tanh", "Softplus", "LogSigmoid", "Threshold"),
)
_BENDING = ("Pow", "Exp", "Log", "Sqrt", "Rsqrt", "Erf", "Sin", "Cos", "Softmax", "Abs", "Cumsum", "Reciprocal")
_PRODUCTS = ("Mul", "Div")
_VISITS = 256  # nodes; the nearest producer is a few nodes away, this bounds the walk through a graph without any


@dataclass(frozen=True, slots=True)
class Producer:
    """The operation that made a pre-activation."""

    axis: int | None  # unit axis of the pre-activation, from 0; None where it could not be carried
    parameters: tuple[Tensor, ...]  # bias or beta first, then weight: leaves that require grad; none if it is frozen
    path: tuple[int, ...] | None  # edges of the graph from the pre-activation's node to the first parameter
    part: tuple[int, ...] = ()  # which of the producer's units: where cuts along the unit axis begin
    entry: int | None = (
        None  # which entry along the parameter's first axis, where only one is used (an expert's weight)
    )
    grouped: bool = False  # one operation for several such entries
    beyond: bool = False  # there is an activation between
    bent: bool = False  # there is something between that is neither a sum, nor a scaling, nor a view, nor a pooling

    @property
    def feeder(self) -> Tensor | None:
        return self.parameters[0] if self.parameters else None


def trace(x: Tensor) -> Producer | None:
    """The nearest producer of `x` (any shape), or None without a graph or without a producer in it.

    One with parameters is preferred to a nearer one without (an adapter beside its frozen layer).
    """
    if x.grad_fn is None:
        return None
    queue: deque[list[tuple[Node, int, int]]] = deque([[(x.grad_fn, x.output_nr, 0)]])
    later: deque[list[tuple[Node, int, int]]] = deque()
    seen = {x.grad_fn}
    frozen: Producer | None = None
    beyond = False
    while (queue or later) and len(seen) < _VISITS:
        if not queue:
            if frozen is not None:
                break
            queue, later, beyond = later, deque(), True
        route = queue.popleft()  # (node, which of its outputs, edge that led to it), from the activation backwards
        node = route[-1][0]
        found = _produces(node, route[-1][1])
        if found is not None:
            axis, units, leaves = found
            (axis, part), grouped = _forwards(route, axis, units), node.name().startswith("GroupedMm")
            bent = any(_bends(node) for node, _, _ in route[:-1])
            if leaves:
                steps = tuple(edge for _, _, edge in route[1:]) + leaves[0][1]
                parameters, entry = tuple(leaf for leaf, _ in leaves), _entry_on(node, leaves[0][1])
                return Producer(axis, parameters, steps, part, entry, grouped, beyond, bent)
            frozen = frozen or Producer(axis, (), (), part, None, grouped, beyond, bent or _multiplies(node))
            continue
        for edge, (parent, output) in enumerate(node.next_functions):
            if parent is not None and parent not in seen and _leaf(parent) is None:
                seen.add(parent)
                (later if _activates(node) else queue).append([*route, (parent, output, edge)])
    return frozen


def still_fed_by(x: Tensor, path: tuple[int, ...], feeder: Tensor, entry: int | None = None) -> bool:
    """Whether the same path through the graph of `x` ends at the same parameter: a check of about a microsecond."""
    node: Node = x.grad_fn
    for edge in path:
        if entry is not None and _selected(node) not in (None, entry):
            return False
        edges = node.next_functions
        if edge >= len(edges) or edges[edge][0] is None:
            return False
        node = edges[edge][0]
    return getattr(node, "variable", None) is feeder


def _entry_on(node: Node, path: tuple[int, ...]) -> int | None:
    """The entry of the parameter at the end of the path that is selected on the way."""
    for edge in path:
        entry = _selected(node)
        if entry is not None:
            return entry
        node = node.next_functions[edge][0]
    return None


def _selected(node: Node) -> int | None:
    """The index of `parameter[index]`, where the node is that: along the first axis, of a leaf."""
    if not node.name().startswith("Select") or node._saved_dim != 0 or _leaf(node.next_functions[0][0]) is None:
        return None
    return wrapped(node._saved_index, int(node._saved_self_sym_sizes[0]))


def _activates(node: Node) -> bool:
    name = node.name()
    if name.startswith("Clamp"):  # clamp(min=0) does, clamp(-1, 1) keeps numbers in range
        low = getattr(node, "_saved_min", None)
        return isinstance(low, (int, float)) and low == 0
    return bool(name.startswith(_ACTIVATIONS))


def _bends(node: Node) -> bool:
    """Whether what the node gives is not in proportion to what it is given."""
    if node.name().startswith(_PRODUCTS):
        factors = [parent for parent, _ in node.next_functions if parent is not None]
        return len(factors) > 1 and all(_leaf(parent) is None for parent in factors)
    return bool(node.name().startswith(_BENDING))


def _multiplies(node: Node) -> bool:
    """Whether the node is a matrix product of two activations, as in attention: its units are no layer's."""
    factors = node.next_functions[-2:]
    return node.name().startswith(_MATRICES) and len(factors) == 2 and all(parent is not None for parent, _ in factors)


def _forwards(route: list[tuple[Node, int, int]], axis: int | None, units: int) -> tuple[int | None, tuple[int, ...]]:
    """Carry the unit axis from the producer's output to the activation's input; where it was cut on the way."""
    part: list[int] = []
    for (node, output, _), (parent, parent_output, _) in reversed(list(pairwise(route))):
        if axis is None:
            break
        part += _cut(node, output, axis)
        axis = carry(node, _shape(parent, parent_output), _shape(node, output), axis, units)
    return axis, tuple(part)


def _cut(node: Node, output: int, axis: int) -> list[int]:
    """Which piece the node takes of its input's unit axis; nothing if it is no cut, or along another axis."""
    name = node.name()
    if not name.startswith(("Split", "Slice")) or axis != wrapped(node._saved_dim, len(_shape(node, output))):
        return []
    return [output if name.startswith("Split") else _number(node._saved_start)]


def _shape(node: Node, output: int) -> tuple[int, ...]:
    return tuple(_number(size) for size in node._input_metadata[output].shape)


def _number(size: Any) -> Any:
    # While torch.compile traces, sizes may be symbols: to ask for their value would make it a constant of the program.
    return size if type(size) is int else getattr(getattr(size, "node", None), "hint", size)


_Leaves = list[tuple[Tensor, tuple[int, ...]]]


def _produces(node: Node, output: int) -> tuple[int | None, int, _Leaves] | None:
    """(unit axis of the node's output, units on it, its parameters with the edges to them), or None if x just passes.

    There are no parameters where the node mixes units and its weights are frozen, or are activations themselves.
    """
    shape = _shape(node, output)
    axis, leaves = _owned(node.name(), shape, node.next_functions)
    if not leaves and not (node.name().startswith(_MIXING) or "Convolution" in node.name()):
        return None
    units = shape[axis] if axis is not None and axis < len(shape) else 1
    if "BatchNorm" in node.name() and leaves:  # instance norm runs one over N × C channels
        units = len(leaves[0][0])
    return axis, units, leaves


def _owned(name: str, shape: tuple[int, ...], edges: Any) -> tuple[int | None, _Leaves]:
    """The unit axis of an operation's output, and the parameters among its inputs."""
    rank = len(shape)
    if name.startswith(("Addmm", "Baddbmm")):  # edges: bias, input, weight.t()
        return rank - 1, _leaves(edges, (0, 2))
    if name.startswith(("Mm", "Bmm")):
        right, left = _leaves(edges, (1,)), _leaves(edges, (0,))
        return (rank - 1, right) if right or not left else (rank - 2, left)  # weight @ x: units are the rows
    if name.startswith("GroupedMm"):  # rows, the matrices of all groups
        return rank - 1, _leaves(edges, (1,))
    if name.startswith("Mv"):
        return 0, _leaves(edges, (0,))
    if "Convolution" in name:  # Convolution, MkldnnConvolution, Cudnn…: input, weight, bias
        return 1, _leaves(edges, (2, 1))
    if "BatchNorm" in name or "GroupNorm" in name:  # input, weight, bias
        return 1, _leaves(edges, (2, 1))
    if "LayerNorm" in name or "RmsNorm" in name or "RMSNorm" in name:
        return rank - 1, _leaves(edges, (2, 1))
    if name.startswith("Embedding"):
        return rank - 1, _leaves(edges, (0,))
    if name.startswith("ScaledDotProduct"):
        return rank - 1, []
    if name.startswith(("Add", "Sub", "Mul", "Div", "Addcmul")) and len(edges) > 1:
        return _broadcast(shape, edges)  # x + bias, x · gamma
    return None, []


def _leaves(edges: Any, order: tuple[int, ...]) -> _Leaves:
    return [leaf for edge in order if edge < len(edges) and (leaf := _reach(edges[edge][0], (edge,)))]


def _broadcast(shape: tuple[int, ...], edges: Any) -> tuple[int | None, _Leaves]:
    """A parameter that is added to or multiplied with x along one axis: its units."""
    for edge, (node, _) in enumerate(edges):
        leaf = _reach(node, (edge,))
        if leaf is None or tuple(leaf[0].shape) == shape:  # a parameter times a number is no layer
            continue
        own = [1] * (len(shape) - leaf[0].dim()) + list(leaf[0].shape)
        wide = [i for i, size in enumerate(own) if size > 1]
        if len(own) == len(shape) and len(wide) == 1 and shape[wide[0]] == own[wide[0]]:
            return wide[0], [leaf]
    return None, []


def _reach(node: Node, path: tuple[int, ...]) -> tuple[Tensor, tuple[int, ...]] | None:
    """The parameter behind a transpose, a cast, a view, a weight norm …: a short chain of first edges."""
    for _ in range(6):
        if node is None:
            return None
        leaf = _leaf(node)
        if leaf is not None:
            return leaf, path
        if not node.name().startswith(_WRAPPERS):
            return None
        node, path = node.next_functions[0][0], (*path, 0)
    return None


def _leaf(node: Node) -> Tensor | None:
    variable = getattr(node, "variable", None)  # AccumulateGrad alone has it
    return variable if isinstance(variable, Tensor) else None
