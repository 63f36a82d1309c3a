"""Counting on the tensors themselves: additive, on the device, without a sync.

Comparisons are written into a tensor of the input's own dtype (`out=`): on a CPU that path is vectorised, and the
count is then a plain float sum. Beside `(x <= 0).sum(...)` it takes a third to a fifth of the time
(benchmarks/counting.py measures it).
"""

from __future__ import annotations

import math
import threading
from functools import cache

import numpy as np
import torch
from torch import Tensor

from deadneuron.measure.gates import Gate
from deadneuron.records import BINS, HISTOGRAM_EDGES, ZERO_BIN

_EXACT_FLOAT32 = 2**24  # rows: beyond it float32 no longer counts by ones
_CODES = 1024  # sign, 8 bits of exponent, 1 bit of mantissa


class Scratch:
    """One reusable buffer a dtype for a comparison's result; on a CPU a fresh large tensor costs its page faults.

    Each thread has its own: torch lets other threads run while it fills one.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    @property
    def _buffers(self) -> dict[torch.dtype, Tensor]:
        try:
            return self._own.buffers  # type: ignore[no-any-return]
        except AttributeError:
            self._own.buffers = {}
            return self._buffers

    def clear(self) -> None:
        self._own = threading.local()

    def like(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":  # caching allocators hand out memory for nothing, and streams may overlap
            return torch.empty_like(x)
        order = _memory_order(x)
        if order is None:
            return torch.empty_like(x)
        buffer = self._buffers.get(x.dtype)
        if buffer is None or buffer.numel() < x.numel():
            with torch.inference_mode(False):  # a buffer made in inference mode could not be written to in training
                buffer = self._buffers[x.dtype] = torch.empty(x.numel(), dtype=x.dtype, device=x.device)
        return torch.as_strided(buffer, x.shape, x.stride())


def _memory_order(x: Tensor) -> tuple[int, ...] | None:
    """The axes from slowest to fastest if x fills one block of memory (contiguous, channels_last …), else None."""
    strides = x.stride()
    axes = sorted((i for i, size in enumerate(x.shape) if size != 1), key=strides.__getitem__, reverse=True)
    expected = 1
    for axis in reversed(axes):
        if strides[axis] != expected:
            return None
        expected *= x.shape[axis]
    return tuple(axes)


def count_closed(x: Tensor, dims: tuple[int, ...], gate: Gate, low: Tensor | None, scratch: Scratch) -> Tensor | None:
    """Rows outside the gate for each unit: a float tensor [units] of whole numbers, or None if the gate has no end.

    `dims` are all axes but the unit axis. A NaN is on neither side of an end, so it is not closed. `low` overrides
    the gate's lower end for each unit (PReLU); it must broadcast against x.
    """
    lower = low if low is not None else (None if math.isinf(gate[0]) else _end(gate[0], x.dtype, -math.inf))
    upper = None if math.isinf(gate[1]) else _end(gate[1], x.dtype, math.inf)
    closed = None
    if lower is not None:
        closed = _count(torch.le(x, lower, out=scratch.like(x)), dims)
    if upper is not None:
        above = _count(torch.ge(x, upper, out=scratch.like(x)), dims)
        closed = above if closed is None else closed + above
    return closed


def count_above(x: Tensor, dims: tuple[int, ...], gate: Gate, scratch: Scratch) -> Tensor | None:
    """Rows at or beyond the gate's upper end for each unit, or None if it has none."""
    upper = None if math.isinf(gate[1]) else _end(gate[1], x.dtype, math.inf)
    return None if upper is None else _count(torch.ge(x, upper, out=scratch.like(x)), dims)


@cache
def _end(end: float, dtype: torch.dtype, outwards: float) -> float:
    """The last number of `dtype` outside of a gate: a comparison would round its end to the nearest, maybe inwards."""
    number = torch.tensor(end, dtype=dtype, device="cpu")
    if number.item() > end > outwards or number.item() < end < outwards:
        number = torch.nextafter(number, torch.tensor(outwards, dtype=dtype, device="cpu"))
    return number.item()


def count_nonfinite(x: Tensor, dims: tuple[int, ...], scratch: Scratch) -> Tensor:
    """Rows that are NaN or Inf for each unit: x - x is 0 where x is finite and NaN elsewhere, and NaN ≠ 0."""
    difference = torch.sub(x, x, out=scratch.like(x))
    return _count(torch.ne(difference, 0, out=difference), dims)


