"""Whole runs that look bad and are not, and the other way round: what a report must not say."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn
from zoo import NEVER, thresholds_linear

import deadneuron


def codes(run):
    return {finding.code for finding in deadneuron.diagnose(run).findings}


def fit(model, x, y, run, *, steps, batch=64, make=None, loss=nn.functional.cross_entropy, every=None):
    optimizer = (make or (lambda parameters: torch.optim.Adam(parameters, lr=1e-3)))(model.parameters())
    with deadneuron.watch(model, optimizer, run, dataset_size=len(x), every=every) as monitor:
        for _ in range(steps):
            index = torch.randint(len(x), (batch,))
            optimizer.zero_grad()
            value = loss(model(x[index]), y[index])
            value.backward()
            optimizer.step()
            monitor.log(loss=value)
    return monitor


def digits():
    pixels, labels = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)


# ── masks, bad batches, outputs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_mask_of_minus_infinity_is_no_divergence(run):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.gate, self.head = nn.Linear(64, 31), nn.Sigmoid(), nn.Linear(31, 10)

        def forward(self, x):
            hidden = self.body(x)
            hidden = hidden.masked_fill(torch.arange(31) < 4, -math.inf)
            mask = torch.arange(10) == 9
            return self.head(self.gate(hidden)).masked_fill(mask, -math.inf)

    x, y = digits()
    optimizer = torch.optim.SGD((model := Masked()).parameters(), lr=0.1)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(130):
            index = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[index]), y[index] % 9).backward()
            optimizer.step()
    assert "nonfinite" not in codes(run)
    verdict = deadneuron.diagnose(run).verdicts[0]
    assert (verdict.nonfinite, verdict.born_dead) == (0, 4), "what is masked for ever is closed for ever"


def test_one_bad_batch_that_the_loop_skips_is_a_note(run):
    x, y = digits()
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with deadneuron.watch(model, optimizer, run, every=1) as monitor:
        for step in range(200):
            inputs = x[index := torch.randint(len(x), (64,))].clone()
            if step == 150:
                inputs[5, 0] = math.nan
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), y[index])
            if loss.isfinite():
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss)
    diagnosis = deadneuron.diagnose(run)
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "nonfinite"]
    assert (finding.level, finding.evidence["first_step"]) == ("note", 150)
    assert diagnosis.status == "healthy"


def test_a_sigmoid_that_is_the_models_output_is_no_hidden_layer(run):
    x, y = digits()
    keep = y < 2
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())

    def loss(probability, target):
        return nn.functional.binary_cross_entropy(probability.squeeze(-1), target.float())

    fit(model, x[keep], y[keep], run, steps=400, make=lambda p: torch.optim.Adam(p, lr=0.01), loss=loss)
    assert codes(run).isdisjoint({"saturated", "fading", "rare"})
    sites = deadneuron.read_run(run).sites
    assert [site.is_output for site in sites] == [False, True]


# ── short last windows ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("steps", [300, 301, 303])
def test_a_step_more_makes_no_healthy_run_unknown(steps, run):
    x, y = digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    fit(model, x, y, run, steps=steps, batch=8, make=lambda p: torch.optim.SGD(p, lr=0.02))
    diagnosis = deadneuron.diagnose(run)
    assert diagnosis.status == "healthy"
    assert diagnosis.verdicts[0].silent < 10


def test_a_silent_unit_that_fires_in_a_short_last_window_is_no_longer_silent(run):
    model = nn.Sequential(thresholds_linear([-9.0, NEVER]), nn.ReLU(), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for step in range(203):
            if step == 201:
                with torch.no_grad():
                    model[0].bias[1] = 9.0
            optimizer.zero_grad()
            model(torch.randn(7, 3)).sum().backward()
            optimizer.step()
    assert deadneuron.read_run(run).units["state"].tolist() == ["active", "active"]


# ── whose fault it is ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("init", ["default", "he"])
def test_raw_features_of_different_sizes_are_not_called_a_strange_initialization(init, run):
    data = load_breast_cancer()
    x, y = torch.tensor(data.data, dtype=torch.float32), torch.tensor(data.target)
    model = nn.Sequential(nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2))
    if init == "he":
        for layer in (model[0], model[2]):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    fit(model, x, y, run, steps=130, make=lambda p: torch.optim.Adam(p, lr=1e-6))
    diagnosis = deadneuron.diagnose(run)
    assert diagnosis.verdicts[0].born_dead > 0.3 * 256
    assert "born-dead-excess" not in codes(run)
    (note,) = [f for f in diagnosis.findings if f.code == "born-dead" and f.where == "1"]
    assert "are the inputs scaled and centred?" in note.text


def test_a_layer_that_was_born_dead_is_not_blamed_on_the_rate_for_one_later_death(run):
    model = nn.Sequential(thresholds_linear([NEVER] * 15 + [-9.0] * 5), nn.ReLU(), nn.Linear(20, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for step in range(300):
            if step == 30:
                with torch.no_grad():
                    model[0].bias[19] = -NEVER
            optimizer.zero_grad()
            model(torch.randn(7, 3)).sum().backward()
            optimizer.step()
    (stuck,) = [finding for finding in deadneuron.diagnose(run).findings if finding.code == "stuck"]
    assert "(15 born dead, 1 died)" in stuck.text
    assert "initialization" in stuck.advice
    assert "rate" not in stuck.advice


def test_a_branch_that_runs_seldom_says_how_often_it_was_seen(run):
    class Seldom(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.head = nn.Linear(3, 5), nn.ReLU(), nn.Linear(3, 5)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return self.head(x) + (self.act(self.fc(x)) if self.calls % 10 == 1 else 0)

    model = Seldom()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(600):
            optimizer.zero_grad()
            model(torch.randn(7, 3)).sum().backward()
            optimizer.step()
    (short,) = [finding for finding in deadneuron.diagnose(run).findings if finding.code == "too-short"]
    assert "act was seen in 60 of 600 steps: too short" in short.text
