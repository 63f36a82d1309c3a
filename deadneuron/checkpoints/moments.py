"""Adam-like state of one checkpoint: rows that never had a gradient, ages, and the proof that a row lives.

The proof of life (see `ages`) holds for any entries of a unit. So the feeder's single entry is asked first, then the
first columns of the other rows; only rows that are not proved alive by these are summed as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.ages import Decay, estimate, most, saturation
from deadneuron.checkpoints.blocks import by_unit, spans
from deadneuron.checkpoints.contents import Part, Stored
from deadneuron.records import Bools, Floats, Ints

_COLUMNS = 128  # of a row are asked first
_SAMPLE = 64  # rows proved alive by the feeder that are read all the same, to know what is typical of the layer


@dataclass(frozen=True, slots=True)
class Moments:
    """What the state says of a layer's units; arrays have shape [units]."""

    never: Bools
    age: Floats
    age_most: Floats
    saturates: float


def moments_of(parts: list[tuple[Part, Decay, dict[str, Stored], float]], units: int, patience: int) -> Moments:
    """parts: with each its decay, its state and the eps of its optimizer; the feeder first.

    Units proved alive within `patience` steps by one part are not asked of the next.
    """
    never = np.ones(units, dtype=np.bool_)
    age = np.full(units, np.nan)
    bound = np.full(units, np.inf)
    broken = np.zeros(units, dtype=np.bool_)
    saturates = np.inf
    for part, decay, state, eps in parts:
        alive = bound < patience
        wanted = ~alive
        wanted[np.flatnonzero(alive)[:: max(1, int(alive.sum()) // _SAMPLE)]] = True
        sums = _Sums(units)
        for first, last in spans(state[decay.second], part.axis, wanted):
            m, v = (state[key].read(first, last) for key in (decay.first, decay.second))
            if part.axis == 0:
                sums.add(np.arange(first, last), by_unit(m, 0), by_unit(v, 0), decay, eps, patience)
            else:  # a block has a little of every unit: only those in question are summed
                at = np.flatnonzero(wanted)
                m, v = (by_unit(block.index_select(part.axis, torch.from_numpy(at)), part.axis) for block in (m, v))
                sums.add(at, m, v, decay, eps, None)
        seen, ratio = sums.seen, sums.ratio
        own = most(decay, ratio)
        bound[seen] = np.minimum(bound, own)[seen]
        living = seen & (own < patience)
        typical = float(np.median(ratio[living])) if living.sum() >= 3 else decay.typical
        limit = saturation(decay.beta, sums.size(living, typical), torch.finfo(state[decay.first].dtype).tiny)
        saturates = min(saturates, limit)
        guess = np.minimum(estimate(decay, ratio, typical), limit)
        # Each part that is asked knows better than the one before it: it has more entries.
        age[seen] = guess[seen]
        never[seen] &= sums.zero[seen]
        broken |= sums.broken
    # A unit that a later part did not look at has been proved alive by an earlier one.
    never &= ~(bound < np.inf)
    age = np.where(never, np.inf, np.minimum(age, bound))
    age[broken] = np.nan
    return Moments(never & ~broken, age, np.where(broken, np.inf, bound), float(saturates))


class _Sums:
    """Sums over the entries of each unit, filled block by block."""

    def __init__(self, units: int) -> None:
        self.first = np.zeros(units)  # Σm² of entries that are no denormals
        self.second = np.zeros(units)  # Σv
        self.count = np.zeros(units)
        self.zero = np.ones(units, dtype=np.bool_)
        self.broken = np.zeros(units, dtype=np.bool_)
        self.seen = np.zeros(units, dtype=np.bool_)

    def add(self, at: Ints, m: Tensor, v: Tensor, decay: Decay, eps: float, patience: int | None) -> None:
        """at: [n] units; m, v: [n, values]. With a patience, rows proved alive by their first columns end there."""
        self.seen[at] = True
        if patience is None or m.shape[1] <= _COLUMNS:
            self._sum(at, m, v, decay, eps)
            return
        self._sum(at, m[:, :_COLUMNS], v[:, :_COLUMNS], decay, eps)
        rest = np.flatnonzero(~(most(decay, self.ratio[at]) < patience))
        if len(rest):
            index = torch.from_numpy(rest)
            self._sum(at[rest], m[index, _COLUMNS:], v[index, _COLUMNS:], decay, eps)

    def _sum(self, at: Ints, m: Tensor, v: Tensor, decay: Decay, eps: float) -> None:
        tiny = torch.finfo(m.dtype).tiny
        # In double: m² of a row that died long ago is no float32. What has reached the denormals no longer falls, so
        # that it would prove too much: it counts as 0. v that has reached them is at most `tiny`.
        wide = m.double()
        size = wide.abs()
        squares = torch.where(size < tiny, 0.0, wide * wide)
        second = v.double().clamp_min(tiny)
        if decay.squared:
            second = second * second
        nothing = (m == 0).all(1) & ((v <= eps).all(1) if decay.squared else (v == 0).all(1))
        self.first[at] += squares.sum(1).numpy()
        self.second[at] += second.sum(1).numpy()
        self.count[at] += m.shape[1]
        self.zero[at] &= nothing.numpy()
        self.broken[at] |= ~np.isfinite(self.first[at] + self.second[at])

    @property
    def ratio(self) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.first / self.second

    def size(self, living: Bools, typical: float) -> float:
        """Root mean square of m in the middle one of the living rows; where none lives, what v tells that it was."""
        with np.errstate(divide="ignore", invalid="ignore"):
            square = self.first[living] if living.any() else typical * self.second
            mean = np.sqrt(square / (self.count[living] if living.any() else self.count))
        return float(np.nanmedian(mean)) if np.isfinite(mean).any() else 0.0
