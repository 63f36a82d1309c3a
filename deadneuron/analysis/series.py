"""Numbers of one site over its windows: what the signs are read from. Shares are of all values of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from deadneuron.records import ZERO_BIN, Floats, Window
from deadneuron.states import RARE, Moment, Timeline
from deadneuron.store.ranks import finite_rows, weighted_mean

_POINTS = 200  # of a trend: its slope looks at all pairs
_FEWEST = 6  # windows that a trend needs, 3 that a standstill needs


def recent(timeline: Timeline, steps: int) -> list[Window]:
    """The windows that end within the last `steps` steps."""
    return [w for w in timeline.windows if w.last_step > timeline.last_step - steps]


def rectifies(timeline: Timeline) -> bool:
    """Whether the activation gives 0 for everything at or below 0 (ReLU, ReLU6), so that a spike at zero is closed."""
    outputs = timeline.site.outputs
    return timeline.site.gate[0] == 0.0 and outputs is not None and not any(outputs[: ZERO_BIN + 1])


# ── flat ends ────────────────────────────────────────────────────────────────────────────────────────────────────────


def saturated(windows: Sequence[Window], gate: tuple[float, float]) -> tuple[float, float] | None:
    """Shares of values (below, above) at the flat ends of an activation that has two, or None for others.

    The lower end of ReLU6 is the zero of every rectifier and is no saturation: it counts as 0. What lies outside is
    counted at every step, and is split as the steps with full statistics split it.
    """
    if not np.isfinite(gate).all():
        return None
    units = len(windows[0].active)
    sampled = sum(w.sampled_rows for w in windows) * units
    rows = sum(w.rows for w in windows) * units
    if not sampled or not rows:
        return None
    outside = 1 - float(sum(w.active.sum() for w in windows)) / rows
    above = min(float(sum(w.above.sum() for w in windows)) / sampled, outside)
    return (0.0 if gate[0] == 0.0 else outside - above), above


# ── size of the outputs ──────────────────────────────────────────────────────────────────────────────────────────────


def magnitudes(windows: Sequence[Window]) -> Floats:
    """Mean |output| of each unit; NaN where no finite output was sampled."""
    return weighted_mean([w.magnitude for w in windows], [finite_rows(w) for w in windows])


def dormant(windows: Sequence[Window], tau: float) -> int:
    """Units whose mean |output| is at most tau times the mean over their layer (Sokar et al., 2023).

    Dead ReLU units score 0 and are among them; of a layer that is all zeros, every unit is dormant.
    """
    scores = magnitudes(windows)
    scores = scores[np.isfinite(scores)]
    return int((scores <= tau * (float(scores.mean()) + 1e-9)).sum()) if len(scores) else 0


def specialised(windows: Sequence[Window], moment: Moment, timeline: Timeline, rare: float) -> int:
    """Rare units that are strong when they fire: their peak reaches what units that are not rare give on average.

    Told for rectifiers only. A rare unit that fired in no step with full statistics shows no peak and does not count.
    """
    if not rectifies(timeline):
        return 0
    rates = np.sum([w.active for w in windows], axis=0) / sum(w.rows for w in windows)
    usual = rates >= rare
    strengths = magnitudes(windows)[usual] / rates[usual]
    strengths = strengths[np.isfinite(strengths)]
    if not len(strengths):
        return 0
    typical = float(np.median(strengths))
    peaks = np.fmax.reduce([w.peak for w in windows if w.peak is not None] or [np.full(len(rates), np.nan)])
    return int(((moment.states == RARE) & (peaks > 0) & (peaks >= typical)).sum())


# ── trend ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Trend:
    """A series of a layer's mean |output| over windows."""

    first: float  # median of the first third
    last: float  # median of the last third
    slope: float  # a step, Theil-Sen
    low: float  # 95 %
    high: float
    windows: int

    @property
    def fall(self) -> float:
        """By which share the last third lies below the first."""
        return 1 - self.last / self.first if self.first > 0 else 0.0


def trend(timeline: Timeline) -> Trend | None:
    """How the mean |output| moved over the run; None for fewer than six windows with statistics."""
    known = [w for w in timeline.windows if w.sampled_rows and np.isfinite(w.magnitude).any()]
    if len(known) < _FEWEST:
        return None
    steps = np.array([w.last_step for w in known], dtype=float)
    sizes = np.array([w.magnitude[np.isfinite(w.magnitude)].mean() for w in known])
    third = len(known) // 3
    first, last = float(np.median(sizes[:third])), float(np.median(sizes[-third:]))
    chosen = np.unique(np.linspace(0, len(known) - 1, min(len(known), _POINTS)).round().astype(int))
    slope, _, low, high = theilslopes(sizes[chosen], steps[chosen], 0.95)
    return Trend(first, last, float(slope), float(low), float(high), len(known))


# ── spike ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Spike:
    """The outputs' histogram of a rectifier over the second half of a run."""

    least: float  # smallest share at zero in a window
    most: float
    shift: float  # largest total variation distance of a window's histogram from their mean, less its own noise
    held: int  # units that no window of the span saw above zero
    first_step: int
    last_step: int
    samples: int


def spike(timeline: Timeline) -> Spike | None:
    """The spike at zero of a rectifier; None for other activations and for fewer than three windows."""
    middle = (timeline.first_step + timeline.last_step) / 2
    late = [w for w in timeline.windows if w.first_step >= middle and w.sampled_rows]
    if not rectifies(timeline) or len(late) < _FEWEST // 2:
        return None
    zero = ZERO_BIN + 1  # ReLU makes one bin of all at or below zero
    counts = np.stack([np.r_[w.histogram[:zero].sum(), w.histogram[zero:]] for w in late]).astype(float)
    totals = counts.sum(axis=1)
    if not totals.all():
        return None
    shares = counts / totals[:, None]
    mean = counts.sum(axis=0) / totals.sum()
    # A window of few values differs from the mean by chance alone: E|p - q| of a binomial share is about
    # sqrt(2 p (1 - p) / (pi n)).
    noise = np.sqrt(2 * mean * (1 - mean) / (np.pi * totals[:, None])).sum(axis=1) / 2
    shift = float((np.abs(shares - mean).sum(axis=1) / 2 - noise).clip(min=0).max())
    held = int((np.sum([w.active for w in late], axis=0) == 0).sum())
    samples = min(sum(w.samples for w in late), timeline.most)
    zeros = shares[:, 0]
    return Spike(float(zeros.min()), float(zeros.max()), shift, held, late[0].first_step, late[-1].last_step, samples)
