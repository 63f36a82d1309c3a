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


def test_a_death_takes_the_rate_of_whichever_optimizer_stepped(run):
    model = nn.Sequential(thresholds_linear([-9.0] * UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run):
        for step in range(300):
            if step == 50:
                optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
            optimizer.param_groups[0]["lr"] = 7e-9 if step == 120 else 1e-9
            step_once(model, optimizer, batch())
            if step in (20, 120):
                with torch.no_grad():
                    model[0].bias[0 if step == 20 else 1] = -NEVER
    diagnosis = deadneuron.diagnose(run)
    assert [(death.unit, death.first_step, death.rate) for death in diagnosis.episodes] == [
        (0, 20, 1e-9),
        (1, 120, 7e-9),
    ]
    assert [(link.group, link.note) for link in diagnosis.links] == [
        (0, "1 death by an update of SGD[0] that used rate 1e-09"),
        (1, "1 death by an update of AdamW[0] that used rate 7e-09"),
    ]


def test_optimizers_that_follow_each_other_share_one_place_and_are_let_go(run):
    model = mlp()
    kept = []
    with deadneuron.watch(model, sgd(model), run) as monitor:
        for _ in range(11):
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
            kept.append(weakref.ref(optimizer))
            for _ in range(3):
                step_once(model, optimizer, batch())
        assert len(monitor._clock.optimizers) == 2
        gc.collect()
        assert [reference() is not None for reference in kept] == [False] * 10 + [True]
    stored = read_folder(run)
    assert stored.info.groups == ("SGD[0]", "Adam[0]")
    assert [tick.rates[-1] for tick in stored.ticks] == [1e-3] * 33


def test_a_wrapper_that_is_an_optimizer_by_name_only_is_looked_into(run):
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner):
            self.optimizer, self.param_groups = inner, inner.param_groups

        def zero_grad(self, set_to_none=True):
            self.optimizer.zero_grad(set_to_none)

        def step(self, closure=None):
            return self.optimizer.step(closure)

    model = mlp()
    wrapper = Lookahead(sgd(model))
    with deadneuron.watch(model, wrapper, run):
        for _ in range(5):
            step_once(model, wrapper, batch())
    assert len(read_folder(run).ticks) == 5


def test_the_first_step_is_apart_though_an_optimizer_of_the_list_begins_later(run):
    model = mlp()
    early, late = torch.optim.SGD(model[:2].parameters(), lr=0.01), torch.optim.SGD(model[2:].parameters(), lr=0.01)
    with deadneuron.watch(model, [early, late], run):
        for step in range(130):
            step_once(model, early, batch())
            if step >= 20:
                late.step()
    assert [(w.first_step, w.last_step) for w in read_folder(run).windows][:2] == [(0, 0), (1, 49)]
    assert deadneuron.diagnose(run).verdicts[0].correlation is not None


def test_the_counts_of_a_thousand_sites_move_a_dozen_times(run, monkeypatch):
    from deadneuron.measure.pool import Pool

    moves = []
    allocate = Pool._allocate
    monkeypatch.setattr(Pool, "_allocate", lambda self: (moves.append(1), allocate(self))[1])
    model = nn.Sequential(*(layer for _ in range(1009) for layer in (nn.Linear(2, 2), nn.ReLU())))
    with deadneuron.watch(model, None, run, every=1) as monitor:
        model(torch.ones(3, 2))
        monitor.step(lr=0.1)
    windows = read_folder(run).windows
    assert len(windows) == 1009
    assert {window.rows for window in windows} == {3}
    assert all(window.histogram.sum() == 6 for window in windows)
    assert len(moves) <= 13


def test_a_monitor_that_is_closed_by_its_own_finding_says_nothing_and_lets_the_training_go_on(run):
    model = nn.Sequential(thresholds_linear([-9.0] * UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with deadneuron.watch(model, optimizer, run, on_finding=lambda finding: monitor.close()) as monitor:
        monitor._looked = (-1e9, 0.0)  # its share of the time is no matter here
        for step in range(400):
            if step == 20:
                with torch.no_grad():
                    model[0].bias.fill_(-NEVER)
            step_once(model, optimizer, batch())
            monitor._looked = (-1e9, 0.0)
    assert monitor.gaps == ()
    assert 100 < len(read_folder(run).ticks) < 400
