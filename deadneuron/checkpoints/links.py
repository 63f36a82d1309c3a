"""Which parameter each entry of an optimizer's state belongs to, where the file does not say so by name.

An optimizer numbers its parameters group by group, each group in the order of the model; a state dict names them in
the order of the model. Every way to lay the groups over the names so that shapes fit is walked, one name at a time, as
a path through a graph of (walk, how far each group has come); a link that all of these paths share is certain. Names
that no group takes are buffers, frozen parameters, or second names of tied ones.

Assumed is that each group lists its parameters in the order of the model, as every loop over `named_parameters()`
does. Where that is not so, shapes usually do not fit and nothing is linked; parameters of one shape that a user lists
in another order cannot be told apart by anybody. Assumed is also that nobody decays a module's bias and not its
weight: that tells a norm's two vectors apart where they lie in two groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deadneuron.checkpoints.order import Node, Walk, start, steps

Shape = tuple[int, ...]
Slot = tuple[int, int]  # group, index in the group

_WORK = 4_000_000  # states of the search times groups, a few seconds; beyond, equal shapes can lie in too many ways


class TooManyWays(Exception):  # noqa: N818 (it is an answer, not an error)
    """The groups fit the names in more ways than can be looked at."""


@dataclass(frozen=True, slots=True)
class Fits:
    """All ways in which the groups fit the names, put together."""

    names: Mapping[Slot, frozenset[str]]  # that a slot can have
    slots: Mapping[str, frozenset[Slot | None]]  # that a name can have; None: no slot
    order: tuple[str, ...] | None  # of the names, where only one fits

    def certain(self) -> dict[Slot, str]:
        return {slot: next(iter(names)) for slot, names in self.names.items() if len(names) == 1}


_Weight = tuple[str, float]  # a module whose weight was just laid, and that weight's decay
_State = tuple[Walk, tuple[int, ...], _Weight | None]


def fits(
    order: Node,
    shapes: Mapping[str, Shape],
    groups: Sequence[Sequence[Shape | None]],
    decays: Sequence[float | None] | None = None,
) -> Fits | None:
    """All ways to lay `groups` (shapes of their slots; None where no state tells) over the names of `order`.

    `decays` are the groups' weight decays, None where a group has several. None where there is no way. Raises
    `TooManyWays`.
    """
    decays = decays if decays is not None and len(set(decays)) > 1 else [None] * len(groups)
    spare = len(shapes) - sum(len(group) for group in groups)
    if spare < 0:
        return None
    layer: set[_State] = {(start(order), (0,) * len(groups), None)}
    layers: list[dict[_State, list[tuple[_State, str, Slot | None]]]] = []
    work = 0
    for position in range(len(shapes)):
        edges: dict[_State, list[tuple[_State, str, Slot | None]]] = {}
        following: set[_State] = set()
        for walk, taken, weight in layer:
            reached = edges.setdefault((walk, taken, weight), [])
            for name, after in steps(walk):
                module, _, leaf = name.rpartition(".")
                if position - sum(taken) < spare:
                    reached.append(((after, taken, None), name, None))
                for number, group in enumerate(groups):
                    index, decay = taken[number], decays[number]
                    if index == len(group) or group[index] not in (None, shapes[name]):
                        continue
                    if weight and leaf == "bias" and weight[0] == module and decay is not None and decay > weight[1]:
                        continue
                    further = (*taken[:number], index + 1, *taken[number + 1 :])
                    laid = (module, decay) if leaf == "weight" and decay is not None else None
                    reached.append(((after, further, laid), name, (number, index)))
            following.update(state for state, _, _ in reached)
        work += len(following) * (len(groups) + 1)
        if work > _WORK:
            raise TooManyWays
        layers.append(edges)
        layer = following
    full = tuple(len(group) for group in groups)
    alive = {state for state in layer if state[1] == full}
    names: dict[Slot, set[str]] = {}
    slots: dict[str, set[Slot | None]] = {}
    told: list[set[str]] = []
    for edges in reversed(layers):  # only what leads to an end counts
        before: set[_State] = set()
        told.append(set())
        for state, reached in edges.items():
            for target, name, slot in reached:
                if target in alive:
                    before.add(state)
                    told[-1].add(name)
                    slots.setdefault(name, set()).add(slot)
                    if slot is not None:
                        names.setdefault(slot, set()).add(name)
        alive = before
    if not alive:
        return None
    only = tuple(next(iter(name)) for name in reversed(told)) if all(len(name) == 1 for name in told) else None
    return Fits({s: frozenset(n) for s, n in names.items()}, {n: frozenset(s) for n, s in slots.items()}, only)