def _count(flags: Tensor, dims: tuple[int, ...]) -> Tensor:
    if not dims:  # one example without a batch axis: the flags are the counts, and lie in the scratch buffer
        return flags.to(torch.float64, copy=True)
    rows = math.prod(flags.shape[d] for d in dims)
    small = rows < _EXACT_FLOAT32 and flags.dtype != torch.float64
    return flags.sum(dims, dtype=torch.float32 if small else torch.float64)


def sums(x: Tensor, dims: tuple[int, ...], scratch: Scratch) -> tuple[Tensor, Tensor, Tensor]:
    """(sum, sum of squares, maximum) for each unit over finite values; the maximum is NaN or Inf where a row is."""
    peak = x.amax(dims) if dims else x
    finite = _finite(x, scratch)
    total = _sum(finite, dims)
    return total, _sum(finite.mul_(finite), dims), peak


def magnitude(output: Tensor, dims: tuple[int, ...], scratch: Scratch) -> Tensor:
    """Sum of |output| for each unit, non-finite values left out."""
    return _sum(_finite(output, scratch).abs_(), dims)


def _finite(x: Tensor, scratch: Scratch) -> Tensor:
    """A copy of x in at least float32 that may be written to, with 0 for what is not finite."""
    if x.dtype not in (torch.float32, torch.float64):  # sums of half floats would round and overflow
        return x.to(torch.float32, copy=True).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0, out=scratch.like(x))


def _sum(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    return values.sum(dims) if dims else values.clone()


def histogram(x: Tensor, scratch: Scratch) -> Tensor:
    """[BINS + 1] counts of all values of x over HISTOGRAM_EDGES; the last entry holds the NaN.

    A float32's highest bits are its sign, exponent and first mantissa bit: shifted right they number the half octaves,
    and counting integers is ten times faster than a search among edges. Taking 1 off the bits first moves every value
    on an edge into the bin nearer to zero; adding 0.0 before turns -0.0 into +0.0, whose bits minus 1 are all ones.
    A NaN may have any bits below its exponent, those of zero minus 1 too: it is counted apart, as a zero too many.
    """
    missing = torch.ne(x, x, out=scratch.like(x)).sum(dtype=torch.float64).to(torch.int64)
    values = scratch.like(x) if x.dtype == torch.float32 else torch.empty_like(x, dtype=torch.float32)
    torch.nan_to_num(x.float(), nan=0.0, posinf=math.inf, neginf=-math.inf, out=values).add_(0.0)
    # A cast to bfloat16 can make a NaN with all bits set, which would pass for a zero: all NaN become the usual one.
    values.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=-math.inf)
    # Fresh or scratch, it fills one block of memory; in which order its values are counted does not matter.
    bits = values.as_strided((values.numel(),), (1,)).view(torch.int32)
    codes = bits.sub_(1).bitwise_right_shift_(22).bitwise_and_(_CODES - 1)
    if codes.device.type == "cpu":
        counts = torch.bincount(codes, minlength=_CODES)
    else:  # bincount asks the host for the largest code
        counts = torch.zeros(_CODES, dtype=torch.int64, device=codes.device)
        counts.scatter_add_(0, codes.long(), torch.ones_like(codes, dtype=torch.int64))
    folded = torch.zeros(BINS + 1, dtype=torch.int64, device=codes.device)
    folded.index_add_(0, _fold(codes.device), counts)
    folded[ZERO_BIN] -= missing
    folded[BINS] = missing
    return folded


def _make_fold() -> list[int]:
    fold = []
    for code in range(_CODES):
        negative, exponent, half = code >> 9, (code >> 1) & 0xFF, code & 1
        if code == _CODES - 1:
            fold.append(ZERO_BIN)
        else:
            middle = math.ldexp(1.25 + 0.5 * half, exponent - 127)
            fold.append(int(np.searchsorted(HISTOGRAM_EDGES, -middle if negative else middle)))
    return fold


_FOLD = tuple(_make_fold())
_folds: dict[torch.device, Tensor] = {}  # a constant, copied to each device once


def _fold(device: torch.device) -> Tensor:
    if device not in _folds:
        with torch.inference_mode(False):
            _folds[device] = torch.tensor(_FOLD, device=device)
    return _folds[device]
