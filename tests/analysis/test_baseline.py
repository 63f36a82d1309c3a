"""The share of units that an initialization leaves silent: closed forms, simulation, and the tool's own measurement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn

import deadneuron
from deadneuron.analysis.baseline import (
    default_correlation,
    he_correlation,
    measured_correlation,
    silent_share,
    uncentred_correlation,
)

WIDTH = 512


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 10**6))
def test_at_a_correlation_of_one_half_it_is_one_in_n_plus_one(n):
    assert silent_share(n, 0.5) == pytest.approx(1 / (n + 1), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_without_correlation_it_is_two_to_the_minus_n_and_with_all_of_it_one_half(n):
    assert silent_share(n, 0.0) == pytest.approx(2.0**-n)
    assert silent_share(n, 1.0) == 0.5


@settings(max_examples=60, deadline=None)
@given(rho=st.floats(0.001, 0.999))
def test_for_two_examples_it_is_an_angle(rho):
    assert silent_share(2, rho) == pytest.approx((math.pi - math.acos(rho)) / (2 * math.pi), abs=1e-8)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(1, 10**5), rho=st.floats(0, 1), a=st.floats(-2, 2))
def test_it_falls_with_examples_and_rises_with_correlation_and_threshold(n, rho, a):
    share = silent_share(n, rho, a)
    assert 0 <= share <= norm.cdf(a) + 1e-9
    assert silent_share(2 * n, rho, a) <= share + 1e-9
    assert silent_share(n, min(1.0, rho + 0.05), a) >= share - 1e-9
    assert silent_share(n, rho, a + 0.1) >= share - 1e-9


@pytest.mark.parametrize(("n", "rho", "a"), [(5, 0.3, 0.0), (23, 0.7, 0.0), (11, 0.4, 0.8), (7, 0.9, -0.5)])
def test_it_is_what_gaussians_do(n, rho, a):
    chance = np.random.default_rng(0)
    units = 200_000
    z = math.sqrt(rho) * chance.standard_normal((units, 1)) + math.sqrt(1 - rho) * chance.standard_normal((units, n))
    assert silent_share(n, rho, a) == pytest.approx((z <= a).all(axis=1).mean(), abs=5 * math.sqrt(0.25 / units))


@pytest.mark.parametrize("rho", [0.0, 0.07, 0.5, 0.9])
def test_the_correlation_is_that_of_gaussians_whatever_a_third_of_the_biases_is(rho):
    chance = np.random.default_rng(1)
    common, own = chance.standard_normal((1, 20_011)), chance.standard_normal((67, 20_011))
    z = 3 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)
    assert measured_correlation(z.mean(0), (z**2).mean(0), 67) == pytest.approx(rho, abs=0.01)
    z[:, ::3] -= 1000.0
    planted = measured_correlation(z.mean(0), (z**2).mean(0), 67)
    assert planted <= 4 * rho / (1 + 3 * rho) + 0.03, "no more than what the inner two thirds are spread, doubled"


def test_the_correlation_leaves_out_units_that_are_not_finite_and_needs_two_rows():
    z = np.random.default_rng(1).standard_normal((11, 5)) + 1.0
    mean, square = z.mean(0), (z**2).mean(0)
    whole = measured_correlation(mean[:3], square[:3], 11)
    mean[3], square[4] = np.nan, np.inf
    assert measured_correlation(mean, square, 11) == whole
    assert measured_correlation(mean, square, 1) is None
    assert measured_correlation(np.zeros(3), np.zeros(3), 11) is None
    assert measured_correlation(np.full(3, np.nan), np.zeros(3), 11) is None


# ── measured by the tool itself ──────────────────────────────────────────────────────────────────────────────────────


def silent_by_layer(model, x, run):
    """(share of silent units, share expected from the measured correlation) of each site after one watched pass."""
    with deadneuron.watch(model, None, run) as monitor:
        with torch.no_grad():
            model(x)
        monitor.step(lr=0.0)
    units = deadneuron.read_run(run).units
    silent = [float((group["state"] == "silent").mean()) for _, group in units.groupby("site")]
    expected = [v.expected_born_dead / v.units for v in deadneuron.diagnose(run).verdicts]
    return silent, expected


def mlp(depth, inputs, *, he):
    layers = []
    for layer in range(depth):
        linear = nn.Linear(inputs if layer == 0 else WIDTH, WIDTH, bias=not he)
        if he:
            nn.init.normal_(linear.weight, std=math.sqrt(2 / linear.in_features))
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def tolerance(share, units=WIDTH):
    """Twice the binomial error, for the units share their inputs, and what a finite width adds."""
    return 2 * math.sqrt(max(share * (1 - share), 0) / units) + 0.015


def test_the_tool_measures_the_he_table_for_two_orthogonal_examples(tmp_path):
    runs = []
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.linalg.qr(torch.randn(256, 2)).Q.T * 16
        runs.append(silent_by_layer(mlp(8, 256, he=True), x, tmp_path / str(seed))[0])
    for layer in (1, 2, 3, 4, 6, 8):
        theory = silent_share(2, he_correlation(layer))
        assert np.mean([run[layer - 1] for run in runs]) == pytest.approx(theory, abs=tolerance(theory))
    assert [round(silent_share(2, he_correlation(layer)), 3) for layer in (1, 2, 8)] == [0.25, 0.302, 0.4]


def test_the_tool_measures_pytorchs_default_initialization(tmp_path):
    runs = []
    for seed in range(3):
        torch.manual_seed(seed)
        runs.append(silent_by_layer(mlp(8, 256, he=False), torch.randn(256, 256), tmp_path / str(seed)))
    for layer, told in ((4, 0.049), (6, 0.359), (8, 0.476)):
        theory = silent_share(256, default_correlation(layer, inputs=256, width=WIDTH))
        assert theory == pytest.approx(told, abs=0.0006)
        silent = np.mean([run[0][layer - 1] for run in runs])
        assert silent == pytest.approx(theory, abs=tolerance(theory))
        assert np.mean([run[1][layer - 1] for run in runs]) == pytest.approx(silent, abs=tolerance(theory))


def test_the_tool_measures_inputs_that_are_not_centred(tmp_path):
    silent, expected = [], []
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.randn(1024, 128) + 2 * torch.randn(128).sign()
        got = silent_by_layer(mlp(1, 128, he=True), x, tmp_path / str(seed))
        silent.append(got[0][0])
        expected.append(got[1][0])
    theory = silent_share(1024, uncentred_correlation(2.0))
    assert theory == pytest.approx(0.0547, abs=0.0001)
    assert np.mean(silent) == pytest.approx(theory, abs=tolerance(theory))
    assert np.mean(expected) == pytest.approx(theory, abs=0.01)


def test_the_tool_measures_one_in_n_plus_one(tmp_path):
    n, silent = 31, []
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.randn(n, 211) + torch.randn(211).sign()  # kappa = 1, so rho = 1/2
        silent.append(silent_by_layer(mlp(1, 211, he=True), x, tmp_path / str(seed))[0][0])
    assert np.mean(silent) == pytest.approx(1 / (n + 1), abs=tolerance(1 / (n + 1), 4 * WIDTH))


def test_the_tool_measures_how_many_whole_networks_are_born_dead(tmp_path):
    """1 - (1 - 2^-N)^depth of nets of width N: all of them side by side, as groups of one convolution."""
    width, depth, nets = 3, 10, 2003
    layers = []
    for layer in range(depth):
        layers.append(nn.Conv1d(5 if layer == 0 else nets * width, nets * width, 1, groups=1 if layer == 0 else nets))
        nn.init.normal_(layers[-1].weight, std=math.sqrt(2 / width))
        nn.init.zeros_(layers[-1].bias)
        layers.append(nn.ReLU())
    model = nn.Sequential(*layers)
    with deadneuron.watch(model, None, tmp_path / "run") as monitor:
        with torch.no_grad():
            model(torch.randn(1, 5, 1))
        monitor.step(lr=0.0)
    units = deadneuron.read_run(tmp_path / "run").units
    silent = (units["state"] == "silent").to_numpy().reshape(depth, nets, width)
    dead = silent.all(axis=2).any(axis=0).mean()
    theory = 1 - (1 - 2.0**-width) ** depth
    assert theory == pytest.approx(0.7369, abs=1e-4)
    assert dead == pytest.approx(theory, abs=3 * math.sqrt(theory * (1 - theory) / nets))
