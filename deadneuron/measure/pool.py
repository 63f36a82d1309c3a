"""Where the counts live: the counters of all sites on one device, side by side.

What happens once a step (`seal`) then costs a handful of operations for the whole model, and a drain is one copy.
Steps are stored plus one, so that zero, which clears everything, means "never".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from deadneuron.measure.aside import aside
from deadneuron.records import BINS, Phase, Sampling

_INTS = ("active", "first", "last", "above", "nonfinite", "first_nonfinite", "undefined", "common")
_FLOATS = ("sum", "square", "magnitude", "peak")
_TOTALS = 4  # rows, samples, sampled rows, steps


class Slot:
    """One site's part of a pool: views, bound anew when the pool grows."""

    open: Tensor  # [units] rows inside the gate since the last seal
    above: Tensor
    nonfinite: Tensor
    undefined: Tensor  # calls in which a row was NaN or +Inf
    sum: Tensor
    square: Tensor
    magnitude: Tensor
    peak: Tensor
    totals: Tensor  # [rows, samples, sampled rows, steps]
    histogram: Tensor  # [BINS + 1], NaN last
    output_histogram: Tensor

    def __init__(self, site: int, start: int, units: int, index: int) -> None:
        self.site, self.start, self.units, self.index = site, start, units, index
        self._constants: dict[tuple[int, int, int], Tensor] = {}

    def add_totals(self, rows: int, samples: int, sampled_rows: int) -> None:
        key = (rows, samples, sampled_rows)
        constant = self._constants.get(key)
        if constant is None:
            constant = torch.tensor((*key, 0), device=self.totals.device)
            if len(self._constants) < 64:  # batches of a few sizes are usual, of thousands of sizes rare
                self._constants[key] = constant
        self.totals.add_(constant)


@dataclass(frozen=True, slots=True)
class Packed:
    """A pool's counters at one moment in one flat int64 tensor, and how to read it."""

    data: Tensor
    layout: tuple[tuple[int, int, int], ...]  # (site, start, units) of each slot
    units: int  # of all slots
    ready: torch.Event | None  # the copy is made once this has passed; None on a CPU


