"""A slow oracle for states and episodes that knows what every unit did in every single step.

It works on spells, not on windows: a spell is a longest stretch of watched steps in which the unit was silent. Windows
come in only where the definitions name them: death is told at a window's end, over the examples of windows that were
silent throughout; a revival needs firing in so many windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from making import make_site, make_thresholds, make_window

from deadneuron.records import Site, Thresholds, Window


@dataclass(frozen=True)
class World:
    """Everything that happened to one site. fired[s][u]: rows inside the gate in step s."""

    site: Site
    fired: list[list[int]]
    spans: list[tuple[int, int, int]]  # first step, last step, independent examples; 0 examples: not seen
    thresholds: Thresholds

    @property
    def seen(self) -> list[tuple[int, int, int]]:
        return [span for span in self.spans if span[2]]

    def windows(self) -> list[Window]:
        return [make_window(self.site, a, b, self.fired[a : b + 1], samples=n, rows=n * 997) for a, b, n in self.seen]


@dataclass(frozen=True)
class Spell:
    steps: list[int]
    last_fired: int | None  # before it
    woke: int | None  # the step that ended it

    def dead_at(self, world: World, end: int) -> bool:
        examples = self.samples(world, end)
        enough = sum(step <= end for step in self.steps) >= world.thresholds.patience
        return end in self.steps and enough and examples >= world.thresholds.samples

    def samples(self, world: World, end: int) -> int:
        silent = set(self.steps)
        return sum(n for a, b, n in world.seen if b <= end and silent.issuperset(range(a, b + 1)))

    def dead_ends(self, world: World) -> list[int]:
        return [b for _, b, _ in world.seen if self.dead_at(world, b)]


def spells(world: World, unit: int) -> list[Spell]:
    watched = [step for a, b, _ in world.seen for step in range(a, b + 1)]
    made: list[Spell] = []
    steps: list[int] = []
    last_fired = None
    for step in watched:
        if world.fired[step][unit]:
            if steps:
                made.append(Spell(steps, last_fired, step))
            steps, last_fired = [], step
        else:
            steps = [*steps, step]
    return [*made, Spell(steps, last_fired, None)] if steps else made


def fired_windows(world: World, unit: int, after: int, until: int) -> int:
    return sum(
        any(world.fired[step][unit] for step in range(a, b + 1)) for a, b, _ in world.seen if a > after and b <= until
    )


@dataclass(frozen=True)
class Told:
    """What an episode must say."""

    state: str
    first_step: int
    last_step: int | None
    samples: int


def told_episodes(world: World, unit: int) -> list[Told]:
    deadly = [(spell, ends) for spell in spells(world, unit) if (ends := spell.dead_ends(world))]
    joined: list[list[tuple[Spell, list[int]]]] = []
    for spell, ends in deadly:
        if joined:
            between = fired_windows(world, unit, joined[-1][-1][1][-1], ends[0])
            if between < world.thresholds.revival_windows:
                joined[-1].append((spell, ends))
                continue
        joined.append([(spell, ends)])
    told = []
    for number, group in enumerate(joined):
        (first, _), (last, ends) = group[0], group[-1]
        born = first.last_fired is None
        state = "born dead" if born else "relapsed" if number else "died"
        begin = world.seen[0][0] if first.last_fired is None else first.last_fired
        told.append(Told(state, begin, None if last.woke is None else last.woke - 1, last.samples(world, ends[-1])))
    return told


def told_dead(world: World, unit: int, end: int) -> bool:
    return any(spell.dead_at(world, end) for spell in spells(world, unit))


@st.composite
def worlds(draw: st.DrawFn, *, most_units: int = 3) -> World:
    units = draw(st.integers(1, most_units))
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=17))
    ends = np.cumsum(lengths).tolist()
    # Mostly seen; sometimes not, also at the beginning.
    examples = st.integers(1, 13) | st.integers(1, 13) | st.integers(1, 13) | st.just(0)
    spans = [(end - length, end - 1, draw(examples)) for end, length in zip(ends, lengths, strict=True)]
    if not any(n for *_, n in spans):
        spans[0] = (*spans[0][:2], 5)
    steps = ends[-1]
    columns = [draw(_life(steps)) for _ in range(units)]
    thresholds = make_thresholds(
        patience=draw(st.integers(1, 23)),
        samples=draw(st.integers(1, 60)),
        revival_windows=draw(st.integers(1, 3)),
        stuck_windows=draw(st.integers(1, 4)),
        warning=draw(st.sampled_from([0.1, 1 / 3, 0.5])),
        severe=draw(st.sampled_from([0.25, 0.5, 1.0])),
    )
    fired = [[column[step] for column in columns] for step in range(steps)]
    return World(make_site(draw(st.integers(0, 3)), units), fired, spans, thresholds)


@st.composite
def _life(draw: st.DrawFn, steps: int) -> list[int]:
    """Stretches of silence, some long, between stretches of firing."""
    life: list[int] = []
    rows = draw(st.booleans()) * draw(st.integers(1, 9))
    while len(life) < steps:
        length = draw(st.integers(1, 3) | st.integers(5, 40))
        life += [rows] * length
        rows = 0 if rows else draw(st.integers(1, 9))
    return life[:steps]


def at(world: World, **changes: object) -> World:
    return replace(world, thresholds=replace(world.thresholds, **changes))
