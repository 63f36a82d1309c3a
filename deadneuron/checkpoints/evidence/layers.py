"""Layers of a checkpoint from names and shapes alone: which rows belong to one unit, and what is left out.

A batch norm that directly follows a linear or conv layer of as many units is one layer with it, under the norm's name:
its beta and gamma tell. The weight before it may have a gradient through a skip connection, and the bias there has one
of rounding noise, since the norm takes the mean away again. A layer, group or RMS norm stands alone, since the rows
before it get a gradient from every unit.
"""

from __future__ import annotations

import re

from deadneuron.checkpoints.contents import Checkpoint, Layer, Part
from deadneuron.checkpoints.evidence.axes import settle_axes
from deadneuron.checkpoints.evidence.roles import Judged, Module, is_side, judge, modules_of
from deadneuron.records import Gap


def find_layers(checkpoint: Checkpoint) -> tuple[Layer, ...]:
    """The layers whose units have rows of their own, in the model's order."""
    return _sort(checkpoint)[0]


def left_out(checkpoint: Checkpoint) -> tuple[Gap, ...]:
    """What has no rows of units, and why: one gap a module."""
    return _sort(checkpoint)[1]


def _sort(checkpoint: Checkpoint) -> tuple[tuple[Layer, ...], tuple[Gap, ...]]:
    weights = checkpoint.weights
    judged = [(module, judge(module, weights)) for module in modules_of(weights)]
    judged = settle_axes(judged, weights, checkpoint.ordered)
    gaps = [
        Gap(module.name or next(iter(module.tensors)), told.reason, 0)
        for module, told in judged
        if told.role == "none" and not all(is_side(name) for name in module.tensors)
    ]
    rowed = [(module, told) for module, told in judged if told.role != "none"]
    norms = _norms(rowed, checkpoint.ordered)
    layers: list[Layer] = []
    for at, (module, told) in enumerate(rowed):
        if at in norms.values():
            continue
        parts, op, name = _parts(told), _op(told), module.name
        if at in norms:
            parts, op, name = _parts(rowed[norms[at]][1]), f"{op} + norm", rowed[norms[at]][0].name
        previous = _previous(checkpoint, told, layers) if checkpoint.ordered else None
        layers.append(Layer(name, op, told.units, parts, previous))
    return tuple(layers), tuple(gaps)


def _parts(told: Judged) -> tuple[Part, ...]:
    bias = (Part(told.bias, 0),) if told.bias is not None else ()
    return bias + tuple(Part(name, told.axis) for name in told.weights)


def _op(told: Judged) -> str:
    if told.role in ("batch norm", "norm"):
        return "norm"
    if told.dimensions > 2:
        return "transposed conv" if told.axis == 1 else "conv"
    return "linear"


def _norms(rowed: list[tuple[Module, Judged]], ordered: bool) -> dict[int, int]:
    """Which batch norm stands behind which layer, by their places in `rowed`.

    Where the order of the names is not the model's, only names tell: "4" behind "3", "bn2" behind "conv2".
    """
    if ordered:
        return {at - 1: at for at in range(1, len(rowed)) if rowed[at][1].role == "batch norm" and _follows(rowed, at)}
    places = {module.name: at for at, (module, told) in enumerate(rowed) if told.role == "rows"}
    found = {}
    for at, (module, told) in enumerate(rowed):
        parent, dot, last = module.name.rpartition(".")
        guesses = [str(int(last) - 1)] if last.isdecimal() else [_NORM.sub(word, last, count=1) for word in _LAYERS]
        named = [place for guess in guesses if (place := places.get(parent + dot + guess)) is not None]
        if told.role == "batch norm" and len(named) == 1 and rowed[named[0]][1].units == told.units:
            found[named[0]] = at
    return found


_NORM = re.compile(r"batch_?norm|norm|bn")
_LAYERS = ("conv", "fc", "linear", "lin")


def _follows(rowed: list[tuple[Module, Judged]], at: int) -> bool:
    """Whether the batch norm at that place is the one behind the layer before it.

    Models that list several layers and then their norms (conv1, conv2, bn1, bn2) do not tell which belongs to which:
    there every norm stands alone.
    """
    before = rowed[at - 1][1]
    if before.role != "rows" or before.units != rowed[at][1].units:
        return False
    listed = at >= 2 and rowed[at - 2][1].role == "rows" and rowed[at - 2][1].units == before.units
    return not (listed and at + 1 < len(rowed) and rowed[at + 1][1].role == "batch norm")


def _previous(checkpoint: Checkpoint, told: Judged, layers: list[Layer]) -> str | None:
    """The layer before, if it has as many units as this one has inputs (or they are laid flat before it)."""
    if not layers or told.role != "rows" or not told.weights or layers[-1].op == "norm":
        return None
    inputs = checkpoint.weights[told.weights[-1]].shape[1 - told.axis]
    before = layers[-1]
    flattened = told.dimensions == 2 and "conv" in before.op and inputs % before.units == 0
    return before.name if inputs == before.units or flattened else None
