"""How runs end, begin again, are paused, and what is said of it."""

from __future__ import annotations

import math
import time

import pytest
import torch
from loops import batch, mlp, sgd
from torch import nn
from zoo import BATCH, NEVER, UNITS, step_once, thresholds_linear

import deadneuron
from deadneuron.errors import DeadneuronWarning, UsageError
from deadneuron.report.text import render_text
from deadneuron.store.reader import read_folder


def alive(units=UNITS):
    return nn.Sequential(thresholds_linear([-9.0] * units), nn.ReLU(), nn.Linear(units, 1))


def watched(model, run, steps, each=lambda step: None, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run, **options) as monitor:
        for step in range(steps):
            each(step)
            step_once(model, optimizer, batch())
    return monitor


def kill(model):
    with torch.no_grad():
        model[0].bias.fill_(-NEVER)


# ── diverged ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nan_that_begins_between_two_samples_is_dated_to_the_step_though_no_layer_was_looked_at(run):
    model = alive()

    def each(step):
        if step == 203:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)

    watched(model, run, 207, each)
    diagnosis = deadneuron.diagnose(run)
    assert diagnosis.status == "severe"
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "nonfinite"]
    assert (finding.where, finding.evidence["first_step"]) == ("the run", 203)


def test_each_layer_with_nan_is_dated_by_the_output(run):
    model = alive()

    def each(step):
        if step == 203:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)

    watched(model, run, 260, each)
    findings = [finding for finding in deadneuron.diagnose(run).findings if finding.code == "nonfinite"]
    assert [(finding.where, finding.evidence["first_step"]) for finding in findings] == [("the run", 203), ("1", 203)]
    assert f"{UNITS} of {UNITS} units (100%) had NaN or Inf pre-activations, since step 203" in findings[1].text
    assert deadneuron.read_run(run).ticks["finite"].tolist() == [True] * 203 + [False] * 57


