"""The bound on a row's age is a theorem: whatever the gradients were, the last one came no longer ago than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from checkpoints.making import plain, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from deadneuron.checkpoints.contents import Part
from deadneuron.checkpoints.evidence.ages import Decay, decay_of, estimate, most, saturation
from deadneuron.checkpoints.evidence.moments import Asked, moments_of
from deadneuron.checkpoints.evidence.owners import Owner

KINDS = [("Adam", {}), ("Adam", {"amsgrad": True}), ("AdamW", {"weight_decay": 0.1}), ("NAdam", {}), ("RAdam", {})]
KINDS += [("Adamax", {}), ("Adam", {"betas": (0.5, 0.9)}), ("Adam", {"betas": (0.95, 0.95)})]


def trained(kind, more, gradients, dtype=torch.float32):
    """The state after these gradients, [steps, units, values]."""
    parameter = torch.nn.Parameter(torch.ones(gradients.shape[1:], dtype=dtype))
    optimizer = getattr(torch.optim, kind)([parameter], **more)
    for gradient in gradients:
        parameter.grad = torch.as_tensor(gradient, dtype=dtype)
        optimizer.step()
    state = {key: stored(value) if value.dim() else value.item() for key, value in optimizer.state[parameter].items()}
    return Owner(kind, 0, plain(optimizer.param_groups[0]), state)


def judged(owner, patience=100):
    decay = decay_of(owner)
    units = owner.moments[decay.first].shape[0]
    return moments_of(
        [Asked(Part("weight", 0), decay, owner.moments, owner.step, owner.number("eps"))], units, patience
    )


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    live=st.integers(1, 43),
    still=st.integers(0, 67),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 1e4]),
    shape=st.sampled_from(["normal", "one sign", "one spike", "growing", "rare"]),
    seed=st.integers(0, 2**31),
)
def test_no_row_is_older_than_the_bound(kind, live, still, scale, shape, seed):
    generator = np.random.default_rng(seed)
    gradients = generator.normal(size=(live + still, 3, 5)) * scale
    if shape == "one sign":  # the m that is largest beside v
        gradients = np.abs(gradients)
    elif shape == "one spike":
        gradients[: live - 1] *= 1e-6
    elif shape == "growing":
        gradients *= 0.98 ** -np.arange(live + still)[:, None, None]
    elif shape == "rare":
        gradients[generator.random(size=gradients.shape) < 0.7] = 0
    gradients[live:] = 0
    flowed = (gradients.astype(np.float32) != 0).any(2)
    age = np.array([live + still - 1 - np.flatnonzero(row)[-1] if row.any() else np.inf for row in flowed.T])
    said = judged(trained(*kind, gradients))
    assert (said.age_most >= age).all()
    assert ((said.age <= said.age_most) | np.isinf(age)).all()
    np.testing.assert_array_equal(said.never, np.isinf(age))


@pytest.mark.parametrize(("kind", "more"), KINDS[:-1])
def test_the_bound_is_reached_by_the_worst_gradients(kind, more):
    """Cauchy-Schwarz is an equality where g_j is (a/b)^j, newest first: nothing smaller than C would do. For Adamax
    the worst are gradients of size b^-j."""
    a, b = more.get("betas", (0.9, 0.999))
    steps = np.arange(60)[::-1]
    worst = (a / b) ** steps if kind != "Adamax" else b ** (-steps.astype(float)) * b**60
    gradients = np.concatenate([worst, np.zeros(7)])[:, None, None]
    said = judged(trained(kind, more, gradients, torch.float64))
    if kind == "Adamax":  # u is the largest of b^j |g_j|, all of them equal here
        assert said.age_most[0] == pytest.approx(7, abs=0.1)
    else:
        assert said.age_most[0] == pytest.approx(7, abs=0.01)


def test_a_row_of_defaults_that_had_a_gradient_just_now_is_proved_alive_within_a_few_dozen_steps():
    decay = decay_of(trained("Adam", {}, np.ones((3, 1, 1))))
    assert decay.ceiling == pytest.approx(52.86, abs=0.01)
    assert decay.ratio == pytest.approx(0.81 / 0.999)
    assert most(decay, np.array([decay.typical]))[0] == pytest.approx(33, abs=0.5)


def test_ages_that_are_set_by_hand():
    decay = Decay(0.5, 0.25, 2.0, 0.3, "exp_avg", "exp_avg_sq", False)
    ratio = np.array([2.0, 2 * 0.25**3, 0.3 * 0.25**5, 0.0, np.nan])
    np.testing.assert_allclose(most(decay, ratio)[:2], [0, 3], atol=1e-3)
    assert list(most(decay, ratio)[3:]) == [np.inf, np.inf]
    np.testing.assert_allclose(estimate(decay, ratio, 0.3)[2:4], [5, np.inf])
    assert math.isnan(estimate(decay, ratio, 0.3)[4])
    assert saturation(0.5, 1.0, 2.0**-9) == 9
    assert saturation(0.5, 1e-9, 1e-3) == 0


@pytest.mark.parametrize(
    "betas", [(0.0, 0.999), (0.9, 0.5), (0.9, 0.81), (1.0, 0.999), None, (0.9,), ("a", "b"), (0.9, 1.0)]
)
def test_where_m_does_not_fall_faster_nothing_is_said(betas):
    moments = {"exp_avg": stored(torch.ones(3)), "exp_avg_sq": stored(torch.ones(3))}
    assert decay_of(Owner("Adam", 0, {"betas": betas}, moments)) is None


def test_a_stuck_denormal_proves_nothing():
    """m stays at a denormal for ever, v goes on falling: r rises again, and would tell of a gradient."""
    gradients = np.concatenate([np.full((5, 2, 1), 1e-15), np.zeros((1000, 2, 1))])
    owner = trained("Adam", {"betas": (0.9, 0.99)}, gradients)
    m, v = (owner.moments[key].whole() for key in ("exp_avg", "exp_avg_sq"))
    assert 0 < m.max() < torch.finfo(torch.float32).tiny < v.min()
    decay = decay_of(owner)
    assert most(decay, (m.double() ** 2 / v.double()).numpy()).max() < 700
    said = judged(owner)
    assert (said.age_most == np.inf).all()
    assert not said.never.any()
    np.testing.assert_array_equal(said.age.ravel(), said.saturates)
    assert 100 < said.saturates <= 1000


def test_ages_are_those_of_rows_that_stopped_one_after_another():
    generator = np.random.default_rng(3)
    gradients = generator.normal(size=(500, 83, 29))
    ages = np.maximum(0, np.arange(83) - 53) * 13
    for unit, age in enumerate(ages):
        gradients[500 - age :, unit] = 0
    said = judged(trained("Adam", {}, gradients))
    assert np.abs(said.age - ages)[ages > 0].max() < 5
    assert (said.age_most >= ages).all()
    assert said.saturates > 700
