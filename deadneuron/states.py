"""The states of units: active, rare, silent, dead. numpy only.

A unit is *dead* at the end of a window if no row was inside its gate for the whole patience, over enough independent
examples, and, where the gradient is screened, no gradient reached it in that span. Silence alone is not death: in deep
layers most silent spells end by themselves. The sample count matters too: silence over n examples shows no more than
that the unit fires on at most 3/n of them (95 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deadneuron.records import Bools, Ints, Site, Thresholds, Window

ACTIVE, RARE, SILENT, DEAD = range(4)
STATE_NAMES = ("active", "rare", "silent", "dead")

States = NDArray[np.uint8]
NEVER = -1
FOR_EVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Timeline:
    """One site's windows of one phase in order of steps, as matrices [windows, units]."""

    site: Site
    windows: tuple[Window, ...]
    active: Ints
    first_active: Ints
    last_active: Ints
    most: int = FOR_EVER  # distinct examples, where that is known: no n exceeds it

    @property
    def first_step(self) -> int:
        return self.windows[0].first_step

    @property
    def last_step(self) -> int:
        return self.windows[-1].last_step


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of a site's units at the end of one window. Arrays have shape [units]."""

    window: int  # index into the timeline
    fired: Bools  # in this window
    states: States
    last_seen: Ints  # last active step; NEVER if not since the timeline began
    silent_steps: Ints  # watched steps since then
    silent_samples: Ints  # independent examples in the windows since then that were silent throughout


def make_timeline(site: Site, windows: Sequence[Window], dataset_size: int | None = None) -> Timeline | None:
    """The timeline of windows of one site and phase, or None where there is none."""
    if not windows:
        return None
    ordered = tuple(sorted(windows, key=lambda w: w.first_step))
    return Timeline(
        site,
        ordered,
        np.stack([w.active for w in ordered]),
        np.stack([w.first_active for w in ordered]),
        np.stack([w.last_active for w in ordered]),
        FOR_EVER if dataset_size is None else dataset_size,
    )


class Walker:
    """Follows one site's units window by window, in order of steps: what a sink does while a run grows."""

    def __init__(self, units: int, thresholds: Thresholds, most: int = FOR_EVER) -> None:
        self.thresholds = thresholds
        self.most = most  # examples that come again tell nothing new: no n exceeds the number of distinct ones
        self.windows = 0
        self.last_seen: Ints = np.full(units, NEVER, dtype=np.int64)
        self._silent_steps: Ints = np.zeros(units, dtype=np.int64)
        self._silent_samples: Ints = np.zeros(units, dtype=np.int64)
        self._last_flow: Ints = np.full(units, NEVER, dtype=np.int64)
        self._watched_to = NEVER
        self._states: States = np.full(units, ACTIVE, dtype=np.uint8)
        self._longest = 0  # steps of the longest window

    def step(self, window: Window) -> Moment:
        """The units' states at the end of the next window.

        Steps in which the site was not seen count neither as silence nor as activity, and so do windows in which a
        unit had NaN or Inf: what it counted as active then says nothing of the unit, which stays in its state.
        """
        blind = window.first_nonfinite >= 0
        fired = (window.active > 0) & ~blind
        # A window may begin with the step that ended the one before, if several optimizers stepped in turn.
        length = min(window.last_step - max(window.first_step - 1, self._watched_to), window.steps)
        self._watched_to = window.last_step
        self.last_seen = np.where(fired, window.last_active, self.last_seen)
        since = np.minimum(window.last_step - window.last_active, window.steps)
        longer = np.where(blind, self._silent_steps, self._silent_steps + length)
        self._silent_steps = np.where(fired, since, longer)
        # Of a window in which the unit fired, the examples after its last firing are not known: none are counted.
        more = np.where(blind, self._silent_samples, self._silent_samples + window.samples)
        self._silent_samples = np.where(fired, 0, more)
        if window.last_flow is not None:
            self._last_flow = np.maximum(self._last_flow, window.last_flow)
        long = self._silent_steps >= self.thresholds.patience
        samples = np.minimum(self._silent_samples, self.most)
        enough = samples >= min(self.thresholds.samples, self.most)
        dead = long & enough & (self._last_flow <= self.last_seen)
        # A window that was cut short by the run's end, or by somebody who looks, says little of who is rare or silent.
        self._longest = max(self._longest, length)
        short = ~dead & (length < self._longest) & (self._silent_steps < self._longest)
        wakes = fired & (self._states >= SILENT)
        keeps = blind | (short & ~wakes)
        self._states = np.where(keeps, self._states, _states(window, fired, dead, self.thresholds))
        self.windows += 1
        return Moment(self.windows - 1, fired, self._states, self.last_seen, self._silent_steps, samples)


def walk(timeline: Timeline, thresholds: Thresholds) -> Iterator[Moment]:
    """The units' states at the end of each window."""
    walker = Walker(timeline.site.units, thresholds, timeline.most)
    for window in timeline.windows:
        yield walker.step(window)


def _states(window: Window, fired: Bools, dead: Bools, thresholds: Thresholds) -> States:
    # A quotient, not a product: k of n units or rows is then exactly the share k/n that a profile names.
    rare = fired & (window.active / window.rows < thresholds.rare)
    return np.select([dead, ~fired, rare], [DEAD, SILENT, RARE], ACTIVE).astype(np.uint8)


def bound(samples: int | None) -> float | None:
    """Upper 95 % bound on the share of examples that a unit silent on all `samples` fires on: the rule of three.

    The exact bound is 1 - 0.05^(1/n); 3/n lies above it for every n.

    >>> bound(3000)
    0.001
    """
    return min(1.0, 3 / samples) if samples else None
