"""The frozen reference batch: counted as a phase of its own, and nothing of the training is touched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import deadneuron
from deadneuron.errors import UsageError
from deadneuron.frames import read_run
from deadneuron.store.reader import read_folder

INPUTS, WIDTH, BATCH, EXAMPLES, STEPS = 5, 7, 11, 29, 113


class Net(nn.Module):
    """Everything that a pass may change: batch norm, dropout, counters, random numbers, a functional activation."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()
        self.second, self.drop = nn.Linear(WIDTH, WIDTH), nn.Dropout(0.3)
        self.calls, self.seen = 0, []

    def forward(self, x, scale=1.0, flag=None):
        self.calls += 1
        self.seen.append(len(x))
        noise = nn.functional.dropout(torch.ones(WIDTH), 0.5, training=True)  # in eval mode too
        hidden = self.drop(self.act(self.norm(self.first(x)))) * noise * (1 + 0.01 * random.random())
        return torch.relu(self.second(hidden * scale + 0.01 * np.random.rand())).sum(1)


def train(run, reference=None, net=Net, steps=STEPS, **options):
    torch.manual_seed(13)
    random.seed(13)
    np.random.seed(13)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = torch.randn(97, INPUTS)
    given = reference(data) if reference is not None else None
    losses = []
    with deadneuron.watch(model, optimizer, run, reference=given, **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = model(data[torch.randint(97, (BATCH,))]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    chances = (torch.rand(1).item(), random.random(), np.random.rand())
    state = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    state += [v for s in optimizer.state.values() for v in s.values()]
    return losses, chances, state, model, monitor


WAYS = {
    "tensor": lambda data: data[:EXAMPLES],
    "tuple": lambda data: (data[:EXAMPLES], torch.zeros(EXAMPLES)),
    "dict": lambda data: {"x": data[:EXAMPLES], "labels": torch.zeros(EXAMPLES), "flag": None},
    "function": lambda data: lambda model: model(data[:EXAMPLES], scale=1.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training_with_it_is_the_training_without_bit_for_bit(way, tmp_path):
    losses, chances, state, model, _ = train(tmp_path / "plain")
    with_it = train(tmp_path / "with", WAYS[way])
    assert with_it[0] == losses
    assert with_it[1] == chances
    assert all(torch.equal(a, b) for a, b in zip(state, with_it[2], strict=True))
    assert (with_it[3].calls, with_it[3].seen, with_it[3].training) == (model.calls, model.seen, True)
    assert with_it[4].gaps == ()
    plain, watched = read_run(tmp_path / "plain"), read_run(tmp_path / "with")
    assert plain.units.equals(watched.units)
    assert plain.layers.equals(watched.layers)
    assert [site.name for site in plain.sites] == [site.name for site in watched.sites]
    assert plain.info.reference is None
    assert plain.references == {}


def test_it_counts_what_the_weights_of_that_step_make_of_it(tmp_path):
    class Known(nn.Module):
        """Unit u is active on inputs above u plus the number of steps."""

        def __init__(self):
            super().__init__()
            self.layer, self.act = nn.Linear(1, WIDTH), nn.ReLU()
            nn.init.ones_(self.layer.weight)
            with torch.no_grad():
                self.layer.bias.copy_(-torch.arange(float(WIDTH)))

        def forward(self, x):
            return self.act(self.layer(x))

    model = Known()
    optimizer = torch.optim.SGD([model.layer.bias], lr=1.0)
    batch = torch.arange(EXAMPLES, dtype=torch.float32)[:, None] * 5
    frozen = batch.clone()
    with deadneuron.watch(model, optimizer, tmp_path / "run", reference=batch):
        for _ in range(STEPS):
            batch.fill_(1e9)  # the loader's buffer is used again
            optimizer.zero_grad()
            model(torch.full((BATCH, 1), 1e4)).sum(1).mean().backward()
            optimizer.step()
    stored = read_folder(tmp_path / "run")
    passes = [window for window in stored.windows if window.phase == "reference"]
    assert [(w.first_step, w.last_step) for w in passes] == [(0, 0), (1, 49), (50, 99)]
    for window in passes:
        expected = [int((frozen[:, 0] - unit - window.last_step > 0).sum()) for unit in range(WIDTH)]
        assert window.active.tolist() == expected
        assert (window.samples, window.rows, window.steps) == (EXAMPLES, EXAMPLES, 1)
        assert window.last_active.tolist() == [window.last_step if count else -1 for count in expected]
        assert window.sampled_rows == 0, "no statistics: only what is inside the gate"
    training = [window for window in stored.windows if window.phase == "train"]
    assert sum(window.samples for window in training) == STEPS * BATCH
    cost = stored.info.reference
    assert cost.passes == 3
    assert 0 < cost.seconds < cost.of_seconds
    assert deadneuron.diagnose(read_run(tmp_path / "run")).reference.examples == EXAMPLES


def test_a_batch_that_the_model_does_not_take_is_one_gap_and_the_training_goes_on(tmp_path):
    plain = train(tmp_path / "plain")
    with pytest.warns(deadneuron.errors.DeadneuronWarning, match="reference batch cannot be run"):
        wrong = train(tmp_path / "wrong", lambda data: torch.zeros(EXAMPLES, INPUTS + 1))
    assert wrong[:2] == plain[:2]
    assert all(torch.equal(a, b) for a, b in zip(plain[2], wrong[2], strict=True))
    (gap,) = wrong[4].gaps
    assert (gap.where, gap.first_step) == ("reference", 0)
    assert read_run(tmp_path / "wrong").references == {}


def test_it_rests_while_the_monitor_is_paused(tmp_path):
    torch.manual_seed(17)
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch, calls = torch.randn(EXAMPLES, INPUTS), []

    def look(model):
        calls.append(model(batch))

    with deadneuron.watch(model, optimizer, tmp_path / "run", reference=look) as monitor:
        for step in range(STEPS):
            if step == 20:
                monitor.pause()
            if step == 70:
                monitor.resume()
            optimizer.zero_grad()
            model(torch.randn(BATCH, INPUTS)).sum().backward()
            optimizer.step()
    passes = [w.last_step for w in read_folder(tmp_path / "run").windows if w.phase == "reference"]
    assert passes == [0, 99]
    assert len(calls) == 2


def test_what_failed_once_is_not_tried_again(tmp_path):
    calls = []

    def break_(model):
        calls.append(model)
        raise RuntimeError("first line\nsecond line")

    with pytest.warns(deadneuron.errors.DeadneuronWarning, match="RuntimeError: first line\\)"):
        train(tmp_path / "run", lambda data: break_)
    assert len(calls) == 1


def test_it_runs_in_eval_mode_and_without_gradient(tmp_path):
    moods = []

    def look(model):
        model(torch.zeros(EXAMPLES, INPUTS))
        moods.append((model.training, model.drop.training, torch.is_grad_enabled()))

    train(tmp_path / "run", lambda data: look)
    assert moods == [(False, False, False)] * 3


def test_it_takes_none_of_the_passes_in_which_functions_are_looked_for(tmp_path):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.passes = nn.Linear(INPUTS, WIDTH), 0

        def forward(self, x):
            self.passes += 1
            z = self.layer(x)
            return torch.relu(z).sum(1) + (nn.functional.gelu(z).sum(1) if self.passes > 2 else 0)

    for name, reference in (("plain", None), ("with", WAYS["tensor"])):
        train(tmp_path / name, reference, Late, steps=37)
    plain, watched = read_run(tmp_path / "plain"), read_run(tmp_path / "with")
    assert [(site.op, site.units) for site in plain.sites] == [("ReLU", WIDTH), ("GELU", WIDTH)]
    assert plain.layers.equals(watched.layers)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_a_compiled_training_is_not_compiled_anew_for_it(compiler, in_place, tmp_path):
    torch._dynamo.reset()
    torch.manual_seed(19)
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3), nn.GELU())
    graphs = 0

    def backend(graph, inputs):
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend(compiler)(graph, inputs)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reference = torch.randn(EXAMPLES, INPUTS)
    with deadneuron.watch(model, optimizer, tmp_path / "run", reference=reference):
        if in_place:
            model.compile(backend=backend, dynamic=False)
        compiled = model if in_place else torch.compile(model, backend=backend, dynamic=False)
        for _ in range(STEPS):
            optimizer.zero_grad()
            compiled(torch.randn(BATCH, INPUTS)).square().sum().backward()
            optimizer.step()
    stored = read_folder(tmp_path / "run")
    assert graphs == 1
    assert [site.name for site in stored.info.sites] == ["1", "3"]
    assert sum(w.phase == "reference" for w in stored.windows) == 2 * 3
    assert all(w.samples == EXAMPLES for w in stored.windows if w.phase == "reference")


@pytest.mark.parametrize("batch", ["x", [], {"a": 3}, 7])
def test_a_batch_without_a_tensor_is_told_before_training(batch, tmp_path):
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    with pytest.raises(UsageError, match="holds no tensor"):
        deadneuron.watch(model, None, tmp_path / "run", reference=batch)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["the whole", "a part", "the same"])
def test_it_is_no_pass_of_what_another_monitor_watches(other, tmp_path):
    torch.manual_seed(29)
    part = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU())
    whole = nn.Sequential(part, nn.Linear(WIDTH, 3), nn.ReLU())
    own, others = {"the whole": (part, whole), "a part": (whole, part), "the same": (whole, whole)}[other]
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    reference = torch.randn(EXAMPLES, INPUTS)
    with (
        deadneuron.watch(others, optimizer, tmp_path / "other", phases=("train", "eval")),
        deadneuron.watch(own, optimizer, tmp_path / "own", reference=reference),
    ):
        for _ in range(STEPS):
            optimizer.zero_grad()
            whole(torch.randn(BATCH, INPUTS)).square().sum().backward()
            optimizer.step()
    seen = read_folder(tmp_path / "other")
    assert {window.phase for window in seen.windows} == {"train"}
    assert {s.number: STEPS * BATCH for s in seen.info.sites} == {
        s.number: sum(w.samples for w in seen.windows if w.site == s.number) for s in seen.info.sites
    }
    assert sum(w.samples for w in read_folder(tmp_path / "own").windows if w.phase == "reference" and w.site == 0) == (
        3 * EXAMPLES
    )
