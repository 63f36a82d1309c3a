"""Steps and rates with real optimizers, schedulers and scalers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from watching import added_up
from zoo import BATCH, INPUTS, UNITS, step_once

import deadneuron
from deadneuron.errors import DeadneuronWarning, UsageError
from deadneuron.store.reader import read_folder

nan = math.nan


def small_model():
    return nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, 2))


def batch():
    return torch.randn(BATCH, INPUTS)


def rates(stored):
    return [tick.rates for tick in stored.ticks]


# ── one optimizer ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 12, cycle_momentum=False),
        lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5),
    ],
    ids=["step", "one cycle", "lambda", "cosine"],
)
def test_a_tick_has_the_rate_that_its_own_step_used_and_not_the_next_one(make, run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    scheduler = make(optimizer)
    used = []
    with deadneuron.watch(model, optimizer, run):
        for _ in range(11):
            before = model[0].bias.detach().clone()
            optimizer.zero_grad()
            model(batch()).sum().backward()
            gradient = model[0].bias.grad.clone()
            optimizer.step()
            moved = (before - model[0].bias.detach()) / gradient  # what the step really did
            used.append(float(moved[gradient.abs() > 1e-3].median()) if (gradient.abs() > 1e-3).any() else nan)
            scheduler.step()
    stored = added_up(run)
    assert [tick.step for tick in stored.ticks] == list(range(11))
    for tick, rate in zip(stored.ticks, used, strict=True):
        assert math.isnan(rate) or tick.rates[0] == pytest.approx(rate, rel=1e-2)
    assert len({tick.rates[0] for tick in stored.ticks}) > 2
    assert stored.info.groups == ("SGD[0]",)


def test_every_group_has_its_rate_and_every_site_its_group(run):
    model = small_model().append(nn.GELU())
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "lr": 0.01}]
    )
    with deadneuron.watch(model, optimizer, run) as monitor:
        for factor in (1.0, 0.5, 0.25):
            step_once(model, optimizer, batch())
            optimizer.param_groups[1]["lr"] = 0.01 * factor / 2
    stored = added_up(run)
    assert rates(stored) == [(0.1, 0.01), (0.1, 0.005), (0.1, 0.0025)]
    assert stored.info.groups == ("AdamW[0]", "AdamW[1]")
    assert [(site.feeder, site.group) for site in monitor.sites] == [("0.bias", 0), ("2.bias", 1)]


def test_a_rate_that_is_a_tensor_is_read_at_its_step(run):
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.25), foreach=False)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(3):
            step_once(model, optimizer, batch())
            optimizer.param_groups[0]["lr"].mul_(0.5)
    assert rates(read_folder(run)) == [(0.25,), (0.125,), (0.0625,)]


def test_a_group_that_is_added_midway_comes_last_and_moves_no_other(run):
    model, head = small_model().append(nn.ReLU()), nn.Linear(2, 2)
    first = torch.optim.SGD(model[0].parameters(), lr=0.5)
    second = torch.optim.Adam(model[2].parameters(), lr=0.125)
    with deadneuron.watch(model, [first, second], run) as monitor:
        for step in range(60):
            if step == 2:
                first.add_param_group({"params": head.parameters(), "lr": 0.25})
            first.zero_grad()
            model(batch()).sum().backward()
            first.step()
            second.step()
    stored = added_up(run)
    assert rates(stored)[:2] == [(0.5, 0.125)] * 2
    assert rates(stored)[2:] == [(0.5, 0.125, 0.25)] * 58
    assert stored.info.groups == ("SGD[0]", "Adam[0]", "SGD[1]")
    assert [site.group for site in monitor.sites] == [0, 1]


# ── several optimizers ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_alternating_pair_counts_one_step_a_round(run):
    model = nn.ModuleDict({"generator": small_model(), "critic": nn.Sequential(nn.Linear(2, UNITS), nn.ReLU())})
    generator = torch.optim.SGD(model["generator"].parameters(), lr=0.5)
    critic = torch.optim.SGD(model["critic"].parameters(), lr=0.25)
    with deadneuron.watch(model, [generator, critic], run):
        for _ in range(110):
            critic.zero_grad()
            model["critic"](model["generator"](batch()).detach()).sum().backward()
            critic.step()
            generator.zero_grad()
            model["critic"](model["generator"](batch())).sum().backward()
            generator.step()
    stored = read_folder(run)
    assert rates(stored) == [(0.5, 0.25)] * 110
    assert stored.info.groups == ("SGD[0]", "SGD[1]")
    assert [(w.first_step, w.last_step) for w in stored.windows] == [(0, 0), (1, 49), (50, 99), (100, 109)] * 2
    assert [w.samples for w in stored.windows] == [BATCH, 99 * BATCH, 100 * BATCH, 20 * BATCH] * 2


def test_two_optimizers_side_by_side_make_one_tick_a_step(run):
    model = small_model()
    matrices = torch.optim.SGD([model[0].weight, model[2].weight], lr=0.5)
    vectors = torch.optim.AdamW([model[0].bias, model[2].bias], lr=0.25)
    with deadneuron.watch(model, [matrices, vectors], run) as monitor:
        for _ in range(53):
            model(batch()).sum().backward()
            matrices.step()
            vectors.step()
    stored = added_up(run)
    assert rates(stored) == [(0.5, 0.25)] * 53
    assert [(w.first_step, w.last_step, w.samples) for w in stored.windows] == [(0, 52, 53 * BATCH)]
    assert [site.group for site in monitor.sites] == [1], "the group of the bias"


def test_an_optimizer_that_steps_every_fifth_time_has_no_rate_in_between(run):
    model = small_model()
    often = torch.optim.SGD(model[0].parameters(), lr=0.5)
    seldom = torch.optim.SGD(model[2].parameters(), lr=0.25)
    with deadneuron.watch(model, [often, seldom], run):
        for step in range(20):
            model(batch()).sum().backward()
            often.step()
            if step % 5 == 4:
                seldom.step()
    stored = added_up(run)
    assert [tick.step for tick in stored.ticks] == list(range(20))
    assert [rate[0] for rate in rates(stored)] == [0.5] * 20
    assert [step for step, rate in enumerate(rates(stored)) if rate[1] == 0.25] == [4, 9, 14, 19]
    assert sum(math.isnan(rate[1]) for rate in rates(stored)) == 16
    assert sum(w.samples for w in stored.windows) == 20 * BATCH


def test_passes_of_a_long_run_with_a_seldom_optimizer_are_all_counted_once(run):
    model = small_model()
    often = torch.optim.SGD(model[0].parameters(), lr=0.0)
    seldom = torch.optim.SGD(model[2].parameters(), lr=0.0)
    with deadneuron.watch(model, [often, seldom], run):
        for step in range(160):
            model(batch()).sum().backward()
            often.step()
            if step % 5 == 0:
                model(batch()).sum().backward()  # still of this step
                seldom.step()
    windows = added_up(run).windows
    assert sum(w.samples for w in windows) == (160 + 32) * BATCH
    for window in windows:
        fired = window.active > 0
        assert fired.any()
        assert (window.first_active[fired] >= window.first_step).all()
        assert (window.last_active[fired] <= window.last_step).all()
    assert windows[-1].last_step == 159
    for before, after in pairwise(windows):
        assert after.first_step in (before.last_step, before.last_step + 1)


# ── closures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["LBFGS", "SGD"])
def test_the_passes_of_a_closure_belong_to_the_step_that_calls_it(kind, run):
    model = small_model()
    optimizer = (
        torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
        if kind == "LBFGS"
        else torch.optim.SGD(model.parameters(), lr=0.1)
    )
    calls = []
    with deadneuron.watch(model, optimizer, run) as monitor:
        for _ in range(4):
            x = batch()
            calls.append(0)

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().sum()
                loss.backward()
                calls[-1] += 1
                monitor.log(loss=float(len(calls)))
                return loss

            optimizer.step(closure)
    stored = added_up(run)
    assert sum(calls) >= 4
    assert (kind == "LBFGS") == (sum(calls) > 4)
    assert [tick.step for tick in stored.ticks] == [0, 1, 2, 3]
    assert [tick.loss for tick in stored.ticks] == [1.0, 2.0, 3.0, 4.0]
    (window,) = stored.windows
    assert (window.first_step, window.last_step) == (0, 3)
    assert window.rows == sum(calls) * BATCH
    assert set(window.last_active.tolist()) <= {-1, 0, 1, 2, 3}
    assert max(window.last_active) == 3


def test_a_closure_that_raises_leaves_the_clock_usable(run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def broken():
        model(batch())
        raise ValueError("the user's own")

    with deadneuron.watch(model, optimizer, run) as monitor:
        with pytest.raises(ValueError, match="own"):
            optimizer.step(broken)
        step_once(model, optimizer, batch())
        monitor.log(loss=5.0)
        step_once(model, optimizer, batch())
    stored = added_up(run)
    assert [tick.loss for tick in stored.ticks] == [None, 5.0, None]
    assert stored.gaps == ()


# ── without an optimizer, and what is logged ─────────────────────────────────────────────────────────────────────────


def test_without_an_optimizer_the_loop_counts_the_steps_itself(run):
    model = small_model()
    with deadneuron.watch(model, None, run) as monitor:
        for step in range(60):
            model(batch())
            monitor.step(lr=torch.tensor(0.5) if step == 1 else 0.25)
    stored = read_folder(run)
    assert rates(stored)[:3] == [(0.25,), (0.5,), (0.25,)]
    assert stored.info.groups == ("lr",)
    assert [(w.first_step, w.last_step, w.samples) for w in stored.windows] == [
        (0, 0, BATCH),
        (1, 49, 49 * BATCH),
        (50, 59, 10 * BATCH),
    ]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_loss_belongs_to_the_step_of_the_pass_it_came_from(when, paused, run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with deadneuron.watch(model, optimizer, run) as monitor:
        if paused:
            monitor.pause()
        for step in range(4):
            optimizer.zero_grad()
            model(batch()).sum().backward()
            if when == "before":
                monitor.log(loss=torch.tensor(float(step)), grad_norm=step + 0.5)
            optimizer.step()
            if when == "after":
                model.eval()(batch())  # a validation pass comes between
                model.train()
                monitor.log(loss=float(step))
                monitor.log(grad_norm=torch.tensor(step + 0.5, requires_grad=True))
    ticks = read_folder(run).ticks
    assert [tick.loss for tick in ticks] == [0.0, 1.0, 2.0, 3.0]
    assert [tick.grad_norm for tick in ticks] == [0.5, 1.5, 2.5, 3.5]


def test_a_loss_tensor_may_change_after_it_was_logged(run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total = torch.zeros(())
    with deadneuron.watch(model, optimizer, run) as monitor:
        for _ in range(3):
            step_once(model, optimizer, batch())
            total += 1
            monitor.log(loss=total)
    assert [tick.loss for tick in read_folder(run).ticks] == [1.0, 2.0, 3.0]


def test_a_logged_vector_is_a_gap_and_loses_no_tick(run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with deadneuron.watch(model, optimizer, run) as monitor:
        with pytest.warns(DeadneuronWarning, match="expected one number"):
            monitor.log(loss=torch.ones(3))
        step_once(model, optimizer, batch())
    assert [tick.loss for tick in read_folder(run).ticks] == [None]


def test_what_is_no_optimizer_is_an_error_before_anything_is_written(run):
    for wrong in (object(), [torch.optim.SGD([torch.ones(1)], lr=1.0), "adam"], small_model().parameters()):
        with pytest.raises(UsageError, match="no torch optimizer"):
            deadneuron.watch(small_model(), wrong, run)
    assert not run.exists()


def test_a_wrapped_optimizer_is_found_inside_its_wrapper(run):
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with deadneuron.watch(model, Wrapper(optimizer), run):
        step_once(model, optimizer, batch())
    assert rates(read_folder(run)) == [(0.5,)]


def test_the_run_says_what_each_group_has_besides_its_rate(tmp_path):
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    slow = {"params": model[2].parameters(), "momentum": 0.5, "lr": torch.tensor(0.1), "hint": object()}
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, slow], lr=0.1, momentum=0.9, weight_decay=0.01)
    other = torch.optim.Adam([torch.zeros(2, requires_grad=True)], betas=(0.7, 0.8))
    with deadneuron.watch(model, [optimizer, other], tmp_path / "run"):
        for _ in range(3):
            model(torch.randn(7, 3)).sum().backward()
            optimizer.step()
        optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "momentum": 0.25})
        model(torch.randn(7, 3)).sum().backward()
        optimizer.step()
    settings = read_folder(tmp_path / "run").info.settings
    assert [one.get("momentum") for one in settings] == [0.9, 0.5, None, 0.25]
    assert settings[2]["betas"] == [0.7, 0.8]
    assert settings[0]["weight_decay"] == 0.01
    assert not {"lr", "params", "hint"} & settings[1].keys()
