"""A training that took a snapshot, went astray and came back goes on bit for bit as one that did not."""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deadneuron.errors import BranchError, UsageError
from deadneuron.experiments.interrupts import uninterrupted
from deadneuron.experiments.memory import same_bits
from deadneuron.experiments.snapshot import Snapshot
from deadneuron.measure.keeping import write_back
from deadneuron.measure.rng import differing, rng_state


class Net(nn.Module):
    """Batch norm, dropout, a tied weight, a frozen one, a count of its calls, numpy's random numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.3)
        self.second, self.tied, self.head = nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 3)
        self.tied.weight = self.second.weight
        self.first.bias.requires_grad_(False)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.drop(torch.relu(self.norm(self.first(x)))) * (1 + 0.1 * np.random.rand() + 0.1 * random.random())
        return self.head(torch.relu(self.tied(torch.relu(self.second(x)))))


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01, amsgrad=True, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, 0.01, fused=True),
    "tensor rate": lambda p: torch.optim.Adam(p, torch.tensor(0.01)),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "groups": lambda p: torch.optim.Adagrad([{"params": p[:3]}, {"params": p[3:], "lr": 0.3, "mine": [1, {"a": 2}]}]),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.1, max_iter=3),
}


class Training:
    """One training, made anew from the same seed each time."""

    def __init__(self, optimizer, scaled):
        torch.manual_seed(3)
        np.random.seed(5)
        random.seed(7)
        self.model = Net()
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, gamma=0.7)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=3) if scaled else None
        self.data = TensorDataset(torch.randn(35, 5), torch.randint(3, (35,)))
        self.losses, self.skipped = [], 0

    def closure(self):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss

    def step(self):
        self.x, self.y = next(iter(DataLoader(self.data, 11, shuffle=True)))
        if self.scaler is not None:
            loss, scale = self.closure(), self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.skipped += self.scaler.get_scale() < scale
        else:
            loss = self.optimizer.step(self.closure)
        self.scheduler.step()
        self.losses.append(loss.item())

    def snapshot(self, **options):
        return Snapshot(self.model, self.optimizer, self.scaler, [self.scheduler], **options)

    def go_astray(self, steps=3):
        for group in self.optimizer.param_groups:
            group["lr"] *= 3
            group["new"] = 1
        for number in range(steps):
            self.step()
            if number == 1 and self.scaler is not None:
                self.model.head.weight.data.fill_(torch.inf)  # this step the scaler skips
        self.model.eval()
        self.model.first.weight.requires_grad_(False)
        self.model.norm.running_mean = torch.zeros(7)
        self.optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)]})
        del self.losses[-steps:]

    def everything(self):
        """Values and identities, as far as training can tell."""
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        found = {name: (id(value), value.detach().clone(), value.requires_grad) for name, value in tensors.items()}
        found |= {f"{n}.grad": None if p.grad is None else p.grad.clone() for n, p in self.model.named_parameters()}
        found["state"] = plain(self.optimizer.state_dict())
        found["others"] = (self.model.calls, self.model.training, self.scheduler.state_dict(), self.losses[:])
        found["scaler"] = None if self.scaler is None else self.scaler.state_dict()
        return found, rng_state()


def plain(value):
    if isinstance(value, torch.Tensor):
        return (value.dtype, value.tolist())
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def check_equal(left, right, identities):
    assert left[0].keys() == right[0].keys()
    for name, value in left[0].items():
        other = right[0][name]
        if isinstance(value, tuple) and len(value) == 3:
            assert same_bits(value[1], other[1]), name
            assert value[2] == other[2], name
            assert value[0] == other[0] or not identities, name
        elif isinstance(value, torch.Tensor):
            assert same_bits(value, other), name
        else:
            assert value == other, name
    assert differing(left[1], right[1]) == []


@pytest.mark.parametrize("before", [0, 4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_follows_is_bit_identical(optimizer, before):
    straight = Training(optimizer, scaled=False)
    for _ in range(before + 4):
        straight.step()
    expected = straight.everything()
    branched = Training(optimizer, scaled=False)
    for _ in range(before):
        branched.step()
    held = branched.everything()
    snapshot = branched.snapshot(offload=before == 4)
    for _ in range(2):  # as often as one likes
        branched.go_astray()
        snapshot.restore()
        check_equal(branched.everything(), held, identities=True)
    for _ in range(4):
        branched.step()
    check_equal(branched.everything(), expected, identities=False)


@pytest.mark.parametrize("before", [0, 4])
def test_with_a_scaler_that_skips(before):
    one = Training("momentum", scaled=True)
    for _ in range(before + 4):
        one.step()
    expected = one.everything()
    two = Training("momentum", scaled=True)
    for _ in range(before):
        two.step()
    snapshot = two.snapshot()
    two.go_astray()
    assert two.skipped == 1
    snapshot.restore()
    for _ in range(4):
        two.step()
    check_equal(expected, two.everything(), identities=False)


def test_tensors_of_the_state_stay_the_same_objects():
    training = Training("Adam", scaled=False)
    training.step()
    weight = training.model.head.weight
    held = {name: id(value) for name, value in training.optimizer.state[weight].items()}
    gradient, group = weight.grad, training.optimizer.param_groups[0]
    snapshot = training.snapshot()
    training.go_astray()
    training.optimizer.state[weight] = {"exp_avg": torch.zeros(1)}
    snapshot.restore()
    assert {name: id(value) for name, value in training.optimizer.state[weight].items()} == held
    assert weight.grad is gradient
    assert training.optimizer.param_groups == [group]


def test_memory_is_one_copy_of_each_tensor():
    training = Training("Adam", scaled=False)
    training.step()
    tensors = {id(t): t for t in [*training.model.parameters(), *training.model.buffers()]}
    tensors |= {id(p.grad): p.grad for p in training.model.parameters() if p.grad is not None}
    tensors |= {id(t): t for state in training.optimizer.state.values() for t in state.values()}
    assert training.snapshot().bytes == sum(t.numel() * t.element_size() for t in tensors.values())


def test_extras_of_all_kinds():
    model = nn.Linear(2, 3)
    teacher, numbers, old = nn.Linear(2, 3), np.random.default_rng(3), np.random.RandomState(5)
    second = torch.optim.Adam(teacher.parameters(), 0.1)
    generator, python = torch.Generator().manual_seed(3), random.Random(5)
    extra = [teacher, second, numbers, old, generator, python]
    snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1), extra=extra)
    weight = teacher.weight.detach().clone()

    def draw():
        return numbers.random(), old.rand(), torch.rand(2, generator=generator).tolist(), python.random()

    drawn = draw()
    teacher(torch.ones(1, 2)).sum().backward()
    second.step()
    assert not torch.equal(teacher.weight, weight)
    snapshot.restore()
    assert torch.equal(teacher.weight, weight)
    assert len(second.state) == 0
    assert draw() == drawn


class Forgetful:
    """Its state cannot be given back."""

    def __init__(self, error=None):
        self.n, self.error = 1, error

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, ValueError("never mind")])
def test_what_cannot_be_restored_is_named(error):
    model = nn.Linear(2, 3)
    weight = model.weight.detach().clone()
    thing = Forgetful(error)
    snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1), extra=[nn.ReLU(), thing])
    thing.n = 2
    model.weight.data.zero_()
    with pytest.raises(BranchError, match=r"could not be restored \(extra\[1\] \(Forgetful.*\[branch\]"):
        snapshot.restore()
    assert torch.equal(model.weight, weight)  # all else is back


def test_memory_that_was_freed_or_exchanged_meanwhile():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    before = [p.detach().clone() for p in model.parameters()]
    snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1))
    model[0].weight.untyped_storage().resize_(0)
    model[0].bias.data = torch.zeros(7, dtype=torch.float64)
    model[1].weight = nn.Parameter(torch.zeros(5, 3))
    place = model[1].bias.data_ptr()
    model[1].bias.data = torch.zeros(5)
    snapshot.restore()
    assert all(same_bits(p.detach(), b) for p, b in zip(model.parameters(), before, strict=True))
    assert model[1].bias.data_ptr() == place


def test_what_shows_one_place_twice():
    model = nn.Linear(2, 3)
    model.register_buffer("wide", torch.arange(2.0)[:, None].expand(2, 3))
    snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1))
    model.wide[:, 0] += 1
    snapshot.restore()
    assert model.wide.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_what_cannot_be_put_back_is_named_and_all_else_is_put_back(monkeypatch):
    class Stubborn(random.Random):
        def setstate(self, state):
            raise ValueError("not again")

    def refuse(tensor, alias, values):
        if tensor is model.wide:
            raise RuntimeError
        write_back(tensor, alias, values)

    monkeypatch.setattr("deadneuron.experiments.memory.write_back", refuse)
    model = nn.Linear(2, 3)
    model.register_buffer("wide", torch.ones(5))
    model.random = Stubborn()
    snapshot = Snapshot(model, torch.optim.SGD(model.parameters(), 0.1))
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    model.eval()
    with pytest.raises(BranchError, match=r"\(ValueError: not again, model\.wide \(RuntimeError\)\)"):
        snapshot.restore()
    assert torch.equal(model.weight, before)
    assert model.training


def test_state_that_cannot_be_copied_and_lazy_layers_are_said_at_once():
    model = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.param_groups[0]["stream"] = (number for number in range(3))
    with pytest.raises(BranchError, match=r"generator.*SGD\.param_groups\[0\]\['stream'\]"):
        Snapshot(model, optimizer)
    with pytest.raises(BranchError, match="lazy"):
        Snapshot(nn.LazyLinear(3), torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(UsageError, match=r"extra\[0\] \(int\)"):
        Snapshot(model, torch.optim.SGD(model.parameters(), 0.1), extra=[5])
    with pytest.raises(UsageError, match="no torch optimizer"):
        Snapshot(model, model)


def test_bits():
    nan = torch.tensor([float("nan"), 0.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same_bits(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert same_bits(torch.zeros(3, 2).t() + 1j, torch.zeros(2, 3) + 1j)
    assert not same_bits(torch.zeros(3, 2), torch.zeros(2, 3))


def test_a_ctrl_c_waits():
    done = []

    def work():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
