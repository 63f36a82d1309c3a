"""Rows of views: whatever the strides, what is read is what torch makes of the same storage."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deadneuron.checkpoints.files.described import Rebuilt, Storage
from deadneuron.checkpoints.files.opened import OpenFile, Span
from deadneuron.checkpoints.files.views import contiguous, stored
from deadneuron.errors import CheckpointError

AHEAD = 13  # bytes before the storage


@st.composite
def views(draw):
    """(shape, strides, offset) with any strides, and the elements that they need."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    strides = tuple(draw(st.lists(st.integers(0, 17), min_size=len(shape), max_size=len(shape))))
    offset = draw(st.integers(0, 19))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return shape, strides, offset, offset if 0 in shape else last + 1


def view_of(tmp_path_factory, elements, shape, strides, offset):
    path = tmp_path_factory.mktemp("view") / "file"
    values = torch.arange(elements, dtype=torch.int16)
    path.write_bytes(bytes(AHEAD) + values.numpy().tobytes() + bytes(5000))
    kind = torch.int16
    rebuilt = Rebuilt(Storage("0", kind), kind, offset, shape, strides)
    return values, stored(rebuilt, OpenFile(path), Span(AHEAD, elements * kind.itemsize), "weight")


@settings(max_examples=150, deadline=None)
@given(views(), st.data())
def test_rows_are_those_of_torch(tmp_path_factory, view, data):
    shape, strides, offset, elements = view
    values, found = view_of(tmp_path_factory, elements, shape, strides, offset)
    truth = values.as_strided(shape, strides, offset)
    assert torch.equal(found.whole(), truth)
    if shape:
        first = data.draw(st.integers(0, shape[0]))
        last = data.draw(st.integers(first, shape[0]))
        rows = found.read(first, last)
        assert torch.equal(rows, truth[first:last])
        assert rows.is_contiguous()


@settings(max_examples=60, deadline=None)
@given(views())
def test_one_element_less_is_refused(tmp_path_factory, view):
    shape, strides, offset, elements = view
    if 0 in shape:
        return
    with pytest.raises(CheckpointError, match="more numbers than its storage holds"):
        view_of(tmp_path_factory, elements - 1, shape, strides, offset)


def test_contiguous_strides_are_those_of_torch():
    for shape in [(), (7,), (2, 3), (2, 3, 5), (1, 7, 1)]:
        assert contiguous(shape) == torch.empty(shape).stride()


def test_rows_are_read_without_the_rest(tmp_path, monkeypatch):
    """A row of a contiguous tensor, of a transposed one, and of channels-last weights: how many bytes are touched."""
    path = tmp_path / "file"
    path.write_bytes(torch.arange(13 * 70, dtype=torch.int16).numpy().tobytes())
    file = OpenFile(path)
    touched = []
    real = OpenFile.read_into
    monkeypatch.setattr(OpenFile, "read_into", lambda self, to, at: (touched.append(len(to)), real(self, to, at))[1])
    kind = torch.int16
    for strides, shape in [((70, 1), (13, 70)), ((1, 13), (13, 70)), ((70, 1, 14, 7), (13, 7, 5, 2))]:
        rebuilt = Rebuilt(Storage("0", kind), kind, 0, shape, strides)
        touched.clear()
        stored(rebuilt, file, Span(0, 13 * 70 * 2), "weight").read(3, 4)
        assert sum(touched) <= 70 * 2 * 2, strides
