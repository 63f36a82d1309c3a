"""Optimizers that a training makes later, nested steps, and rates that are set late."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from loops import batch, mlp, sgd
from torch import nn
from zoo import BATCH, INPUTS, NEVER, UNITS, step_once, thresholds_linear

import deadneuron
from deadneuron.store.reader import read_folder


def rates(run):
    return [tick.rates for tick in read_folder(run).ticks]


def test_a_second_phase_with_a_new_optimizer_is_followed_and_said(run):
    model = nn.Sequential(thresholds_linear([-9.0] * UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    first = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, first, run) as monitor:
        for _ in range(30):
            step_once(model, first, batch())
        second = torch.optim.AdamW(model.parameters(), lr=1e-9)
        for step in range(150):
            if step == 10:
                with torch.no_grad():
                    model[0].bias.fill_(-NEVER)
            step_once(model, second, batch())
    assert [gap.where for gap in monitor.gaps] == ["optimizer"]
    stored = read_folder(run)
    assert stored.info.groups == ("SGD[0]", "AdamW[0]")
    assert len(stored.ticks) == 180
    diagnosis = deadneuron.diagnose(run)
    assert (diagnosis.last_step, diagnosis.verdicts[0].dead, diagnosis.status) == (179, UNITS, "warning")
    assert {episode.first_step for episode in diagnosis.episodes} == {39}


def test_an_optimizer_of_another_model_is_left_alone(run):
    model, other = mlp(), mlp()
    with deadneuron.watch(model, sgd(model), run) as monitor:
        step_once(other, sgd(other), batch())
        model(batch())
    assert monitor.gaps == ()
    assert read_folder(run).ticks == ()


@pytest.mark.parametrize("decorate", [lambda f: f, torch.no_grad()], ids=["plain", "decorated"])
def test_a_step_that_calls_its_parents_step_counts_once(decorate, run):
    class Mine(torch.optim.SGD):
        @decorate
        def step(self, closure=None):
            return super().step(closure)

    model = mlp()
    sgd(mlp())  # torch wraps the parent's step when the first plain SGD is made
    optimizer = Mine(model.parameters(), lr=0.01)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(7):
            step_once(model, optimizer, batch())
    assert rates(run) == [(0.01,)] * 7


def test_a_hook_that_sets_the_rate_behind_ours_is_seen_from_its_first_step(run):
    model = mlp()
    optimizer = sgd(model)
    plan = iter([0.5, 0.25, 0.125, 0.0625])
    with deadneuron.watch(model, optimizer, run):
        optimizer.register_step_pre_hook(lambda o, args, kwargs: o.param_groups[0].update(lr=next(plan)))
        for _ in range(4):
            step_once(model, optimizer, batch())
    assert rates(run) == [(0.5,), (0.25,), (0.125,), (0.0625,)]


def test_a_closure_that_sets_the_rate_is_seen(run):
    model = mlp()
    optimizer = sgd(model)
    plan = iter([0.5, 0.25, 0.125])

    def closure():
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = next(plan)
        loss = model(batch()).square().sum() * 1e-6
        loss.backward()
        return loss

    with deadneuron.watch(model, optimizer, run):
        for _ in range(3):
            optimizer.step(closure)
    assert rates(run) == [(0.5,), (0.25,), (0.125,)]


def test_a_layer_that_is_unfrozen_gets_its_feeder_and_its_rate(run):
    model = nn.Sequential(thresholds_linear([-9.0] * UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for step in range(260):
            if step == 60:
                model[0].requires_grad_(True)
            if step == 100:
                with torch.no_grad():
                    model[0].bias[2] = -NEVER
            step_once(model, optimizer, batch())
    (site,) = read_folder(run).info.sites
    assert (site.feeder, site.group) == ("0.bias", 0)
    (death,) = deadneuron.diagnose(run).episodes
    assert (death.unit, death.first_step, death.rate) == (2, 99, 0.0)


def test_rates_of_several_groups_without_an_optimizer_are_all_kept(run):
    model = mlp()
    with deadneuron.watch(model, None, run) as monitor:
        for step in range(3):
            model(batch())
            monitor.step(lr=[0.1, 0.01 * step])
    assert rates(run) == [(0.1, 0.0), (0.1, 0.01), (0.1, 0.02)]
    stored = read_folder(run)
    assert stored.info.groups == ("lr[0]", "lr[1]")
    assert {site.group for site in stored.info.sites} == {None}, "which of them is nobody's to say"
    assert deadneuron.read_run(run).ticks["lr:lr[1]"].tolist() == [0.0, 0.01, 0.02]


def test_new_leaves_at_every_step_are_still_one_site(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    with deadneuron.watch(model, None, run) as monitor:
        for _ in range(13):
            loss = torch.func.functional_call(model, leaves, (batch(),)).square().mean()
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            pairs = zip(leaves.items(), gradients, strict=True)
            leaves = {name: (value - 1e-5 * g).detach().requires_grad_() for (name, value), g in pairs}
            monitor.step(lr=1e-5)
        kept = weakref.ref(leaves["0.bias"])
    assert len(read_folder(run).info.sites) == 1
    assert sum(window.rows for window in read_folder(run).windows) == 13 * BATCH
    del leaves, loss, gradients, pairs
    gc.collect()
    assert kept() is None


def test_weights_that_are_loaded_by_assignment_keep_their_site(run):
    model = mlp()
    with deadneuron.watch(model, None, run) as monitor:
        for _ in range(5):
            model(batch())
            monitor.step(lr=0.1)
            model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    assert [site.feeder for site in read_folder(run).info.sites] == ["0.bias", "2.bias"]


def test_a_monitor_that_is_dropped_unclosed_goes_with_its_model(run):
    model = mlp()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, optimizer, run)
    step_once(model, optimizer, batch())
    gone = weakref.ref(model), weakref.ref(monitor)
    thread = monitor._writer._thread
    del model, optimizer, monitor
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    thread.join(5)
    assert not thread.is_alive()
    step_once(other := mlp(), sgd(other), batch())  # the hook on all optimizers is harmless, and gone after one look
