"""The learning-rate probe: exact deaths of hand-set nets, a training that notices nothing, and clear errors."""

from __future__ import annotations

import json
import math
import signal

import numpy as np
import pytest
import torch
from handset import FALLING, RATE, STEPS, hand_probe, hand_set, stepper
from making import same
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import deadneuron
from deadneuron.causes import Trial
from deadneuron.errors import DeadneuronWarning, NotARunError
from deadneuron.experiments.branch import probe_learning_rates
from deadneuron.experiments.curve import ratio_of_shares
from deadneuron.experiments.memory import same_bits
from deadneuron.measure.rng import differing, rng_state
from deadneuron.store.reader import read_folder
from deadneuron.store.trials import read_trials


def test_deaths_and_revivals_of_a_hand_set_net_are_exact():
    result = hand_probe()
    deaths = {m: sum(z - m / 16 <= 0 for z in FALLING) for m in (1, 2, 4)}
    assert deaths == {1: 1, 2: 1, 4: 2}
    assert [p.multiplier for p in result.points] == [1, 2, 4]
    assert [p.rates for p in result.points] == [(RATE,), (2 * RATE,), (4 * RATE,)]
    assert [p.new_deaths for p in result.points] == [deaths[m] for m in (1, 2, 4)]
    assert [p.revived for p in result.points] == [0, 0, 1]
    assert [p.alive for p in result.points] == [4, 4, 4]
    assert [p.share for p in result.points] == [0.2, 0.2, 0.4]
    assert (result.units, result.fired, result.examples, result.bound) == (6, 5, 7, 3 / 7)
    assert all(p.silent_before == 1 and p.steps == STEPS and not p.diverged for p in result.points)
    layer = result.points[2].layers[0]
    assert (layer.name, layer.units, layer.fired, layer.new_deaths, layer.revived) == ("1", 6, 5, 2, 1)
    first = sum(FALLING) - (1 - 3 / 16)
    assert [p.first_loss for p in result.points] == [first] * 3
    assert result.points[0].last_loss == first - 3 * 6 * RATE


@pytest.mark.parametrize(
    ("threshold", "safe", "over"), [(0.21, 2, 4), (0.2, None, 1), (0.41, 4, None)], ids=["between", "none", "all"]
)
def test_the_safe_rate(tmp_path, threshold, safe, over):
    profile = tmp_path / "own.toml"
    profile.write_text(f"[thresholds]\nbranch = {threshold}\n")
    result = hand_probe(profile=profile)
    assert result.safe == (None if safe is None else safe * RATE)
    assert result.over == (None if over is None else over * RATE)
    lines = str(result).splitlines()
    marks = [line[0] for line in lines if line.startswith(("✓", "!", "✗"))]
    assert marks == ["✓" if p.share < threshold else "!" for p in result.points]
    words = "no rate that was tried is safe" if safe is None else f"safe up to lr {safe * RATE:.4g} (×{safe})"
    assert words in str(result)


def test_a_lower_rate_that_is_over_ends_what_is_safe():
    model, optimizer = hand_set(), None
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    plain = stepper(model, optimizer)

    def step(batch):  # the lowest rate kills all
        loss = plain(batch)
        if optimizer.param_groups[0]["lr"] < RATE:
            model[0].bias.data.fill_(-1)
        return loss

    result = probe_learning_rates(model, optimizer, step, [torch.ones(1, 1)], (0.5, 1), 1, [torch.zeros(2, 1)])
    assert [p.new_deaths for p in result.points] == [5, 0]
    assert (result.safe, result.over) == (None, RATE / 2)


@pytest.mark.parametrize("steps", [1, 3])
def test_divergence_is_recorded_and_the_others_are_measured(steps):
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), 2.0**-20)
    step = stepper(model, optimizer, lambda out: out.square().mean())
    weight = model[0].weight.detach().clone()
    result = probe_learning_rates(model, optimizer, step, [torch.ones(3, 1)], (1, 2.0**147), steps, [torch.zeros(7, 1)])
    fine, bad = result.points
    assert not fine.diverged
    assert bad.diverged
    assert bad.steps == min(steps, 2)  # with one step the loss is finite, and the weights are not
    assert (bad.new_deaths, bad.alive, bad.share, bad.revived, bad.layers) == (None, None, None, None, ())
    assert (bad.last_loss is None) == (steps > 1)
    assert (result.safe, result.over) == (2.0**-20, 2.0**127)
    assert "diverged in step" in str(result)
    assert torch.equal(model[0].weight, weight)
    assert json.loads(result.to_json())["points"][1]["diverged"]
    assert result.frame.new_deaths.isna().tolist() == [False, True]


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


def test_the_result_goes_to_the_run_that_is_named(tmp_path, run):
    model = hand_set()
    with deadneuron.watch(model, None, run):
        pass
    result = hand_probe(run=run)
    (trial,) = read_trials(run, [])
    assert (trial.safe, trial.over) == (result.safe, result.over)
    assert trial.links == result.links()
    (run / "trials").rename(run / "gone")
    (run / "trials").write_text("")
    with pytest.warns(DeadneuronWarning, match="could not be kept"):
        assert hand_probe(run=run) == result
    with pytest.raises(NotARunError):
        hand_probe(run=tmp_path / "nothing")


