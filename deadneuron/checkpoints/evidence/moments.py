"""Adam-like state of one checkpoint: rows that never had a gradient, ages, and the proof that a row lives.

The proof of life (see `ages`) holds for any entries of a unit. So the feeder's single entry is asked first, then the
first columns of the other rows; only rows that are not proved alive by these are summed as a whole. That reads them a
second time: less is lost by it than by summing rows of which most live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Part, Stored
from deadneuron.checkpoints.evidence.ages import ROUNDING, Decay, estimate, most, saturation
from deadneuron.checkpoints.evidence.blocks import by_unit, heads, pieces, spans, width
from deadneuron.records import Bools, Floats, Ints

_COLUMNS = 32  # of a row are asked first
_SURE = 1e-30  # sums of float32 squares above it are no sums of denormals
_ENTRIES = 1 << 17  # of a tensor that are gathered before they are summed
_SAMPLE = 16  # rows proved alive by the feeder that are read all the same, to know what is typical of the layer


@dataclass(frozen=True, slots=True)
class Moments:
    """What the state says of a layer's units; arrays have shape [units]."""

    never: Bools
    age: Floats
    age_most: Floats
    saturates: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One part, with its optimizer's state."""

    part: Part
    decay: Decay
    state: dict[str, Stored]
    step: int | None  # updates that the state has seen
    eps: float


def moments_of(parts: Sequence[Asked], units: int, patience: int) -> Moments:
    """What the parts' states say; the feeder comes first.

    Units proved alive within `patience` steps by one part are not asked of the next.
    """
    never = np.ones(units, dtype=np.bool_)
    age = np.full(units, np.nan)
    bound = np.full(units, np.inf)
    broken = np.zeros(units, dtype=np.bool_)
    saturates = np.inf
    for one in parts:
        part, decay, state, eps = one.part, one.decay, one.state, one.eps
        alive = bound < patience
        wanted = ~alive
        wanted[np.flatnonzero(alive)[:: max(1, int(alive.sum()) // _SAMPLE)]] = True
        sums = _Sums(units)
        if part.axis == 0 and width(state[decay.first], 0) > _COLUMNS:
            wanted = sums.ask_heads(state, decay, wanted, patience)
        sums.add_rows(part, state, decay, eps, wanted)
        seen, ratio = sums.seen, sums.ratio
        own = most(decay, ratio)
        bound[seen] = np.minimum(bound, own)[seen]
        living = seen & (own < patience)
        typical = float(np.median(ratio[living])) if living.sum() >= 3 else decay.typical
        limit = saturation(decay.beta, sums.size(living, typical), torch.finfo(state[decay.first].dtype).tiny)
        saturates = min(saturates, limit)
        guess = np.minimum(estimate(decay, ratio, typical, one.step), limit)
        # Each part that is asked knows better than the one before it: it has more entries.
        age[seen] = guess[seen]
        never[seen] &= sums.zero[seen]
        broken |= sums.broken
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

    def ask_heads(self, state: dict[str, Stored], decay: Decay, wanted: Bools, patience: int) -> Bools:
        """Sums over the first columns of the wanted rows; [units] those that are not proved alive by these."""
        m, self.seen = heads(state[decay.first], wanted, _COLUMNS)
        v, _ = heads(state[decay.second], wanted, _COLUMNS)
        # What underflows here proves less, not more; NaN and Inf prove nothing.
        least = decay.ceiling * decay.ratio**patience * (1 + ROUNDING)
        for where in pieces(m):
            one, other = m[where].float(), v[where].float()
            first, second = (one * one).sum(1), (other * other if decay.squared else other).sum(1)
            alive = ((first > least * second) & (first > _SURE) & (first < torch.inf)).numpy() & self.seen[where]
            self.first[where][alive] = first.numpy()[alive]
            self.second[where][alive] = second.clamp_min(_SURE).numpy()[alive]
            self.count[where][alive] = _COLUMNS
            self.zero[where] &= ~alive
        return self.seen & self.zero

    def add_rows(self, part: Part, state: Mapping[str, Stored], decay: Decay, eps: float, wanted: Bools) -> None:
        """Sums over whole rows of the wanted units. Rows are gathered first: there may be one in a block."""
        gathered: list[tuple[Ints, Tensor, Tensor]] = []
        for first, last in spans(state[decay.first], part.axis, wanted):
            # A span holds rows, or a little of every unit; only those in question are summed.
            inside = np.arange(first, last) if part.axis == 0 else np.arange(len(wanted))
            at = inside[wanted[inside]]
            index = torch.from_numpy(at - (first if part.axis == 0 else 0))
            m, v = (
                by_unit(state[key].read(first, last).index_select(part.axis, index), part.axis)
                for key in (decay.first, decay.second)
            )
            gathered.append((at, m, v))
            if part.axis != 0 or sum(one.numel() for _, one, _ in gathered) >= _ENTRIES:
                self._gathered(gathered, decay, eps)
                gathered = []
        self._gathered(gathered, decay, eps)

    def _gathered(self, gathered: list[tuple[Ints, Tensor, Tensor]], decay: Decay, eps: float) -> None:
        if gathered:
            at, m, v = zip(*gathered, strict=True)
            self.add(np.concatenate(at), torch.cat(m), torch.cat(v), decay, eps)

    def add(self, at: Ints, m: Tensor, v: Tensor, decay: Decay, eps: float) -> None:
        """Entries of whole units. at: [n] units; m, v: [n, values]."""
        self.seen[at] = True
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
