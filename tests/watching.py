"""A model with known dead units under the monitor, and its windows against plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from zoo import (
    BATCH,
    HEIGHT,
    INPUTS,
    LENGTH,
    NEVER,
    TIME,
    WIDTH,
    active_by_hand,
    histogram_by_hand,
    rows_of,
    step_once,
    thresholds_conv,
    thresholds_linear,
)

import deadneuron
from deadneuron.store.reader import read_folder

THRESHOLDS = [-10.0, NEVER, 0.0, 0.7, NEVER]  # always, never, half, seldom, never
DEAD = [1, 4]
STEPS = 23

SHAPES = {
    "features": (lambda: thresholds_linear(THRESHOLDS), (BATCH, INPUTS), 1),
    "tokens": (lambda: thresholds_linear(THRESHOLDS), (BATCH, TIME, INPUTS), 2),
    "sequences": (lambda: thresholds_conv(nn.Conv1d, THRESHOLDS), (BATCH, INPUTS, LENGTH), 1),
    "images": (lambda: thresholds_conv(nn.Conv2d, THRESHOLDS), (BATCH, INPUTS, HEIGHT, WIDTH), 1),
}


def frozen_sgd(model):
    """Steps that change nothing: the truth stays what the weights were set to."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def train(model, run, x_of_step, steps=STEPS, loop=step_once, *, apart=False, **options):
    """Train under the monitor and read the folder back, each site's windows added up unless they are wanted `apart`."""
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, **options) as monitor:
        for step in range(steps):
            loop(model, optimizer, x_of_step(step))
    assert monitor.gaps == ()
    return read_folder(run) if apart else added_up(run)


def added_up(run):
    """The run as it would be read if each site had one single window (the first step always has one of its own)."""
    stored = read_folder(run)
    groups: dict[tuple[int, str], list] = {}
    for window in stored.windows:
        groups.setdefault((window.site, window.phase), []).append(window)
    return replace(stored, windows=tuple(_joined(group) for group in groups.values()))


def _joined(group):
    first, last = group[0], group[-1]
    total = sum(w.sampled_rows for w in group)
    changes = {name: sum(getattr(w, name) for w in group) for name in ("steps", "samples", "rows", "sampled_rows")}
    for name in ("active", "above", "nonfinite", "histogram"):
        changes[name] = np.sum([getattr(w, name) for w in group], axis=0)
    if first.output_histogram is not None:
        changes["output_histogram"] = np.sum([w.output_histogram for w in group], axis=0)
    for name in ("mean", "square", "magnitude"):
        with np.errstate(invalid="ignore", over="ignore"):
            parts = [np.nan_to_num(getattr(w, name)) * (w.sampled_rows - w.nonfinite) for w in group]
            changes[name] = np.sum(parts, axis=0) / (total - changes["nonfinite"])
    for name in ("first_active", "first_nonfinite"):
        known = [np.where(getattr(w, name) < 0, 10**9, getattr(w, name)) for w in group]
        changes[name] = np.where(np.min(known, axis=0) == 10**9, -1, np.min(known, axis=0))
    changes["last_active"] = np.max([w.last_active for w in group], axis=0)
    changes["peak"] = np.fmax.reduce([w.peak for w in group])
    return replace(first, last_step=last.last_step, **changes)


def names(stored):
    return [site.name for site in stored.info.sites]


def check_window(window, inputs, outputs, axis, gate, first_step, every, examples):
    """All fields of a window against what was recorded beside it; one pass a step."""
    steps = range(window.first_step, window.last_step + 1)
    hits = {s: np.array(active_by_hand(inputs[s], axis, gate)) for s in steps}
    assert window.rows == sum(inputs[s].numel() for s in steps) // len(window.active)
    assert window.samples == examples * len(steps)
    assert window.active.tolist() == sum(hits.values()).tolist()
    for unit in range(len(window.active)):
        fired = [s for s in steps if hits[s][unit]]
        assert window.first_active[unit] == (fired[0] if fired else -1)
        assert window.last_active[unit] == (fired[-1] if fired else -1)
    full = [s for s in steps if s % every == 0]
    sampled = [rows_of(torch.cat([inputs[s] for s in full], dim=1 if axis == 0 else 0), axis) if full else []][0]
    results = [rows_of(torch.cat([outputs[s] for s in full], dim=1 if axis == 0 else 0), axis) if full else []][0]
    assert window.sampled_rows == (len(sampled[0]) if full else 0)
    for unit, row in enumerate(sampled):
        assert window.above[unit] == sum(value >= gate[1] for value in row if gate[1] < math.inf)
        assert window.nonfinite[unit] == 0
        assert window.mean[unit] == pytest.approx(np.mean(row), rel=1e-3, abs=1e-3)
        assert window.square[unit] == pytest.approx(np.mean(np.square(row)), rel=1e-3)
        assert window.magnitude[unit] == pytest.approx(np.mean(np.abs(results[unit])), rel=1e-3)
        assert window.peak[unit] == pytest.approx(max(row), rel=1e-3)
    expected = sum((histogram_by_hand(inputs[s]) for s in full), start=np.zeros_like(window.histogram))
    assert window.histogram.tolist() == expected.tolist()


class Shared(nn.Module):
    """One nn.ReLU behind layers of equal width; `plan` says which run, in which order."""

    def __init__(self, depth=2, inplace=False):
        super().__init__()
        self.act = nn.ReLU(inplace=inplace)
        self.layers = nn.ModuleList(thresholds_linear([float(i), NEVER, -10.0], 3) for i in range(depth))
        self.plan = range(depth)

    def forward(self, x):
        return sum(self.act(self.layers[i](x)) for i in self.plan)
