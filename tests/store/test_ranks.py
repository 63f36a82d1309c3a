"""Ranks that each saw a share of the rows are read as one process that saw all of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from making import make_site, make_ticks, same

from deadneuron.records import BINS, HISTOGRAM_EDGES, Tick, Window
from deadneuron.store.ranks import merge_ranks, merge_ticks, weighted_mean
from deadneuron.store.reader import read_folder

UNITS = 5
SITE = make_site(0, UNITS)


def measured(rows: np.ndarray, steps: np.ndarray, first: int, last: int, rank: int) -> Window:
    """The window of pre-activations rows[r, u], row r of step steps[r], by plain counting; some rows are NaN."""
    active, above, nonfinite = (np.zeros(UNITS, dtype=np.int64) for _ in range(3))
    first_active, last_active, since = (np.full(UNITS, -1, dtype=np.int64) for _ in range(3))
    statistics = {name: np.full(UNITS, np.nan) for name in ("mean", "square", "magnitude", "peak")}
    histogram = np.zeros(BINS, dtype=np.int64)
    for u in range(UNITS):
        kept = []
        for value, step in sorted(zip(rows[:, u].tolist(), steps.tolist(), strict=True), key=lambda pair: pair[1]):
            inside = value > 0 or np.isnan(value)
            active[u] += inside
            if inside:
                first_active[u] = step if first_active[u] < 0 else first_active[u]
                last_active[u] = step
            nonfinite[u] += np.isnan(value)
            since[u] = step if np.isnan(value) and since[u] < 0 else since[u]
            above[u] += value > 3
            if not np.isnan(value):
                kept.append(value)
                histogram[int(np.searchsorted(HISTOGRAM_EDGES, value))] += 1
        if kept:
            statistics["mean"][u] = sum(kept) / len(kept)
            statistics["square"][u] = sum(v * v for v in kept) / len(kept)
            statistics["magnitude"][u] = sum(max(v, 0.0) for v in kept) / len(kept)
            statistics["peak"][u] = max(kept)
    return Window(
        site=0,
        phase="train",
        rank=rank,
        first_step=first,
        last_step=last,
        steps=last - first + 1,
        samples=len(rows),
        rows=len(rows),
        active=active,
        first_active=first_active,
        last_active=last_active,
        sampled_rows=len(rows),
        above=above,
        nonfinite=nonfinite,
        first_nonfinite=since,
        histogram=histogram,
        output_histogram=None,
        last_common=last_active,  # as if common whenever active: then the merged ranks' is the one process's
        flow=active * 2,
        last_flow=last_active,
        **statistics,
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(1, 13), min_size=2, max_size=3),
    bad=st.floats(0, 0.9),
    shift=st.floats(-3, 3),
)
def test_merged_ranks_equal_one_process(seed, counts, bad, shift):
    chance = np.random.default_rng(seed)
    rows = chance.normal(shift, 2, size=(sum(counts), UNITS))
    rows[chance.random(rows.shape) < bad] = np.nan
    steps = chance.integers(20, 30, size=len(rows))
    edges = np.cumsum([0, *counts])
    shares = [measured(rows[a:b], steps[a:b], 20, 29, rank) for rank, (a, b) in enumerate(pairwise(edges))]
    (merged,) = merge_ranks(shares)
    assert same(merged, measured(rows, steps, 20, 29, 0), relative=1e-9)
    assert same(tuple(merge_ranks(shares[::-1])), (merged,), relative=1e-9)


def test_a_rank_that_was_killed_earlier_adds_what_it_has():
    chance = np.random.default_rng(0)
    long = measured(chance.normal(size=(7, UNITS)), np.arange(7), 0, 9, 0)
    short = measured(chance.normal(size=(3, UNITS)), np.arange(3), 0, 4, 1)
    (merged,) = merge_ranks([long, short])
    assert merged.last_step == 9
    assert merged.samples == 10


def test_phases_sites_and_steps_are_kept_apart():
    rows, steps = np.ones((3, UNITS)), np.zeros(3, dtype=int)
    base = measured(rows, steps, 0, 4, 0)
    made = [base, replace(base, phase="eval"), replace(base, site=1), replace(base, first_step=5, last_step=9)]
    merged = merge_ranks(made[::-1])
    assert [(w.site, w.phase, w.first_step) for w in merged] == [
        (0, "eval", 0),
        (0, "train", 0),
        (0, "train", 5),
        (1, "train", 0),
    ]
    assert all(w.samples == 3 for w in merged)


def test_columns_that_one_rank_lacks_are_the_others():
    rows, steps = np.ones((3, UNITS)), np.zeros(3, dtype=int)
    full = measured(rows, steps, 0, 4, 0)
    bare = replace(full, rank=1, peak=None, flow=None, last_flow=None)
    (merged,) = merge_ranks([bare, full])
    assert same(merged.peak, full.peak)
    assert same(merged.flow, full.flow)
    (none,) = merge_ranks([bare, bare])
    assert none.peak is None
    assert none.last_flow is None


def test_a_mean_over_no_rows_is_a_nan_and_infinities_pass_without_a_warning():
    mean = weighted_mean(
        [np.array([np.nan, np.inf, np.inf, 1.0, np.inf]), np.array([np.nan, -np.inf, 2.0, 3.0, 0.0])],
        [np.array([0, 1, 1, 1, 0]), np.array([0, 1, 1, 3, 2])],
    )
    assert same(mean, np.array([np.nan, np.nan, np.inf, 2.5, 0.0]))


def test_ticks_of_ranks_are_one_a_step_and_the_first_ranks():
    first = make_ticks([0.1] * 5, loss=1.0)
    second = [Tick(step, 0.0, (0.1,), loss=2.0) for step in range(7)]
    merged = merge_ticks([*first, *second])
    assert [tick.step for tick in merged] == list(range(7))
    assert [tick.loss for tick in merged] == [1.0] * 5 + [2.0] * 2


def test_a_folder_of_two_ranks_is_read_as_one_run(folder):
    chance = np.random.default_rng(0)
    rows, steps = chance.normal(size=(10, UNITS)), np.repeat([0, 1], 5)
    folder.part("windows", [measured(rows[::2], steps[::2], 0, 1, 0)], rank=0)
    folder.part("windows", [measured(rows[1::2], steps[1::2], 0, 1, 1)], rank=1)
    for rank in (0, 1):
        folder.part("ticks", make_ticks([0.1] * 2), rank=rank)
        folder.open([measured(rows[:1], np.array([2]), 2, 2, rank)], rank=rank)
    run = read_folder(folder.path)
    assert same(run.windows[0], measured(rows, steps, 0, 1, 0), relative=2.0**-9)
    assert [(w.first_step, w.samples) for w in run.windows] == [(0, 10), (2, 2)]
    assert [tick.step for tick in run.ticks] == [0, 1]
