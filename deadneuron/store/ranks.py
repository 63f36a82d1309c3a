"""Windows of several ranks, merged into those that one process would have written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from deadneuron.records import Floats, Ints, Tick, Window


def merge_ranks(windows: Iterable[Window]) -> list[Window]:
    """One window for each (site, phase, first step): counts add up, first and last steps are the outermost."""
    groups: dict[tuple[int, str, int], list[Window]] = {}
    for window in windows:
        groups.setdefault((window.site, window.phase, window.first_step), []).append(window)
    merged = [group[0] if len(group) == 1 else _merge(group) for group in groups.values()]
    return sorted(merged, key=lambda w: (w.site, w.phase, w.first_step))


def merge_ticks(ticks: Iterable[Tick]) -> list[Tick]:
    """One tick a step: all ranks take the same steps at the same rates, so the first rank's stands for all.

    Each rank has outputs of its own: they were finite if every rank's were.
    """
    by_step: dict[int, Tick] = {}
    for tick in ticks:
        known = by_step.setdefault(tick.step, tick)
        if tick.finite is False and known.finite is not False:
            by_step[tick.step] = replace(known, finite=False)
    return sorted(by_step.values(), key=lambda tick: tick.step)


def weighted_mean(values: Sequence[Floats], weights: Sequence[Ints]) -> Floats:
    """The mean of means [n, units], each over its number of rows; a NaN, the mean of no rows, has no weight."""
    stacked = np.asarray(values, dtype=float)
    weight = np.where(np.isnan(stacked), 0.0, np.asarray(weights, dtype=float))
    total = weight.sum(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged net's means may be Inf, of both signs
        products = np.where(weight > 0, stacked, 0.0) * weight
        return np.where(total > 0, products.sum(axis=0) / np.where(total > 0, total, 1), np.nan)


def finite_rows(window: Window) -> Ints:
    """How many rows a window's means are over, for each unit."""
    return np.asarray(window.sampled_rows - window.nonfinite, dtype=np.int64)


def _merge(group: Sequence[Window]) -> Window:
    weights = [finite_rows(w) for w in group]
    outputs = [w.output_histogram for w in group if w.output_histogram is not None]
    peaks = [w.peak for w in group if w.peak is not None]
    common = [w.last_common for w in group if w.last_common is not None]
    flows = [w.flow for w in group if w.flow is not None]
    last_flows = [w.last_flow for w in group if w.last_flow is not None]
    return replace(
        group[0],
        rank=0,
        last_step=max(w.last_step for w in group),
        steps=max(w.steps for w in group),
        samples=sum(w.samples for w in group),
        rows=sum(w.rows for w in group),
        sampled_rows=sum(w.sampled_rows for w in group),
        active=_total([w.active for w in group]),
        first_active=_first([w.first_active for w in group]),
        last_active=np.max([w.last_active for w in group], axis=0),
        above=_total([w.above for w in group]),
        nonfinite=_total([w.nonfinite for w in group]),
        first_nonfinite=_first([w.first_nonfinite for w in group]),
        mean=weighted_mean([w.mean for w in group], weights),
        square=weighted_mean([w.square for w in group], weights),
        magnitude=weighted_mean([w.magnitude for w in group], weights),
        peak=np.fmax.reduce(peaks) if peaks else None,
        histogram=_total([w.histogram for w in group]),
        output_histogram=_total(outputs) if outputs else None,
        last_common=np.max(common, axis=0) if common else None,
        flow=_total(flows) if flows else None,
        last_flow=np.max(last_flows, axis=0) if last_flows else None,
    )


def _total(arrays: Sequence[Ints]) -> Ints:
    return np.asarray(np.sum(arrays, axis=0), dtype=np.int64)


def _first(arrays: Sequence[Ints]) -> Ints:
    never = np.iinfo(np.int64).max
    first = np.min([np.where(a < 0, never, a) for a in arrays], axis=0)
    return np.where(first == never, -1, first)
