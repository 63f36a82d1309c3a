"""Steps with zero gradients against the published rules in Python's floats, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from checkpoints.making import plain
from checkpoints.rules import step
from checkpoints.variants import VARIANTS

from deadneuron.checkpoints.evidence.stepping import step_rows

DOUBLE = torch.float64


def whole(kind, settings):
    """Every setting of the class, as a checkpoint has them."""
    optimizer = getattr(torch.optim, kind)([torch.nn.Parameter(torch.zeros(1))], **settings)
    return plain(optimizer.param_groups[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_gradients_do_what_the_published_rule_says(variant):
    kind, settings = VARIANTS[variant]
    settings = whole(kind, {"lr": 0.03, **settings})
    generator = np.random.default_rng(5)
    before, after = [], []
    rates = 0.03 * np.cos(np.linspace(0, 1.3, 17))
    for value in (0.7, -1.1, 0.0):
        w, state = value, {}
        for gradient in generator.normal(size=11):
            w = step(kind, settings, w, gradient, state)
        before.append((w, dict(state)))
        for rate in rates:
            w = step(kind, {**settings, "lr": rate}, w, 0.0, state)
        after.append((w, dict(state)))
    scalars = {k: v for k, v in before[0][1].items() if k in ("step", "mu_product")} if kind != "SGD" else {}
    keys = before[0][1].keys() - {"step", "mu_product"}
    start = {key: torch.tensor([state[key] for _, state in before], dtype=DOUBLE) for key in keys}
    weights, state = step_rows(
        kind, settings, torch.tensor([w for w, _ in before], dtype=DOUBLE), start, scalars, 17, rates
    )
    # NAdam's product of momenta is kept in float32 by torch.
    rough = 1e-6 if kind == "NAdam" else 1e-12
    torch.testing.assert_close(weights, torch.tensor([w for w, _ in after], dtype=DOUBLE), rtol=rough, atol=1e-14)
    assert state.keys() == keys
    for key in keys:
        expected = torch.tensor([one[key] for _, one in after], dtype=DOUBLE)
        torch.testing.assert_close(state[key], expected, rtol=rough, atol=1e-14)


def test_momentum_alone_is_a_geometric_series():
    settings = whole("SGD", {"lr": 1.0, "momentum": 0.9})
    weights, state = step_rows(
        "SGD",
        settings,
        torch.tensor([2.0], dtype=DOUBLE),
        {"momentum_buffer": torch.tensor([3.0], dtype=DOUBLE)},
        {},
        7,
        np.full(7, 0.1),
    )
    assert state["momentum_buffer"].item() == pytest.approx(3 * 0.9**7)
    assert weights.item() == pytest.approx(2 - 0.1 * 3 * sum(0.9**k for k in range(1, 8)))


def test_decoupled_decay_is_a_product_of_the_rates():
    settings = whole("AdamW", {"weight_decay": 0.1})
    rates = np.array([0.1, 0.02, 0.3])
    state = {key: torch.zeros(1, dtype=DOUBLE) for key in ("exp_avg", "exp_avg_sq")}
    weights, _ = step_rows("AdamW", settings, torch.tensor([2.0], dtype=DOUBLE), state, {"step": 5}, 3, rates)
    assert weights.item() == pytest.approx(2 * math.prod(1 - 0.1 * rate for rate in rates))


def test_the_momentum_of_a_schedule_is_used_update_by_update():
    settings = whole("SGD", {"lr": 1.0, "momentum": 0.5})
    state = {"momentum_buffer": torch.tensor([1.0], dtype=DOUBLE)}
    momenta = np.array([0.9, 0.8, 0.7])
    _, after = step_rows("SGD", settings, torch.zeros(1, dtype=DOUBLE), state, {}, 3, None, momenta)
    assert after["momentum_buffer"].item() == pytest.approx(0.9 * 0.8 * 0.7)
    settings = whole("Adam", {})
    state = {key: torch.ones(1, dtype=DOUBLE) for key in ("exp_avg", "exp_avg_sq")}
    _, after = step_rows("Adam", settings, torch.zeros(1, dtype=DOUBLE), state, {"step": 9}, 3, None, momenta)
    assert after["exp_avg"].item() == pytest.approx(0.9 * 0.8 * 0.7)


@pytest.mark.parametrize("variant", ["momentum with L2", "Adam with L2", "RAdam"])
@pytest.mark.parametrize("length", [1, 7, 64, 257])
def test_where_an_entry_lies_does_not_change_its_bits(variant, length):
    """Rows are gathered and stepped apart from their neighbours: vector and scalar kernels must round alike."""
    kind, settings = VARIANTS[variant]
    settings = whole(kind, settings)
    keys = ("momentum_buffer",) if kind == "SGD" else ("exp_avg", "exp_avg_sq")
    long = {key: torch.randn(1031).abs() for key in keys}
    weights = torch.randn(1031)
    scalars = {} if kind == "SGD" else {"step": 3.0}
    rates = np.full(29, 1e-3)
    all_weights, all_state = step_rows(kind, settings, weights, long, scalars, 29, rates)
    part = slice(5, 5 + length)
    own, state = step_rows(kind, settings, weights[part], {k: v[part] for k, v in long.items()}, scalars, 29, rates)
    assert torch.equal(own, all_weights[part])
    assert all(torch.equal(state[key], all_state[key][part]) for key in keys)


def test_nothing_of_torch_is_left_changed():
    settings = whole("Adam", {})
    seed, threads, dtype = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    weights = torch.ones(3)
    state = {key: torch.ones(3) for key in ("exp_avg", "exp_avg_sq")}
    step_rows("Adam", settings, weights, state, {"step": 2.0}, 5, np.full(5, 0.1))
    assert torch.equal(torch.random.get_rng_state(), seed)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert (torch.tensor([2e-38]) * 0.1).item() > 0  # denormals are not flushed
    assert torch.equal(weights, torch.ones(3))
    assert all(torch.equal(value, torch.ones(3)) for value in state.values())