def test_a_loss_that_was_nan_for_one_step_is_no_divergence(run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        for step in range(9):
            step_once(model, optimizer, batch())
            monitor.log(loss=math.nan if step == 4 else 1.0)
    ticks = deadneuron.read_run(run).ticks
    assert ticks["finite"].tolist() == [True] * 4 + [False] + [True] * 4
    assert "nonfinite" not in {finding.code for finding in deadneuron.diagnose(run).findings}


def test_nan_wakes_no_dead_unit(run):
    model = alive()

    def each(step):
        if step == 10:
            with torch.no_grad():
                model[0].bias[:2] = -NEVER
        if step == 200:
            with torch.no_grad():
                model[0].weight.fill_(math.nan)

    watched(model, run, 400, each)
    verdict = deadneuron.diagnose(run).verdicts[0]
    assert (verdict.dead, verdict.revived) == (2, 0)
    assert deadneuron.read_run(run).units["last_active"].tolist()[:2] == [9, 9]


# ── what n counts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_size_of_the_data_set_bounds_every_n(run):
    model = alive()
    watched(model, run, 300, lambda step: kill(model) if step == 20 else None, dataset_size=37)
    diagnosis = deadneuron.diagnose(run)
    assert (diagnosis.verdicts[0].dead, diagnosis.verdicts[0].samples, diagnosis.dataset_size) == (UNITS, 37, 37)
    assert "repeats counted" not in render_text(diagnosis)
    assert {f.evidence["samples"] for f in diagnosis.findings} == {37}
    assert deadneuron.read_run(run).units["silent_samples"].max() == 37


def test_steps_in_which_a_branch_was_not_called_are_no_silence(run):
    class Seldom(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.head = thresholds_linear([NEVER]), nn.ReLU(), nn.Linear(3, 1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            branch = self.act(self.fc(x)) if self.calls % 50 == 1 else 0
            return self.head(x) + branch

    model = Seldom()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(200):
            step_once(model, optimizer, torch.randn(128, 3))
    (unit,) = deadneuron.read_run(run).units.itertuples()
    assert (unit.state, unit.silent_steps, unit.silent_samples) == ("silent", 4, 512)


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_that_ends_the_block_is_named_and_a_running_run_says_so(run):
    model = mlp()
    optimizer = sgd(model)

    def loop():
        with deadneuron.watch(model, optimizer, run) as monitor:
            step_once(model, optimizer, batch())
            assert "it still runs, or was killed" in render_text(monitor.diagnose(), width=300)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        loop()
    assert read_folder(run).info.ended_by == "ZeroDivisionError"
    assert "ended by ZeroDivisionError" in render_text(deadneuron.diagnose(run), width=300).splitlines()[0]


def test_a_forgotten_optimizer_is_said_plainly(run):
    model = mlp()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, None, run)
    for _ in range(12):
        step_once(model, optimizer, batch())
    with pytest.warns(DeadneuronWarning, match="not one step in 12 passes"):
        monitor.close()
    diagnosis = deadneuron.diagnose(run)
    assert diagnosis.status == "unknown"
    assert "no-steps" in {finding.code for finding in diagnosis.findings}


def test_a_pause_is_a_gap_with_its_step(run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        for step in range(9):
            if step == 4:
                monitor.pause()
            if step == 7:
                monitor.resume()
            step_once(model, optimizer, batch())
            monitor.pause()  # to look at something between two steps: nothing is lost by it
            model(batch())
            if step not in (4, 5, 6):
                monitor.resume()
    assert [(gap.where, gap.reason, gap.first_step) for gap in monitor.gaps] == [("run", "paused from step 4 on", 4)]


def test_a_run_that_is_written_anew_belongs_to_the_new_monitor_alone(run):
    old = mlp()
    left_open = deadneuron.watch(old, optimizer := sgd(old), run)
    step_once(old, optimizer, batch())
    model = mlp()
    new = sgd(model)
    with deadneuron.watch(model, new, run, overwrite=True):
        for _ in range(5):
            step_once(model, new, batch())
    step_once(old, optimizer, batch())
    with pytest.warns(DeadneuronWarning, match="another run has taken its place"):
        left_open.close()
    stored = read_folder(run)
    assert [tick.step for tick in stored.ticks] == list(range(5))
    assert sum(window.rows for window in stored.windows) == 2 * 5 * BATCH
    assert stored.gaps == ()


def test_findings_are_told_at_the_end_of_a_short_run_and_shortness_is_no_news_before(run):
    told = []
    model = alive()
    watched(model, run, 260, lambda step: kill(model) if step == 20 else None, on_finding=told.append)
    assert {"stuck"} <= {finding.code for finding in told}
    assert all(finding.code not in ("too-short", "silent") for finding in told)


def test_a_fast_loop_loses_no_tick(run):
    class Instant(torch.optim.SGD):
        def step(self, closure=None):
            return None

    model = mlp()
    optimizer = Instant(model.parameters(), lr=0.1)
    steps = 30_000  # three times what waits while a disk cannot be written
    with deadneuron.watch(model, optimizer, run) as monitor:
        began = time.monotonic()
        for _ in range(steps):
            optimizer.step()
        assert time.monotonic() - began < 60
    assert monitor.gaps[0].reason == "no pass of the model was seen in steps 1–49: its hooks are not called"
    assert [tick.step for tick in read_folder(run).ticks] == list(range(steps))


@pytest.mark.parametrize("what", [lambda m: m.forward, lambda m: m.state_dict(), lambda m: "model"])
def test_what_is_no_model_is_one_clear_error(what, run):
    with pytest.raises(UsageError, match=r"no torch\.nn\.Module"):
        deadneuron.watch(what(mlp()), None, run)


def test_monitors_runs_and_findings_tell_what_they_are(run):
    model = alive()
    monitor = watched(model, run, 260, lambda step: kill(model) if step == 20 else None)
    assert repr(monitor) == f"<Monitor of Sequential, 1 sites, closed, writes {run}>"
    assert repr(deadneuron.read_run(run)) == f"<Run {run}: Sequential, 1 sites, ended>"
    assert str(monitor.diagnose().findings[0]).startswith("severe: 1 is stuck")