class Pool:
    """The counters of all sites that ran on `device` in one phase."""

    def __init__(self, device: torch.device, phase: Phase, sampling: Sampling) -> None:
        self.device, self.phase = device, phase
        self.common, self.memory = sampling.common, sampling.recent
        self.slots: list[Slot] = []
        self.units = 0
        # Counts of one step are whole numbers far below 2^53. Apple's MPS has no float64: 2^24 rows a step is its end.
        self.float = torch.float32 if device.type == "mps" else torch.float64
        self._allocate()

    def add(self, site: int, units: int) -> Slot:
        """Room for one more site. Happens when a site is first seen; the counts so far are kept."""
        slot = Slot(site, self.units, units, len(self.slots))
        self.slots.append(slot)
        self.units += units
        if self.units > self._room[0] or len(self.slots) > self._room[1]:
            self._allocate()
        else:
            self._look()
            self._bind(slot)
        return slot

    def seal(self, step: int, full: bool) -> None:
        """Book all rows counted since the last call as those of `step`; `full` if statistics were taken in it."""
        with aside():
            self._seal(step, full)

    def _seal(self, step: int, full: bool) -> None:
        hit = self.open > 0
        rows = self.totals[:, 0] - self._sealed
        self._note_common(hit, rows, step)
        first, last = self.ints[1], self.ints[2]
        last.masked_fill_(hit, step + 1)
        first.masked_fill_(hit & (first == 0), step + 1)
        if full:
            since, undefined = self.ints[5], self.ints[6]
            since.masked_fill_((undefined > 0) & (since == 0), step + 1)
        self.ints[0].add_(self.open.to(torch.int64))
        self.open.zero_()
        self.totals[:, 3].add_(rows != 0)
        self._sealed.copy_(self.totals[:, 0])

    def _note_common(self, hit: Tensor, rows: Tensor, step: int) -> None:
        """Note the units that are common: an exponential mean of their shares of rows inside the gate, over about
        `memory` rows, is above the bound. The mean begins with the first step's share; a drain does not clear it."""
        part = (rows.to(self.float) / self.memory).clamp(max=1)  # whatever the user's default dtype is
        weight = torch.where(self.seen, part, (rows > 0).to(self.float))
        self.seen.logical_or_(rows > 0)
        new = weight / rows.clamp(min=1)  # for each slot, of a row inside the gate
        self.recent.mul_((1 - weight)[self.owner]).addcmul_(self.open, new[self.owner])
        self.ints[7].masked_fill_(hit & (self.recent > self.common), step + 1)

    def pack(self) -> Packed:
        """A copy of everything sealed, as one tensor on the device."""
        with aside():
            return self._pack()

    def _pack(self) -> Packed:
        floats = self.floats.double() if self.float != torch.float64 and self.device.type != "mps" else self.floats
        wide = floats if floats.dtype == torch.float64 else floats.cpu().double()  # MPS: one sync a window
        flat = wide.reshape(-1).view(torch.int64)
        parts = (self.ints.reshape(-1), self.totals.reshape(-1), self.histograms.reshape(-1), flat)
        data = torch.cat([part.to(wide.device) for part in parts])
        ready = None
        if data.device.type != "cpu":
            ready = torch.Event(device=data.device)
            ready.record()
        return Packed(data, tuple((s.site, s.start, s.units) for s in self.slots), self.units, ready)

    def clear(self) -> None:
        with aside():
            for tensor in (self.ints, self.totals, self.histograms, self.floats, self._sealed):
                tensor.zero_()
            self.floats[3].fill_(-torch.inf)

    def _allocate(self) -> None:
        """Twice the room that is needed, so that a model of thousands of sites moves its counts a dozen times."""
        old = dict(vars(self))
        units, count = self._room = (2 * self.units, 2 * len(self.slots))
        # A first pass under inference_mode would make inference tensors, which cannot be written to in training.
        with torch.inference_mode(False), torch.no_grad():
            zeros = partial(torch.zeros, dtype=torch.int64, device=self.device)
            self._all = {
                "ints": zeros((len(_INTS), units)),
                "totals": zeros((count, _TOTALS)),
                "_sealed": zeros(count),  # rows at the last seal
                "histograms": zeros((count, 2, BINS + 1)),
                "floats": torch.zeros(len(_FLOATS), units, dtype=self.float, device=self.device),
                "open": torch.zeros(units, dtype=self.float, device=self.device),
                "recent": torch.zeros(units, dtype=self.float, device=self.device),
                "owner": zeros(units),  # the slot of each unit
                "seen": torch.zeros(count, dtype=torch.bool, device=self.device),  # slots that ran at all
            }
            self._all["floats"][3].fill_(-torch.inf)
            self._look()
            for name in self._all if "ints" in old else ():
                before = old[name]
                getattr(self, name)[tuple(slice(size) for size in before.shape)] = before
            for slot in self.slots:
                self._bind(slot)

    def _look(self) -> None:
        """The part of the room that is in use."""
        whole, units, count = self._all, self.units, len(self.slots)
        self.ints, self.floats, self.open = whole["ints"][:, :units], whole["floats"][:, :units], whole["open"][:units]
        self.recent, self.owner = whole["recent"][:units], whole["owner"][:units]
        self.totals, self.histograms = whole["totals"][:count], whole["histograms"][:count]
        self._sealed, self.seen = whole["_sealed"][:count], whole["seen"][:count]

    def _bind(self, slot: Slot) -> None:
        span = slice(slot.start, slot.start + slot.units)
        slot.open = self.open[span]
        self.owner[span] = slot.index
        for row, name in enumerate(_INTS):
            if name in ("above", "nonfinite", "undefined"):
                setattr(slot, name, self.ints[row, span])
        for row, name in enumerate(_FLOATS):
            setattr(slot, name, self.floats[row, span])
        slot.totals = self.totals[slot.index]
        slot.histogram, slot.output_histogram = self.histograms[slot.index]
