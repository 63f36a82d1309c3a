"""In which orders a model may have registered its parameters, as far as a file tells.

torch.save keeps the order of the state dict: one order. safetensors sorts by name, so that only conventions are left:
a module's parameters stand together, its own before those of its submodules, "weight" before "bias", and names that
differ by a number in the order of the numbers (0, 1, 2 …; conv1, conv2 …). Between other names every order is
possible. An order is a tree of `Node`s that is walked one name at a time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from deadneuron.checkpoints.layouts.names import stem_and_number

_DEPTH = 64  # modules in modules; what lies deeper is one name


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """What stands together: chains of names and nodes. Each chain is in order; any chain may go on first."""

    phases: tuple[tuple[tuple[Node | str, ...], ...], ...]  # all of a phase comes before the next one


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk stands in one node: its phase, and how far each chain of the phase has come."""

    node: Node
    phase: int
    taken: tuple[int, ...]

    @property
    def done(self) -> bool:
        return self.phase == len(self.node.phases)

    def after(self, chain: int) -> Place:
        """One item of `chain` further."""
        taken = (*self.taken[:chain], self.taken[chain] + 1, *self.taken[chain + 1 :])
        if all(count == len(items) for count, items in zip(taken, self.node.phases[self.phase], strict=True)):
            return _enter(self.node, self.phase + 1)
        return Place(self.node, self.phase, taken)


Walk = tuple[Place, ...]
"""From the outermost node that is not done to the innermost; empty at the end."""


def start(node: Node) -> Walk:
    place = _enter(node)
    return () if place.done else (place,)


def steps(walk: Walk) -> Iterator[tuple[str, Walk]]:
    """Every name that may come next, and where the walk then stands."""
    if not walk:
        return
    *outer, place = walk
    for chain, (count, items) in enumerate(zip(place.taken, place.node.phases[place.phase], strict=True)):
        if count == len(items):
            continue
        item, rest = items[count], place.after(chain)
        above = (*outer,) if rest.done else (*outer, rest)
        if isinstance(item, str):
            yield item, above
        else:
            for name, inner in steps(start(item)):
                yield name, (*above, *inner)


def is_only_one(node: Node) -> bool:
    """Whether the order is known for certain."""
    return all(
        len(phase) == 1 and all(isinstance(item, str) or is_only_one(item) for item in phase[0])
        for phase in node.phases
    )


def in_order(names: Iterable[str]) -> Node:
    """Names whose order is known."""
    chain = tuple(names)
    return Node(((chain,),) if chain else ())


def in_any_order(nodes: Sequence[Node]) -> Node:
    """Models that stand side by side in one file: each together, in whatever order an optimizer took them."""
    return Node((tuple((node,) for node in nodes if node.phases),)) if any(node.phases for node in nodes) else Node(())


def names_in(node: Node) -> list[str]:
    """All names, in one of the orders."""
    found: list[str] = []
    for phase in node.phases:
        for chain in phase:
            for item in chain:
                found += [item] if isinstance(item, str) else names_in(item)
    return found


def spelled(node: Node) -> tuple[object, ...]:
    """The order as plain tuples: equal where two nodes allow the same."""
    return tuple(
        tuple(tuple(item if isinstance(item, str) else spelled(item) for item in chain) for chain in phase)
        for phase in node.phases
    )


def only(node: Node, names: Container[str]) -> Node:
    """The same order of fewer names."""
    phases = []
    for phase in node.phases:
        chains = []
        for chain in phase:
            kept = [item if isinstance(item, str) else only(item, names) for item in chain]
            chains.append(tuple(item for item in kept if (item in names if isinstance(item, str) else item.phases)))
        phases.append(tuple(chain for chain in chains if chain))
    return Node(tuple(phase for phase in phases if phase))


def by_convention(names: Iterable[str]) -> Node:
    """Names whose order is lost, under the conventions above."""
    return _module([(name.split(".", _DEPTH), name) for name in names])


def _module(entries: list[tuple[list[str], str]]) -> Node:
    own = {words[0]: name for words, name in entries if len(words) == 1}
    modules: dict[str, list[tuple[list[str], str]]] = {}
    for words, name in entries:
        if len(words) > 1:
            modules.setdefault(words[0], []).append((words[1:], name))
    named = {"weight", "bias"} & own.keys()
    first = (tuple(own[word] for word in ("weight", "bias") if word in named),) if named else ()
    phases = (
        (*first, *(tuple(own[word] for word in chain) for chain in _chains(own.keys() - named))),
        tuple(tuple(_module(modules[word]) for word in chain) for chain in _chains(modules)),
    )
    return Node(tuple(phase for phase in phases if phase))


def _chains(words: Iterable[str]) -> list[list[str]]:
    """Words that differ by a number at the end are one chain, in the order of the numbers."""
    chains: dict[tuple[str, bool], list[str]] = {}
    for word in sorted(words, key=lambda word: (stem_and_number(word)[1] or 0, word)):
        stem, number = stem_and_number(word)
        chains.setdefault((stem, number is not None), []).append(word)
    return [chains[key] for key in sorted(chains)]


def _enter(node: Node, phase: int = 0) -> Place:
    chains = node.phases[phase] if phase < len(node.phases) else ()
    return Place(node, phase, (0,) * len(chains))
