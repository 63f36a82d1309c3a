"""Along which axis of a weight its units lie, where its own shape does not tell.

A bias has an entry a unit. Without one, a weight of [a, b] may have a units (Linear, Conv) or b (`x @ weight`,
ConvTranspose): then what stands before and behind tells by how many it gives and takes, if both agree. Most fits as it
stands, and is left so: order is the one in which modules were listed, and that is often not the one they run in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.roles import Judged, Module, is_side

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
    kept = [(place, told) for place, (module, told) in enumerate(judged) if told.role != "none" or _counts(module)]
    found = [told for _, told in kept]
    rowed = list(found)
    # A model whose linear layers fit as they stand wherever that shows was not written the other way round elsewhere.
    # Convolutions and transposed ones stand in one model.
    straight = any(told.dimensions == 2 and any(_fits(at, found, weights, False)) for at, told in enumerate(found))
    for at, told in enumerate(rowed):  # in order: each stands behind one that is settled
        if not (straight and told.dimensions == 2) and _fits_turned(at, rowed, weights):
            rowed[at] = _turn(told, weights)
    front = next((at for at, told in enumerate(found) if told.role == "none"), len(found))
    tables = _tables(found[:front] + [told for told in found[front:] if told.role != "none"][:1], weights)
    rowed[:tables] = [_TABLE] * tables
    settled = {place: told for (place, _), told in zip(kept, rowed, strict=True)}
    return [(module, settled.get(at, told)) for at, (module, told) in enumerate(judged)]


def _counts(module: Module) -> bool:
    """Whether something stands there that takes or gives, though nothing is known of its units."""
    return not all(is_side(name) for name in module.tensors)


def _tables(rowed: list[Judged], weights: Mapping[str, Stored]) -> int:
    """How many modules at the front may be tables of entries: what stands behind takes as much as all of them give.

    rowed: those before which nothing else stands, and the next one. A model that begins with what is called an
    embedding has no others behind it that are not, but routers, which take what the experts beside them take.
    """
    together = found = 0
    for count, (told, behind) in enumerate(pairwise(rowed), start=1):
        if not _is_doubtful(told) or told.dimensions != 2:
            break
        shape = weights[told.weights[-1]].shape
        together += shape[1]
        beside = bool(behind.weights) and weights[behind.weights[-1]].shape == shape  # gate and up take the same
        if _ends(behind, weights)[0] == together != shape[0] and not beside:
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
    """Whether a weight fits all that stands beside it along its second axis, and nothing along its first.

    One neighbour is too few where there are two: lists of modules do not tell which feeds which, and a norm or a router
    that is as wide as the model fits something by chance.
    """
    told = rowed[at]
    if not _is_doubtful(told) or any(_fits(at, rowed, weights, False)):
        return False
    shape = weights[told.weights[-1]].shape
    if len(shape) > 2 and math.prod(shape[2:]) == 1:
        return False  # nobody transposes a convolution of one point
    fits = _fits(at, rowed, weights, True)
    given = _ends(rowed[at - 1], weights)[1] if at else None
    # A grouped convolution takes a multiple of what its weight's second axis tells.
    grouped = told.dimensions > 2 and given is not None and given % shape[1] == 0
    return all(fits) and len(fits) > grouped


def _fits(at: int, rowed: list[Judged], weights: Mapping[str, Stored], turn: bool) -> list[bool]:
    """Whether a doubtful weight fits what stands before and what stands behind it, where anything does."""
    told = rowed[at]
    if not _is_doubtful(told):
        return []
    inputs, outputs = _ends(_as_if(told, turn), weights)
    fits = []
    if at:
        fits.append(_is_of_its_kind(rowed[at - 1], told) and _ends(rowed[at - 1], weights)[1] == inputs)
    if at + 1 < len(rowed):
        behind = _as_if(rowed[at + 1], turn)
        fits.append(_is_of_its_kind(behind, told) and _ends(behind, weights)[0] == outputs)
    return fits


def _is_of_its_kind(beside: Judged, told: Judged) -> bool:
    """Whether one may feed the other: a norm may, and what has as many dimensions."""
    return beside.role != "none" and (beside.role != "rows" or beside.dimensions == told.dimensions)


def _as_if(told: Judged, turn: bool) -> Judged:
    return replace(told, axis=int(turn)) if _is_doubtful(told) else told


def _ends(told: Judged, weights: Mapping[str, Stored]) -> tuple[int | None, int | None]:
    """(inputs, outputs) of a module as it is told."""
    if told.role == "none":
        return None, None
    if told.role != "rows":
        return told.units, told.units
    if not told.weights:
        return None, told.units
    outputs, inputs = weights[told.weights[-1]].shape[:2]
    return (outputs, inputs) if told.axis == 1 else (inputs, outputs)
