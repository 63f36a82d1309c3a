"""From looks at a layer's units to their lives: who was born dead, died between which steps, revived.

A *look* is what one interval between two checkpoints says (no gradient through its updates), or what one checkpoint
says that was measured on data (silent at its step). Only looks in which it is known count; others are neither silence
nor activity. A death is dated to the span between the last look that saw the unit alive and the first that did not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deadneuron.records import Bools, Episode, Ints

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a layer's units."""

    first: int  # step that it begins with …
    last: int  # … and ends with; the same for a measured checkpoint
    covers: int  # steps that a unit has been still for, for all that is known, if it was still in the look before too
    still: Bools | None  # [units] no gradient, or no row inside the gate; None where that is not known
    rates: Span | None = None  # lowest and highest rate of the updates from here to the next look
    samples: int | None = None  # independent examples that it was measured on
    earliest: Ints | None = None  # [units] of a unit that is still in it: its last activity was not before this step …
    latest: Ints | None = None  # … and not after this one, where it is known better than by the look before
    hint: bool = False  # that a unit is not still in it proves no life
    waning: Bools | None = None  # [units] not still for the whole look, and not proved to be alive at its end either


@dataclass(frozen=True, slots=True)
class Lives:
    """The lives of a layer's units. Arrays have shape [units] and tell of the end."""

    episodes: tuple[Episode, ...]
    dead: Bools
    silent: Bools  # still, not (yet) for the patience
    steps: tuple[int, ...]  # last step of each look that is known …
    dead_then: tuple[int, ...]  # … and how many units were dead and
    silent_then: tuple[int, ...]  # silent then


@dataclass(slots=True)
class _Spells:
    """Where each unit stands while looks are gone through. Arrays have shape [units]."""

    began: Ints  # index of the look that its spell of silence began with, -1 outside of one
    alive: Ints  # index of the last look that saw it alive, -1 for none
    covered: Ints  # steps that the spell covers
    revived: Bools  # it was dead, and came back


def find_lives(site: int, units: int, looks: Sequence[Look], patience: int, never: Bools | None = None) -> Lives:
    """The lives of `units` units by looks in order of steps.

    A unit is dead once it was still for `patience` steps. `never` [units] tells of which units it is known that they
    were never active before the first look: they are born dead, and so is a unit that is still from step 0 on.
    """
    none, zero = np.full(units, -1, dtype=np.int64), np.zeros(units, dtype=np.int64)
    spells = _Spells(none, none, zero, np.zeros(units, dtype=bool))
    made = _Maker(site, looks, np.zeros(units, dtype=bool) if never is None else never, spells)
    dead = np.zeros(units, dtype=bool)
    episodes: list[Episode] = []
    steps, dead_then, silent_then = [], [], []
    silent = np.zeros(units, dtype=bool)
    before = -1
    for index, look in enumerate(looks):
        if look.still is None:
            continue
        wakes = dead & ~look.still
        episodes += [made.episode(int(unit), before) for unit in np.flatnonzero(wakes)]
        spells.began = np.where(look.still, np.where(spells.began < 0, index, spells.began), -1)
        spells.covered = np.where(look.still, spells.covered + look.covers, 0)
        spells.alive = np.where(look.still, spells.alive, index)
        spells.revived = spells.revived | wakes
        dead, before = look.still & (spells.covered >= patience), index
        silent = (look.still if look.waning is None else look.still | look.waning) & ~dead
        steps.append(look.last)
        dead_then.append(int(dead.sum()))
        silent_then.append(int(silent.sum()))
    episodes += [made.episode(int(unit), None) for unit in np.flatnonzero(dead)]
    return Lives(
        episodes=tuple(sorted(episodes, key=lambda episode: (episode.unit, episode.first_step))),
        dead=dead,
        silent=silent,
        steps=tuple(steps),
        dead_then=tuple(dead_then),
        silent_then=tuple(silent_then),
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    site: int
    looks: Sequence[Look]
    never: Bools
    spells: _Spells

    def episode(self, unit: int, end: int | None) -> Episode:
        """The spell that the unit is in; `end` is the index of its last look, None while it lasts."""
        began, alive = int(self.spells.began[unit]), int(self.spells.alive[unit])
        first = self.looks[began]
        last_step = None if end is None else self.looks[end].last
        spell = self.looks[began : None if end is None else end + 1]
        # The same examples each time, as far as is known: they do not add up.
        samples = max((look.samples for look in spell if look.samples is not None), default=None)
        if alive < 0 and (bool(self.never[unit]) or first.first == 0):
            return Episode(self.site, unit, "born dead", 0, last_step, born=True, rate=None, samples=samples)
        low = self.looks[alive].first if alive >= 0 else 0
        if first.earliest is not None:
            low = max(low, int(first.earliest[unit]))
        high = first.first - 1 if first.latest is None else int(first.latest[unit])
        high = max(high, low)
        rates = _rates(self.looks[alive:began]) if alive >= 0 else None
        return Episode(
            self.site,
            unit,
            "relapsed" if self.spells.revived[unit] else "died",
            first_step=low,
            last_step=last_step,
            born=False,
            rate=rates[0] if rates is not None and rates[0] == rates[1] else None,
            samples=samples,
            latest=None if low == high else high,
            rates=rates,
        )


def _rates(looks: Sequence[Look]) -> Span | None:
    """Lowest and highest rate over these looks; None unless it is known of all."""
    spans = [look.rates for look in looks if look.rates is not None]
    if len(spans) < len(looks):
        return None
    return min(low for low, _ in spans), max(high for _, high in spans)
