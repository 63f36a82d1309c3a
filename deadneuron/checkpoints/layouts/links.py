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
from dataclasses import dataclass, field
from functools import lru_cache

from deadneuron.checkpoints.layouts.order import Node, Walk, spelled, start, steps

Shape = tuple[int, ...]
Slot = tuple[int, int]  # group, index in the group

_WORK = 10_000_000  # entries of tuples, about three seconds; beyond, equal shapes can lie in too many ways


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
_State = tuple[int, tuple[int, ...], _Weight | None]  # number of the walk, how far each group is, and that
_Edge = tuple[_State, str, Slot | None]


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
    lanes = tuple(tuple(group) for group in groups)
    key = (spelled(order), tuple(shapes.items()), lanes, tuple(decays or ()))
    found = _solved(_Problem(key, order, shapes, lanes, decays))
    if isinstance(found, TooManyWays):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class _Problem:
    """One search: equal where `key` is."""

    key: tuple[object, ...]
    order: Node = field(compare=False)
    shapes: Mapping[str, Shape] = field(compare=False)
    groups: Sequence[Sequence[Shape | None]] = field(compare=False)
    decays: Sequence[float | None] | None = field(compare=False)


@lru_cache(maxsize=16)  # the checkpoints of one training all ask the same
def _solved(problem: _Problem) -> Fits | TooManyWays | None:
    shapes, groups = problem.shapes, problem.groups
    if sum(len(group) for group in groups) > len(shapes):
        return None
    search = _Search(problem.order, shapes, groups, problem.decays)
    try:
        return _searched(search, len(shapes), tuple(len(group) for group in groups))
    except TooManyWays as answer:
        return answer.with_traceback(None)


def _searched(search: _Search, length: int, full: tuple[int, ...]) -> Fits | None:
    layer = {search.start}
    layers: list[dict[_State, list[_Edge]]] = []
    for position in range(length):
        edges = {state: search.further(state, position) for state in layer}
        layers.append(edges)
        layer = {target for reached in edges.values() for target, _, _ in reached}
    return _whole(layers, {state for state in layer if state[1] == full})


class _Search:
    """The steps from one state to the next ones; walks are numbered, because many states share one."""

    def __init__(
        self,
        order: Node,
        shapes: Mapping[str, Shape],
        groups: Sequence[Sequence[Shape | None]],
        decays: Sequence[float | None] | None,
    ) -> None:
        self._shapes, self._groups = shapes, groups
        self._decays = decays if decays is not None and len(set(decays)) > 1 else [None] * len(groups)
        self._spare = len(shapes) - sum(len(group) for group in groups)
        self._walks: list[Walk] = [start(order)]
        self._numbers: dict[Walk, int] = {self._walks[0]: 0}
        self._steps: dict[int, list[tuple[str, int]]] = {}
        self._work = 0
        self.start: _State = (0, (0,) * len(groups), None)

    def further(self, state: _State, position: int) -> list[_Edge]:
        """Every next name, given to every group that it fits, or to none. Raises `TooManyWays`."""
        walk, taken, weight = state
        reached: list[_Edge] = []
        for name, after in self._next(walk):
            self._do(len(taken))
            shape = self._shapes[name]
            module, _, leaf = name.rpartition(".")
            if position - sum(taken) < self._spare:
                reached.append(((after, taken, None), name, None))
            for number, group in enumerate(self._groups):
                index, decay = taken[number], self._decays[number]
                if index == len(group) or group[index] not in (None, shape):
                    continue
                if weight and leaf == "bias" and weight[0] == module and decay is not None and decay > weight[1]:
                    continue
                self._do(len(taken))
                further = (*taken[:number], index + 1, *taken[number + 1 :])
                laid = (module, decay) if leaf == "weight" and decay is not None else None
                reached.append(((after, further, laid), name, (number, index)))
        return reached

    def _next(self, walk: int) -> list[tuple[str, int]]:
        if walk not in self._steps:
            found = []
            for name, after in steps(self._walks[walk]):
                self._do(sum(len(place.taken) for place in after))
                number = self._numbers.setdefault(after, len(self._walks))
                if number == len(self._walks):
                    self._walks.append(after)
                found.append((name, number))
            self._steps[walk] = found
        return self._steps[walk]

    def _do(self, length: int) -> None:
        # Copying and comparing tuples is what takes the time.
        self._work += 8 + length
        if self._work > _WORK:
            raise TooManyWays


def _whole(layers: Sequence[Mapping[_State, Sequence[_Edge]]], alive: set[_State]) -> Fits | None:
    """What lies on a path to one of the states `alive` at the end."""
    names: dict[Slot, set[str]] = {}
    slots: dict[str, set[Slot | None]] = {}
    told: list[set[str]] = []
    for edges in reversed(layers):
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
