"""Every count against plain Python that walks over all positions, on shapes, dtypes and layouts of any kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import active_by_hand, histogram_by_hand, rows_of

from deadneuron.measure import counters
from deadneuron.measure.counters import Scratch
from deadneuron.records import BINS, HISTOGRAM_EDGES, ZERO_BIN

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
GATES = [(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, 2.0), (-3.0, math.inf), (-math.inf, math.inf)]
GATES += [(0.1, math.inf), (-0.3, 0.7)]  # whose ends no dtype holds but the widest
# Exact in every dtype: zeros of both signs, ends of gates and their neighbours, edges of bins, what is no number.
VALUES = [0.0, -0.0, 1.0, -1.0, 2.0, 6.0, -3.0, 0.5, -0.5, 1.5, -1.5, 2.0**-12, -(2.0**-12), 2.0**-14, -(2.0**-14)]
VALUES += [0.1, -0.3, 0.7]
VALUES += [math.nan, math.inf, -math.inf, 256.0, -256.0, 300.0, -1024.0, 5.9375, 6.0625, 0.99609375, 1.0078125]

layouts = st.sampled_from(["contiguous", "channels last", "transposed", "sliced", "expanded"])


@st.composite
def pre_activations(draw):
    """(tensor, unit axis): up to four axes, in one of several memory layouts."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 5, 7]), min_size=1, max_size=4)))
    dtype = draw(st.sampled_from(DTYPES))
    size = math.prod(shape)
    special = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=40))
    noise = np.random.default_rng(draw(st.integers(0, 2**16))).normal(size=size) * 10.0 ** draw(st.integers(-5, 2))
    mask = np.arange(size) % draw(st.integers(1, 3)) == 0
    flat = np.where(mask, np.resize(np.array(special), size), noise)
    x = torch.tensor(flat, dtype=dtype).reshape(shape)
    return lay_out(x, draw(layouts)), draw(st.integers(0, len(shape) - 1))


def lay_out(x, layout):
    if layout == "channels last" and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "transposed" and x.dim() > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "sliced":
        return torch.stack([x, x + 1], -1)[..., 0]
    if layout == "expanded":
        return x[:1].expand(x.shape)
    return x


def others(x, axis):
    return tuple(i for i in range(x.dim()) if i != axis)


def same(counted, expected):
    assert counted.dim() == 1
    assert counted.double().tolist() == [float(count) for count in expected]


@settings(max_examples=150, deadline=None)
@given(pre_activations(), st.sampled_from(GATES))
def test_active_rows_are_those_inside_the_gate(made, gate):
    x, axis = made
    before = x.clone()
    rows = x.numel() // x.shape[axis]
    closed = counters.count_closed(x, others(x, axis), gate, None, Scratch())
    if closed is None:
        assert gate == (-math.inf, math.inf)
        closed = torch.zeros(x.shape[axis])
    same(rows - closed, active_by_hand(x, axis, gate))
    scratch = Scratch()
    counters.sums(x, others(x, axis), scratch)
    counters.magnitude(x, others(x, axis), scratch)
    counters.histogram(x, scratch)
    assert torch.equal(x.nan_to_num(7.5), before.nan_to_num(7.5)), "counting must not write on the user's tensor"


@settings(max_examples=100, deadline=None)
@given(pre_activations(), st.sampled_from(GATES))
def test_rows_above_are_those_at_or_beyond_the_upper_end(made, gate):
    x, axis = made
    above = counters.count_above(x, others(x, axis), gate, Scratch())
    if gate[1] == math.inf:
        assert above is None
    else:
        same(above, [sum(value >= gate[1] for value in row) for row in rows_of(x, axis)])


@settings(max_examples=100, deadline=None)
@given(pre_activations())
def test_nonfinite_rows_are_nan_and_both_infinities(made):
    x, axis = made
    counted = counters.count_nonfinite(x, others(x, axis), Scratch())
    same(counted, [sum(not math.isfinite(value) for value in row) for row in rows_of(x, axis)])


@settings(max_examples=100, deadline=None)
@given(pre_activations())
def test_sums_are_those_of_the_finite_values_and_the_peak_is_their_maximum(made):
    x, axis = made
    total, square, peak = counters.sums(x, others(x, axis), Scratch())
    magnitude = counters.magnitude(x, others(x, axis), Scratch())
    for unit, row in enumerate(rows_of(x, axis)):
        finite = [value for value in row if math.isfinite(value)]
        assert float(total[unit]) == pytest.approx(sum(finite), rel=1e-5, abs=1e-4)
        assert float(square[unit]) == pytest.approx(sum(value * value for value in finite), rel=1e-5, abs=1e-4)
        assert float(magnitude[unit]) == pytest.approx(sum(abs(value) for value in finite), rel=1e-5, abs=1e-4)
        if len(finite) == len(row):
            assert float(peak[unit]) == max(row)
        else:
            assert not math.isfinite(float(peak[unit])) or max(row) == float(peak[unit])


