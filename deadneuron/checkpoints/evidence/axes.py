"""Along which axis of a weight its units lie, where its own shape does not tell: what stands before and behind does.

A bias has an entry a unit. Without one, a weight of [a, b] may have a units (Linear, Conv) or b (`x @ weight`,
ConvTranspose): then the norm behind it tells by its size, or the layers beside it by how many inputs they take and
outputs they give. What fits as it stands is left so: gate, up and down of a gated MLP fit both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.roles import Judged, Module

Modules = list[tuple[Module, Judged]]

_TABLE = Judged(
    "none",
    "its weight fits as an embedding, whose rows are no units, and as a layer whose units lie along the second axis",
)


def settle_axes(judged: Modules, weights: Mapping[str, Stored], ordered: bool) -> Modules:
    """The same modules, with the axes of doubtful weights set. `ordered`: they stand in the model's order."""
    judged = _as_their_kind(judged)
    if not ordered:
        return judged
    places = [at for at, (_, told) in enumerate(judged) if told.role != "none"]
    rowed = [judged[at][1] for at in places]
    for at in range(len(rowed)):  # in order: each stands behind one that is settled
        if _fits_turned(at, rowed, weights):
            rowed[at] = _turn(rowed[at], weights)
    tables = _tables([judged[at][1] for at in places], weights)
    rowed[:tables] = [_TABLE] * tables
    settled = dict(zip(places, rowed, strict=True))
    return [(module, settled.get(at, told)) for at, (module, told) in enumerate(judged)]


def _tables(rowed: list[Judged], weights: Mapping[str, Stored]) -> int:
    """How many modules at the front may be tables of entries: what stands behind takes as much as all of them give."""
    together = found = 0
    for count, (told, behind) in enumerate(pairwise(rowed), start=1):
        if not _is_doubtful(told) or told.dimensions != 2:
            break
        shape = weights[told.weights[-1]].shape
        together += shape[1]
        beside = bool(behind.weights) and weights[behind.weights[-1]].shape == shape  # gate and up take the same
        if _ends(behind, weights)[0] == together and not beside:
            found = count
    return found


def _as_their_kind(judged: Modules) -> Modules:
    """Square weights lie as the others of their kind do, where all of these tell the same (GPT-2: [in, out])."""
    axes = {2: set[int](), 3: set[int]()}  # of weights whose shape tells, by linear and conv
    for _, told in judged:
        if told.role == "rows" and told.bias is not None and not told.square:
            axes[min(told.dimensions, 3)].add(told.axis)
    return [
        (module, replace(told, axis=1) if told.square and axes[min(told.dimensions, 3)] == {1} else told)
        for module, told in judged
    ]


def _turn(told: Judged, weights: Mapping[str, Stored]) -> Judged:
    units = weights[told.weights[-1]].shape[1]
    if units < 2:
        return Judged("none", "one unit only")
    fitting = tuple(n for n in told.weights if len(weights[n].shape) > 1 and weights[n].shape[1] == units)
    return replace(told, units=units, axis=1, weights=fitting)


def _is_doubtful(told: Judged) -> bool:
    return told.role == "rows" and told.bias is None and not told.square and bool(told.weights)


def _fits_turned(at: int, rowed: list[Judged], weights: Mapping[str, Stored]) -> bool:
    """Whether a weight fits what stands beside it along its second axis, and nowhere along its first."""
    told = rowed[at]
    if not _is_doubtful(told):
        return False
    outputs, inputs = weights[told.weights[-1]].shape[:2]
    behind = rowed[at + 1] if at + 1 < len(rowed) else None
    if behind is not None and behind.role != "rows" and behind.units in (outputs, inputs):
        return behind.units == inputs
    given = _ends(rowed[at - 1], weights)[1] if at else None
    fits = []
    for turn in (False, True):
        taken = None if behind is None else _ends(_as_if(behind, turn), weights)[0]
        own_in, own_out = (outputs, inputs) if turn else (inputs, outputs)
        fits.append((given == own_in) + (taken == own_out))
    # A grouped convolution takes a multiple of what its weight's second axis tells.
    grouped = told.dimensions > 2 and given is not None and given % inputs == 0
    return not fits[0] and fits[1] > grouped


def _as_if(told: Judged, turn: bool) -> Judged:
    return replace(told, axis=int(turn)) if _is_doubtful(told) else told


def _ends(told: Judged, weights: Mapping[str, Stored]) -> tuple[int | None, int]:
    """(inputs, outputs) of a module as it is told."""
    if told.role != "rows":
        return told.units, told.units
    if not told.weights:
        return None, told.units
    outputs, inputs = weights[told.weights[-1]].shape[:2]
    return (outputs, inputs) if told.axis == 1 else (inputs, outputs)
