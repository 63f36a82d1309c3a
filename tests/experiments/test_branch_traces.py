"""A training that is probed notices nothing, bit for bit, and neither do its monitor, its loader and its dither."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from handset import RATE, hand_set, stepper
from making import same
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import deadneuron
from deadneuron.causes import Trial
from deadneuron.experiments.branch import probe_learning_rates
from deadneuron.experiments.memory import same_bits
from deadneuron.measure.rng import differing, rng_state
from deadneuron.store.reader import read_folder
from deadneuron.store.trials import read_trials


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(5, 7),
            nn.BatchNorm1d(7),
            nn.Dropout(0.3),
            nn.Linear(7, 3),
        )
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))) * (1 + np.random.rand()))


class Training:
    """Batch norm, dropout, a scheduler outside of the step, a shuffling loader with or without a generator."""

    def __init__(self, optimizer, generator=None):
        torch.manual_seed(3)
        np.random.seed(5)
        self.model = Net()
        self.optimizer = optimizer(self.model.parameters())
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 11)
        data = TensorDataset(torch.randn(35, 5), torch.randint(3, (35,)))
        generator = None if generator is None else torch.Generator().manual_seed(generator)
        self.loader = DataLoader(data, 7, shuffle=True, generator=generator)
        self.losses = []

    def step(self, batch):
        def closure():
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
            loss.backward()
            return loss

        return self.optimizer.step(closure)

    def epoch(self, branch_at=(), **options):
        for number, batch in enumerate(self.loader):
            if number in branch_at:
                self.probe(**options)
            self.losses.append(self.step(batch).item())
            self.scheduler.step()

    def probe(self, **options):
        given = {"multipliers": (0.5, 3), "steps": 3} | options
        return probe_learning_rates(self.model, self.optimizer, self.step, self.loader, **given)

    def everything(self):
        state = self.optimizer.state_dict()["state"].values()
        tensors = [value for entry in state for value in entry.values() if isinstance(value, torch.Tensor)]
        tensors += [*self.model.state_dict().values(), *(p.grad for p in self.model.parameters() if p.grad is not None)]
        rest = (self.losses[:], self.model.calls, self.model.training, self.scheduler.state_dict())
        return [tensor.clone() for tensor in tensors], rest, rng_state()


def check_equal(left, right):
    assert len(left[0]) == len(right[0])
    assert all(same_bits(a, b) for a, b in zip(left[0], right[0], strict=True))
    assert left[1] == right[1]
    assert differing(left[2], right[2]) == []


OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, torch.tensor(0.01), amsgrad=True, capturable=False),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=2),
}


@pytest.mark.parametrize("generator", [None, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_goes_on_bit_for_bit(name, generator):
    straight = Training(OPTIMIZERS[name], generator)
    straight.epoch()
    straight.epoch()
    expected = straight.everything()
    branched = Training(OPTIMIZERS[name], generator)
    branched.probe()  # before the first step: the optimizer has no state
    branched.epoch(branch_at=(0, 3), offload=True)
    branched.epoch()
    check_equal(branched.everything(), expected)


def test_the_epoch_of_a_loader_with_persistent_workers_goes_on():
    training = Training(OPTIMIZERS["momentum"])
    training.loader = DataLoader(training.loader.dataset, 7, num_workers=1, persistent_workers=True)
    training.epoch(branch_at=(2,), multipliers=(2,), steps=1)
    assert len(training.losses) == 5


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), None])
def test_also_after_an_exception_or_a_ctrl_c(error):
    training = Training(OPTIMIZERS["momentum"])
    training.epoch()
    before, hooks = training.everything(), dict(training.optimizer._optimizer_step_pre_hooks)

    def on_step(multiplier, step):
        if (multiplier, step) == (3, 1):
            if error is None:
                signal.raise_signal(signal.SIGINT)
            else:
                raise error

    with pytest.raises(KeyboardInterrupt if error is None else type(error)):
        training.probe(on_step=on_step)
    check_equal(training.everything(), before)
    assert dict(training.optimizer._optimizer_step_pre_hooks) == hooks


def watched(run, branch_at):
    training = Training(OPTIMIZERS["AdamW"])
    with deadneuron.watch(training.model, training.optimizer, run, every=2) as monitor:
        plain = training.step

        def step(batch):
            loss = plain(batch)
            monitor.log(loss=loss)
            return loss

        training.step = step
        for _ in range(3):
            training.epoch(branch_at=branch_at)
    return read_folder(run)


def test_an_open_monitor_sees_nothing_of_it_and_keeps_the_result(tmp_path):
    straight, branched = watched(tmp_path / "a", ()), watched(tmp_path / "b", (0, 2))
    assert same(straight.windows, branched.windows)
    assert straight.info.sites == branched.info.sites
    assert straight.gaps == branched.gaps == ()
    ticks = [[(t.step, t.rates, t.loss, t.skipped, t.finite) for t in run.ticks] for run in (straight, branched)]
    assert ticks[0] == ticks[1]
    gaps: list = []
    trials = read_trials(tmp_path / "b", gaps)
    assert (len(trials), gaps) == (6, [])
    assert read_trials(tmp_path / "a", gaps) == ()
    trial: Trial = trials[0]
    assert trial.kind == "branch"
    assert trial.result["steps"] == 3
    assert [t.result["step"] for t in trials] == [0, 2, 5, 7, 10, 12]
    assert trials[1].summary[0].startswith("probe of 2 rates before step 2, 3 steps at each: ")
    assert {link.of for link in trial.links} == {"deaths", "revivals"}
    assert all(link.evidence == "branch" and link.p is None for link in trial.links)


@pytest.mark.parametrize("watches", ["the whole", "another model, with this optimizer"])
def test_a_monitor_of_what_the_model_is_a_part_of_sees_nothing_of_it_either(watches, tmp_path):
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 1))
    other = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    watched = nn.Sequential(model) if watches == "the whole" else other
    with deadneuron.watch(watched, optimizer, tmp_path / "run") as monitor:
        watched(torch.randn(11, 5)).sum().backward()
        optimizer.step()
        deadneuron.probe_learning_rates(model, optimizer, step, [torch.randn(11, 5)] * 3, multipliers=(1, 2), steps=2)
        assert monitor.steps == 1
        watched(torch.randn(11, 5)).sum().backward()
        optimizer.step()
    stored = read_folder(tmp_path / "run")
    assert [tick.step for tick in stored.ticks] == [0, 1]
    assert sum(window.samples for window in stored.windows) == 22


def test_what_a_step_logs_in_a_branch_is_not_logged(run):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    plain = stepper(model, optimizer)
    with deadneuron.watch(model, optimizer, run) as monitor:

        def step(batch):
            monitor.log(loss=7.0, grad_norm=3.0)
            return plain(batch)

        plain(torch.ones(1, 1))
        probe_learning_rates(model, optimizer, step, [torch.ones(1, 1)] * 2, (1,), 1)
        plain(torch.ones(1, 1))
    ticks = read_folder(run).ticks
    assert [(tick.step, tick.loss, tick.grad_norm) for tick in ticks] == [(0, None, None), (1, None, None)]


def test_a_dither_rests_and_goes_on_where_it_was():
    def trained(probed):
        model = hand_set()
        optimizer = torch.optim.SGD(model.parameters(), RATE)
        dither, step = deadneuron.LRDither(optimizer, seed=3), stepper(model, optimizer)
        for number in range(7):
            if probed and number == 1:
                curve = probe_learning_rates(model, optimizer, step, [torch.ones(1, 1)], (1, 2), 2, [torch.zeros(3, 1)])
                moved = [point.last_loss - point.first_loss for point in curve.points]
                assert moved == [-6 * RATE, -6 * 2 * RATE]  # six units, one step: nothing was dithered
            step(torch.ones(1, 1))
        dither.close()
        return model[0].bias.detach()

    assert torch.equal(trained(True), trained(False))