@settings(max_examples=150, deadline=None)
@given(pre_activations())
def test_the_histogram_puts_every_value_into_its_bin(made):
    x, _ = made
    counted = counters.histogram(x, Scratch()).numpy()
    assert counted[:BINS].tolist() == histogram_by_hand(x).tolist()
    assert counted[BINS] == int(x.isnan().sum())
    assert counted.sum() == x.numel()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_edge_belongs_to_the_bin_nearer_to_zero_and_zero_to_the_bin_below(dtype):
    for number, edge in enumerate(HISTOGRAM_EDGES):
        counted = counters.histogram(torch.tensor([edge], dtype=dtype), Scratch())
        assert counted.nonzero().item() == number + (edge < 0)
    assert counters.histogram(torch.tensor([-0.0], dtype=dtype), Scratch()).nonzero().item() == ZERO_BIN


@pytest.mark.parametrize("bits", [-1, -64, 32704, 32767, -128 + 1])
def test_every_pattern_of_bits_that_is_a_nan_is_counted_as_nan(bits):
    """bfloat16 casts of NaN set all bits; its sign and payload must not make it a zero."""
    x = torch.full((7,), bits, dtype=torch.int16).view(torch.bfloat16)
    assert x.isnan().all()
    assert counters.histogram(x, Scratch()).nonzero().tolist() == [[BINS]]
    assert counters.histogram(x.float(), Scratch()).nonzero().tolist() == [[BINS]]


def test_between_its_edges_the_histogram_is_numpys():
    x = torch.randn(100_003) * 3
    counted = counters.histogram(x, Scratch()).numpy()
    edges = np.concatenate([[-np.inf], HISTOGRAM_EDGES, [np.inf]])
    assert counted[:BINS].tolist() == np.histogram(x.double().numpy(), edges)[0].tolist()


def test_the_bins_up_to_zero_hold_exactly_what_relu_closes():
    x = torch.cat([torch.randn(997) * 1e-3, torch.zeros(13), torch.tensor([5e-324, -5e-324]).float()])
    assert int(counters.histogram(x, Scratch())[: ZERO_BIN + 1].sum()) == int((x <= 0).sum())


def test_a_learned_lower_end_counts_each_unit_by_its_own():
    x = torch.randn(7, 5, 11)
    low = torch.tensor([0.0, -math.inf, 0.5, -1.0, 100.0]).reshape(1, 5, 1)
    closed = counters.count_closed(x, (0, 2), (-math.inf, math.inf), low, Scratch())
    same(closed, (x <= low).sum((0, 2)).tolist())
    assert closed[1] == 0
    assert closed[4] == 77


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_learned_lower_end_may_have_another_dtype_than_the_input(dtype):
    x = torch.randn(7, 5).to(dtype)
    low = torch.zeros(1, 5)
    same(counters.count_closed(x, (0,), (-math.inf, math.inf), low, Scratch()), (x <= 0).sum(0).tolist())


def test_counts_of_many_rows_leave_float32_before_it_stops_counting_by_ones(monkeypatch):
    x = torch.ones(7, 5)
    assert counters.count_nonfinite(x, (0,), Scratch()).dtype == torch.float32
    monkeypatch.setattr(counters, "_EXACT_FLOAT32", 7)
    closed = counters.count_closed(-x, (0,), (0.0, math.inf), None, Scratch())
    assert closed.dtype == torch.float64
    same(closed, [7] * 5)


def test_a_scratch_buffer_serves_tensors_of_all_sizes_one_after_the_other():
    scratch = Scratch()
    for shape in [(7, 5), (3, 5), (11, 5, 13), (1, 5), (5,)]:
        x = torch.randn(shape)
        axis = min(1, x.dim() - 1)
        closed = counters.count_closed(x, others(x, axis), (-0.5, 0.5), None, scratch)
        same(math.prod(shape) // 5 - closed, active_by_hand(x, axis, (-0.5, 0.5)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_count_of_one_example_without_a_batch_axis_survives_the_next_count(dtype):
    scratch = Scratch()
    x = torch.tensor([-1.0, 0.25, 3.0, 7.0, -2.0], dtype=dtype)
    closed = counters.count_closed(x, (), (0.0, 6.0), None, scratch)
    counters.count_nonfinite(x, (), scratch)
    same(closed, [1, 0, 0, 1, 1])


def test_a_buffer_first_used_in_inference_mode_serves_in_training():
    scratch = Scratch()
    with torch.inference_mode():
        counters.count_closed(torch.randn(7, 5), (0,), (0.0, math.inf), None, scratch)
    x = torch.randn(7, 5)
    same(counters.count_closed(x, (0,), (0.0, math.inf), None, scratch), (x <= 0).sum(0).tolist())
