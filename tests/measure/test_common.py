"""The last step in which a unit was common, against plain Python that keeps every step's shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from watching import frozen_sgd

import deadneuron
from deadneuron.profiles import load_profile
from deadneuron.store.reader import read_folder

UNITS, INPUTS, LENGTH, STEPS, WINDOW = 5, 3, 7, 67, 13


def profile(**sampling):
    made = load_profile()
    thresholds = replace(made.thresholds, patience=WINDOW)
    return replace(made, sampling=replace(made.sampling, window=WINDOW, **sampling), thresholds=thresholds)


def by_hand(shares, rows, common, recent):
    """shares[s][u] and rows[s] of each step, None where the site did not run."""
    mean, last, told = [None] * UNITS, [-1] * UNITS, []
    for step, row in enumerate(shares):
        for unit in range(UNITS) if row is not None else ():
            weight = min(rows[step] / recent, 1.0)
            share = row[unit]
            mean[unit] = share if mean[unit] is None else mean[unit] + weight * (share - mean[unit])
            if share > 0 and mean[unit] > common:
                last[unit] = step
        told.append(list(last))
    return told


@pytest.mark.parametrize("recent", [1, 31, 257])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_it_is_the_last_active_step_in_which_the_recent_share_was_above_the_bound(kind, recent, tmp_path):
    torch.manual_seed(3)
    layer = nn.Linear(INPUTS, UNITS) if kind == "linear" else nn.Conv1d(INPUTS, UNITS, 1)
    model = nn.Sequential(layer, nn.ReLU())
    chance = torch.Generator().manual_seed(5)
    shares, rows = [], []
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, tmp_path / "run", profile=profile(common=0.35, recent=recent)):
        for step in range(STEPS):
            size = (int(torch.randint(1, 12, (), generator=chance)), INPUTS)
            x = torch.randn(*size, *(() if kind == "linear" else (LENGTH,)), generator=chance)
            with torch.no_grad():  # units come and go: the bias moves
                layer.bias.copy_(3 * torch.sin(torch.arange(UNITS) + step / 5) - 2)
                z = layer(x)
            active = (z if kind == "linear" else z.movedim(1, -1).reshape(-1, UNITS)) > 0
            shares.append(active.double().mean(0).tolist())
            rows.append(len(active))
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    told = by_hand(shares, rows, 0.35, recent)
    windows = read_folder(tmp_path / "run").windows
    assert len(windows) == 1 + -(-STEPS // WINDOW)
    for window in windows:
        expected = [last if last >= window.first_step else -1 for last in told[window.last_step]]
        assert window.last_common.tolist() == expected
        assert (window.last_common <= window.last_active).all()
    assert any((window.last_common != window.last_active).any() for window in windows)


def test_a_site_that_does_not_run_keeps_its_recent_share(tmp_path):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(INPUTS, UNITS), nn.Linear(INPUTS, UNITS)
            self.act, self.other = nn.ReLU(), nn.ReLU()

        def forward(self, x, both):
            return self.act(self.first(x)).sum() + (self.other(self.second(x)).sum() if both else 0)

    torch.manual_seed(7)
    model = Sometimes()
    optimizer = frozen_sgd(model)
    chance = torch.Generator().manual_seed(11)
    shares, rows = [], []
    with deadneuron.watch(model, optimizer, tmp_path / "run", profile=profile(common=0.4, recent=61)):
        for step in range(STEPS):
            x, both = torch.randn(11, INPUTS, generator=chance), step % 3 == 0
            with torch.no_grad():
                model.second.bias.copy_(torch.cos(torch.arange(UNITS) + step / 7))
                active = model.second(x) > 0
            shares.append(active.double().mean(0).tolist() if both else None)
            rows.append(11)
            optimizer.zero_grad()
            model(x, both).backward()
            optimizer.step()
    told = by_hand(shares, rows, 0.4, 61)[-1]
    stored = read_folder(tmp_path / "run")
    number = next(site.number for site in stored.info.sites if site.name == "other")
    seen = [window.last_common for window in stored.windows if window.site == number]
    assert np.max(seen, axis=0).tolist() == told
