"""Histograms as TensorBoard gets them, against counts of the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from making import make_site, make_window
from torch import nn

from deadneuron.measure.gates import edge_outputs
from deadneuron.records import BINS, HISTOGRAM_EDGES, ZERO_BIN
from deadneuron.sinks.buckets import output_buckets, share_at_zero, to_buckets

MONOTONE = [
    *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.CELU(), nn.Softplus(), nn.Hardtanh()),
    *(nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(), nn.Softsign(), nn.LogSigmoid(), nn.Threshold(0.5, 0.5)),
]


def binned(values):
    """Counts over HISTOGRAM_EDGES by the rule of the records: a value on an edge belongs to the bin nearer to zero."""
    counts = np.zeros(BINS, dtype=np.int64)
    for value in values:
        side = "left" if value >= 0 else "right"
        counts[int(np.searchsorted(HISTOGRAM_EDGES, value, side=side))] += 1
    return counts


def window_of(site, values, **changes):
    return make_window(site, 0, 0, [[1] * site.units], histogram=binned(values), **changes)


@pytest.mark.parametrize("module", MONOTONE, ids=lambda m: type(m).__name__)
def test_buckets_of_outputs_hold_the_outputs_that_the_activation_makes(module):
    x = torch.cat([torch.randn(701) * 4, torch.randn(211) * 90, torch.tensor([0.0, -300.0, 300.0, 7.3])]).double()
    made = output_buckets(make_site(outputs=edge_outputs(module)), window_of(make_site(), x.tolist()))
    outputs = module(x).numpy()
    assert sum(made.counts) == len(x)
    assert (np.diff([made.low, *made.limits]) > 2.0**-15).all(), "TensorBoard drops a bucket without width"
    assert np.isfinite([made.low, *made.limits]).all()
    assert made.counts[0] > 0
    assert made.counts[-1] > 0
    slack = 2.0**-13  # a bin's end may be moved by this
    inner = outputs[(x.numpy() >= -256) & (x.numpy() <= 256)]
    assert made.low - slack <= inner.min()
    assert made.limits[-1] + slack >= inner.max()
    for i, limit in enumerate(made.limits[:-1]):
        below = sum(made.counts[: i + 1])
        assert np.sum(outputs <= limit - slack) <= below <= np.sum(outputs <= limit + slack)


def test_all_of_relus_negative_side_is_one_bucket_that_ends_at_zero():
    values = [-300.0, -1.0, -1e-9, 0.0, 0.7, 0.7, 300.0]
    made = output_buckets(make_site(outputs=edge_outputs(nn.ReLU())), window_of(make_site(), values))
    assert (made.low, made.limits[0], made.counts[0]) == (-(2.0**-14), 0.0, 4)
    assert dict(zip(made.limits, made.counts, strict=True))[0.75] == 2
    assert (made.limits[-2:], made.counts[-1]) == ((256.0, 320.0), 1)


def test_both_flat_ends_stand_alone():
    values = [-9.0, -9.0, 0.1, 5.9, 6.1, 700.0]
    made = output_buckets(make_site(outputs=edge_outputs(nn.ReLU6())), window_of(make_site(), values))
    assert made.counts[0] == 2
    assert made.limits[-2:] == (6.0, 6.0 + 2.0**-14)
    assert made.counts[-2:] == (1, 2)


def test_a_histogram_of_outputs_keeps_its_own_edges_and_drops_empty_ends():
    outputs = binned([-0.17, -0.1, 0.0, 2.5, 2.9])
    window = make_window(make_site(), 0, 0, [[1] * 7], histogram=binned([1.0]), output_histogram=outputs)
    made = output_buckets(make_site(op="GELU"), window)
    assert (made.low, made.limits[0]) == (-0.1875, -0.125)
    assert made.limits[-1] == 3.0
    assert sum(made.counts) == 5
    inner = to_buckets(HISTOGRAM_EDGES.tolist(), outputs)
    assert inner.counts == tuple(outputs)
    assert inner.limits[:-1] == tuple(HISTOGRAM_EDGES)


def test_nothing_counted_or_nothing_known_is_no_histogram():
    site = make_site(outputs=edge_outputs(nn.ReLU()))
    assert output_buckets(site, window_of(site, [])) is None
    assert share_at_zero(window_of(site, [])) is None
    assert output_buckets(make_site(op="PReLU", outputs=None), window_of(site, [1.0])) is None


def test_the_share_at_zero_holds_zero_itself():
    assert share_at_zero(window_of(make_site(), [-2.0, 0.0, 1e-9, 5.0, 7.0])) == pytest.approx(2 / 5)
    assert binned([0.0])[ZERO_BIN] == 1


def test_an_activation_that_is_flat_everywhere_is_one_bucket_and_an_empty_one():
    made = to_buckets([0.5] * len(HISTOGRAM_EDGES), binned([-1.0, 3.0, 500.0]))
    assert sum(made.counts) == 3
    assert list(made.limits) == sorted(set(made.limits))
