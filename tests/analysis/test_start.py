"""Born-dead units held against what the first step's correlation explains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from making import (
    PROFILE,
    ends_every,
    lives,
    make_run,
    make_site,
    make_thresholds,
    make_ticks,
    make_window,
    make_windows,
)
from torch import nn

import deadneuron
from deadneuron.analysis.baseline import silent_share
from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.start import first_step
from deadneuron.states import make_timeline

UNITS, STEPS = 101, 250


def world(born, mean, *, dataset_size=None, op="ReLU", gate=(0.0, math.inf)):
    """A run whose first step has pre-activations of variance 1 about these means; `born` units never fire."""
    site = make_site(0, UNITS, op=op, gate=gate)
    fired = lives(UNITS, STEPS, {unit: [(0, STEPS - 1)] for unit in range(born)})
    means = np.broadcast_to(np.asarray(mean, dtype=float), (UNITS,)).copy()
    first = make_window(site, 0, 0, fired[:1], samples=64, rows=64, sampled_rows=64, mean=means, square=means**2 + 1.0)
    windows = [first, *make_windows(site, fired, ends_every(50, STEPS)[0:], first=1)]
    return make_run([site], windows, make_ticks([0.1] * STEPS), dataset_size=dataset_size)


def spread(kappa):
    """Means of units, of deviation kappa over the units: a correlation of about kappa² / (1 + kappa²)."""
    return kappa * np.random.default_rng(0).standard_normal(UNITS)


def of_code(diagnosis, code):
    return [finding for finding in diagnosis.findings if finding.code == code]


def test_what_the_initialization_explains_is_a_note_and_no_warning():
    run = world(34, spread(6.0))
    diagnosis = diagnose(run)
    (note,) = of_code(diagnosis, "born-dead")
    verdict = diagnosis.verdicts[0]
    samples = sum(window.samples for window in run.timelines[0].windows)
    assert verdict.expected_born_dead == pytest.approx(UNITS * silent_share(samples, verdict.correlation))
    assert "34 of 101 units (34%) are born dead" in note.text
    assert f"{verdict.expected_born_dead / UNITS:.0%} expected from the initialization" in note.text
    assert "not this run's learning rate" in note.advice
    assert not of_code(diagnosis, "born-dead-excess")
    assert diagnosis.status == "healthy"


def test_more_than_it_explains_is_a_warning():
    diagnosis = diagnose(world(34, 0.0))
    (warning,) = of_code(diagnosis, "born-dead-excess")
    assert warning.evidence["silent_at_start"] == 34
    assert warning.evidence["expected_at_start"] < 1
    assert warning.evidence["correlation"] < 0.01
    assert diagnosis.status == "warning"


def test_a_few_more_are_within_the_slack():
    assert not of_code(diagnose(world(5, 0.0)), "born-dead-excess")
    assert of_code(diagnose(world(9, 0.0)), "born-dead-excess")


def test_units_that_woke_later_are_no_excess():
    """Silent in the first step by chance of a small batch, but not since: the born dead are what counts."""
    site = make_site(0, UNITS)
    fired = lives(UNITS, STEPS, {unit: [(0, 3)] for unit in range(60)})
    first = make_window(
        site, 0, 0, fired[:1], samples=64, rows=64, sampled_rows=64, mean=np.zeros(UNITS), square=np.ones(UNITS)
    )
    run = make_run(
        [site], [first, *make_windows(site, fired, ends_every(50, STEPS), first=1)], make_ticks([0.1] * STEPS)
    )
    assert not of_code(diagnose(run), "born-dead-excess")


def test_no_n_exceeds_the_data_set():
    diagnosis = diagnose(world(34, spread(6.0), dataset_size=100))
    verdict = diagnosis.verdicts[0]
    assert verdict.samples == 100
    assert verdict.bound == 0.03
    assert max(episode.samples for episode in diagnosis.episodes) == 100
    assert verdict.dead == 34, "all there is was seen: that is enough for a verdict"
    assert verdict.expected_born_dead == pytest.approx(UNITS * silent_share(100, verdict.correlation))


def test_an_activation_that_is_never_closed_below_has_no_expectation():
    timeline = world(0, 0.0, op="LeakyReLU", gate=(-math.inf, math.inf)).timelines[0]
    assert first_step(timeline) is None


def test_a_run_whose_first_step_is_not_apart_has_no_expectation():
    site = make_site(0, UNITS)
    windows = make_windows(site, lives(UNITS, STEPS, {}), ends_every(50, STEPS))
    assert first_step(make_timeline(site, windows)) is None


def test_the_gates_own_lower_end_counts_in_deviations():
    timeline = world(0, 0.0, op="ELU", gate=(-2.0, math.inf)).timelines[0]
    start = first_step(timeline)
    assert start.opens_at == pytest.approx(-2.0)
    assert start.expected(1) == pytest.approx(UNITS * 0.02275, rel=1e-3)


def test_planted_biases_are_an_excess_on_a_real_net(run):
    model = nn.Sequential(nn.Linear(13, UNITS), nn.ReLU(), nn.Linear(UNITS, 2))
    with torch.no_grad():
        model[0].bias[:40] = -50.0
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(120):
            optimizer.zero_grad()
            model(torch.randn(64, 13)).square().mean().backward()
            optimizer.step()
    (warning,) = of_code(deadneuron.diagnose(run), "born-dead-excess")
    assert warning.evidence["born_dead"] == 40


def test_the_slack_is_the_profiles():
    run = world(34, 0.0)
    lenient = replace(PROFILE, thresholds=make_thresholds(born_excess=0.4))
    assert not of_code(diagnose(run, lenient), "born-dead-excess")