def test_links_are_ratios_with_an_interval_and_no_p():
    deaths, revivals = hand_probe(multipliers=(1, 4)).links()
    assert (deaths.of, deaths.site, deaths.group, deaths.p) == ("deaths", None, 0, None)
    assert (deaths.rate_ratio, deaths.low, deaths.high) == ratio_of_shares(2, 1, 5)
    assert (revivals.rate_ratio, revivals.low, revivals.high) == ratio_of_shares(1, 0, 1)
    assert hand_probe(multipliers=(1,)).links() == ()


def test_ratios_against_the_formula():
    ratio, low, high = ratio_of_shares(13, 5, 29)
    spread = 1.96 * math.sqrt(1 / 13 - 1 / 29 + 1 / 5 - 1 / 29)
    assert ratio == 13 / 5
    assert (low, high) == pytest.approx((ratio / math.exp(spread), ratio * math.exp(spread)), rel=1e-4)
    assert ratio_of_shares(3, 0, 7)[0] == 7
    assert ratio_of_shares(7, 7, 7) == (1, 1, 1)
    assert ratio_of_shares(0, 0, 7) == ratio_of_shares(0, 0, 0) == (None, None, None)


def test_tables_of_the_result():
    result = hand_probe()
    frame, layers = result.frame, result.layers
    assert frame["lr SGD[0]"].tolist() == [RATE, 2 * RATE, 4 * RATE]
    assert frame.new_deaths.tolist() == [1, 1, 2]
    assert layers[["multiplier", "name", "share"]].values.tolist() == [[1, "1", 0.2], [2, "1", 0.2], [4, "1", 0.4]]
    text = str(result)
    assert "5 of 6 units fired on n = 7 examples that no branch trained on" in text
    assert "3/n = 0.43" in text
    row = next(line for line in text.splitlines() if " 4 " in line and "40.0%" in line)
    assert "████████ " in row
    assert row.rstrip().endswith("1 (40%)")


def test_several_groups_and_optimizers_and_a_rate_of_zero():
    model = hand_set()
    still = torch.optim.SGD([{"params": [model[0].weight], "lr": 0.0}], 0.0)
    moving = torch.optim.SGD([{"params": [model[0].bias]}], RATE)

    def step(batch):
        moving.zero_grad()
        loss = model(batch).mean()
        loss.backward()
        moving.step()
        still.step()
        return loss.item()

    result = probe_learning_rates(model, [still, moving], step, [torch.ones(1, 1)], (1, 2), 1, [torch.zeros(3, 1)])
    assert result.groups == ("SGD[0]", "SGD[1]")
    assert [p.rates for p in result.points] == [(0, RATE), (0, 2 * RATE)]
    assert result.lead == 1
    assert (result.safe, result.over) == (2 * RATE, None)
    assert "no higher rate was tried" in str(result)
    assert "lr: of SGD[1]; the rates of all 2 groups are multiplied" in str(result)


def test_a_step_may_change_its_batch_in_place():
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    plain = stepper(model, optimizer)
    batch, seen = torch.ones(1, 1), []

    def step(x):
        seen.append(x.item())
        return plain(x.mul_(2))

    probe_learning_rates(model, optimizer, step, [batch], (1, 2, 4), 2, [torch.zeros(3, 1)])
    assert seen == [1.0] * 6
    assert batch.item() == 1


def test_a_step_that_the_scaler_skips_counts_as_taken():
    model = hand_set()
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    seen = []

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).mean()
        scaler.scale(loss * 4).backward()
        scaler.step(optimizer)
        scaler.update()
        seen.append(scaler.get_scale())
        return loss

    result = probe_learning_rates(
        model, optimizer, step, [torch.ones(1, 1)], (1, 2), 5, [torch.zeros(3, 1)], scaler=scaler
    )
    assert seen[:5] == seen[5:] == [2.0**126, 2.0**125] + [2.0**125] * 3  # restored in between
    assert scaler.get_scale() == 2.0**127
    assert [p.new_deaths for p in result.points] == [2, 3]  # three steps of 4 r each: 3/16 and 3/8


def test_a_net_without_a_unit_that_fires():
    result = hand_probe(probe=[torch.full((3, 1), -100.0)], multipliers=(1,))
    assert result.fired == 5  # their weights are 0
    model = hand_set()
    model[0].bias.data.fill_(-5)
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    none = probe_learning_rates(model, optimizer, stepper(model, optimizer), [torch.ones(2, 1)], (1,), 1)
    assert (none.points[0].share, none.safe, none.over) == (None, None, RATE)
    assert "no unit fired" in str(none)


def test_the_probe_is_public():
    assert deadneuron.probe_learning_rates is probe_learning_rates


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
