"""Rows of a tensor, read from where its storage lies in a file: nothing is read that was not asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.files.described import Rebuilt
from deadneuron.checkpoints.files.opened import OpenFile, Span
from deadneuron.errors import CheckpointError

_LONGEST = 2**62  # elements or bytes: what is counted here stays within 64 bits
_WASTE = 2  # a run is read at once while at most so many times the wanted elements lie in it


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor as a view of a storage that lies at `span` of the file; strides and offset in elements."""

    file: OpenFile
    span: Span
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def stored(rebuilt: Rebuilt, file: OpenFile, span: Span, name: str) -> Stored:
    """The tensor, not read yet, whose storage lies at `span`; `name` is for messages.

    Raises `CheckpointError` where it does not lie within its storage, or its storage not within the file.
    """
    view = _View(file, span, rebuilt.dtype, rebuilt.offset, rebuilt.shape, rebuilt.strides)
    fault = _fault(view)
    if fault:
        raise CheckpointError(f"{name}: {fault}", where=file.place, todo="the file is damaged: save it again")
    return Stored(view.shape, view.dtype, lambda first, last: _read(view, first, last))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides [elements] of a row-major tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _fault(view: _View) -> str:
    """What is wrong with the claimed view; empty if nothing."""
    if len(view.shape) != len(view.strides):
        return "its shape and its strides differ in length"
    if min((view.offset, view.span.start, view.span.length, *view.shape, *view.strides), default=0) < 0:
        return "a negative size, stride or offset"
    if view.span.start + view.span.length > view.file.size:
        return "its numbers lie beyond the end of the file"
    if math.prod(size or 1 for size in view.shape) > _LONGEST or view.offset > _LONGEST:
        return "a size that no tensor has"
    if 0 in view.shape:
        return ""
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if (last + 1) * view.dtype.itemsize > view.span.length:
        return "it claims more numbers than its storage holds"
    if math.prod(view.shape) * view.dtype.itemsize > view.file.size:
        return "it claims more numbers than the file holds"  # expanded without end: stride 0
    return ""


def _read(view: _View, first: int, last: int) -> Tensor:
    """Entries first … last-1 of the first axis, [last - first, *shape[1:]]; a scalar as shape [1]."""
    shape, strides = (view.shape, view.strides) if view.shape else ((1,), (1,))
    if not 0 <= first <= last <= shape[0]:
        raise IndexError(f"rows {first} to {last} of {shape[0]}")
    sizes = (last - first, *shape[1:])
    offset = view.offset + first * strides[0]
    if 0 in sizes:
        return torch.empty(sizes, dtype=view.dtype)
    if strides == contiguous(shape):
        return _run(view, offset, math.prod(sizes)).view(sizes)
    # The axes from the widest stride to the narrowest: the inner ones make one run, the outer ones are looped over.
    axes = sorted(range(len(sizes)), key=lambda axis: -strides[axis])
    split = next(at for at in range(len(axes) + 1) if _dense([(sizes[a], strides[a]) for a in axes[at:]]))
    outer, inner = axes[:split], axes[split:]
    result = torch.empty(sizes, dtype=view.dtype)
    turned = result.permute(*outer, *inner)
    length = _span([(sizes[axis], strides[axis]) for axis in inner])
    for index in itertools.product(*(range(sizes[axis]) for axis in outer)):
        place = offset + sum(number * strides[axis] for number, axis in zip(index, outer, strict=True))
        run = _run(view, place, length)
        turned[index] = run.as_strided([sizes[axis] for axis in inner], [strides[axis] for axis in inner])
    return result


def _span(axes: Sequence[tuple[int, int]]) -> int:
    """Elements from the first to the last of axes of (size, stride)."""
    return 1 + sum((size - 1) * stride for size, stride in axes)


def _dense(axes: Sequence[tuple[int, int]]) -> bool:
    return _span(axes) <= _WASTE * math.prod(size for size, _ in axes)


def _run(view: _View, offset: int, elements: int) -> Tensor:
    """Elements that follow one another in the storage, [elements]."""
    raw = torch.empty(elements * view.dtype.itemsize, dtype=torch.uint8)
    view.file.read_into(raw.numpy().data, view.span.start + offset * view.dtype.itemsize)
    return raw.view(view.dtype)
