"""The dither under real optimizers, schedulers and the monitor, in every order of attaching."""

from __future__ import annotations

import json
import math
import random

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import lr_scheduler
from zoo import BATCH, INPUTS, UNITS

import deadneuron
from deadneuron.errors import UsageError
from deadneuron.measure.rescale import undithered
from deadneuron.store.reader import read_folder

LR, STEPS = 0.3, 23


def small_model():
    return nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, 2))


def step_once(model, *optimizers):
    for optimizer in optimizers:
        optimizer.zero_grad()
    model(torch.randn(BATCH, INPUTS)).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def ticks_of(run):
    return read_folder(run).ticks


def check(ticks, place=0, rate=LR, steps=None):
    """Each of these steps has a multiplier, and the rate that it was really made with."""
    for tick in ticks[slice(*steps)] if steps else ticks:
        assert tick.multipliers is not None
        assert tick.multipliers[place] in (0.5, 1.5)
        assert tick.rates[place] == rate * tick.multipliers[place]


# ── the draws ────────────────────────────────────────────────────────────────────────────────────────────────────────


def draws(dither, count):
    return [dither._sources[0]() for _ in range(count)]


@pytest.mark.parametrize(("low", "high"), [(0.5, 1.5), (0.25, 4.0), (0.9, 1.1)])
def test_the_mean_is_one_and_the_chance_is_what_it_must_be(low, high):
    many = draws(deadneuron.LRDither(torch.optim.SGD([nn.Parameter(torch.ones(1))]), low, high, seed=3), 20_011)
    chance = (high - 1) / (high - low)
    assert set(many) == {low, high}
    assert many.count(low) / len(many) == pytest.approx(chance, abs=5 * (chance * (1 - chance) / len(many)) ** 0.5)
    assert sum(many) / len(many) == pytest.approx(1, abs=5 * ((1 - low) * (high - 1) / len(many)) ** 0.5)


def test_seeds_and_optimizers_draw_apart_and_a_seed_draws_again():
    def sources(seed):
        pair = [torch.optim.SGD([nn.Parameter(torch.ones(1))]) for _ in range(2)]
        return deadneuron.LRDither(pair, seed=seed)._sources

    one, again, other = sources(5), sources(5), sources(6)
    drawn = [[source() for _ in range(64)] for source in (one[0], again[0], one[1], other[0])]
    assert drawn[0] == drawn[1]
    assert len({tuple(d) for d in drawn}) == 3


def test_the_training_s_random_numbers_are_left_alone():
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    states = random.getstate(), torch.get_rng_state()
    with deadneuron.LRDither(optimizer):
        for _ in range(5):
            optimizer.step()
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_resumed_dither_goes_on_with_the_same_draws():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    first = deadneuron.LRDither(optimizer, 0.25, 1.75, seed=11)
    draws(first, 17)
    state = json.loads(json.dumps(first.state_dict()))
    rest = draws(first, 31)
    first.close()
    resumed = deadneuron.LRDither(optimizer)
    resumed.load_state_dict(state)
    assert draws(resumed, 31) == rest
    assert resumed.state_dict() == first.state_dict()


def test_a_state_of_something_else_changes_nothing():
    dither = deadneuron.LRDither(torch.optim.SGD([nn.Parameter(torch.ones(1))]))
    before = dither.state_dict()
    for wrong in ({}, before | {"drawn": [1, 2]}, before | {"drawn": [-1]}, before | {"drawn": None}):
        with pytest.raises(UsageError, match="no state of this dither"):
            dither.load_state_dict(wrong)
    with pytest.raises(UsageError, match="low < 1"):
        dither.load_state_dict(before | {"low": 2.0})
    assert dither.state_dict() == before


@pytest.mark.parametrize(
    "bad",
    [
        *({"low": low} for low in (0.0, 1.0, -1.0, math.nan, "0.5", None)),
        *({"high": high} for high in (1.0, 0.7, math.inf)),
        *({"seed": seed} for seed in (1.5, None, True, "7")),
    ],
)
def test_bad_bounds_and_seeds_are_told(bad):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))])
    with pytest.raises(UsageError):
        deadneuron.LRDither(optimizer, **bad)
    assert not optimizer._optimizer_step_pre_hooks


def test_bad_optimizers_are_told_and_leave_nothing_attached():
    one, two = (torch.optim.SGD([nn.Parameter(torch.ones(1))]) for _ in range(2))
    for wrong in ([], [one, one], [one, object()], object()):
        with pytest.raises(UsageError):
            deadneuron.LRDither(wrong)
    with deadneuron.LRDither(two), pytest.raises(UsageError, match="dithered already"):
        deadneuron.LRDither([one, two])
    assert not one._optimizer_step_pre_hooks
    assert not two._optimizer_step_pre_hooks


# ── schedulers ───────────────────────────────────────────────────────────────────────────────────────────────────────

SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.7),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 17),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.7, STEPS),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.7, patience=1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda s: 1 / (3 + s)),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda s: 0.97),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.7, 5),
    "two in a row": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=5), lr_scheduler.ExponentialLR(o, 0.9)], [5]
    ),
}


@pytest.mark.parametrize("tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_its_way_to_the_last_bit(name, tensor, run):
    """A list, a state and a monitor that all must look as if there were no dither."""

    def train(dithered):
        model = small_model()
        optimizer = torch.optim.SGD(model.parameters(), torch.tensor(LR) if tensor else LR, 0.9, foreach=False)
        scheduler = SCHEDULERS[name](optimizer)
        dither = deadneuron.LRDither(optimizer, seed=7) if dithered else None
        seen = []
        with deadneuron.watch(model, optimizer, run / str(dithered)):
            for step in range(STEPS):
                step_once(model, optimizer)
                scheduler.step(*([1.0 + step % 5] if name == "plateau" else []))
                seen.append(float(optimizer.param_groups[0]["lr"]))
        if dither is not None:
            dither.close()
        return seen, {k: v for k, v in optimizer.state_dict()["param_groups"][0].items() if k != "params"}

    plain, dithered = train(False), train(True)
    assert plain == dithered
    ticks = [ticks_of(run / name) for name in ("False", "True")]
    for without, with_dither in zip(*ticks, strict=True):
        factor = with_dither.multipliers[0]
        assert factor in (0.5, 1.5)
        assert with_dither.rates[0] == pytest.approx(without.rates[0] * factor, rel=1e-6)
        assert without.multipliers is None
    assert len({tick.multipliers for tick in ticks[1]}) == 2


# ── what the monitor notes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dither_first", [True, False])
@pytest.mark.parametrize("behind", ["nothing", "the dither", "a hook of the user's"])
def test_the_order_of_attaching_does_not_matter(dither_first, behind, run):
    """The clock moves its hook behind all others; whoever moves behind it again is read after the step."""
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    dither = deadneuron.LRDither(optimizer) if dither_first else None
    with deadneuron.watch(model, optimizer, run):
        dither = dither or deadneuron.LRDither(optimizer)
        hooks = optimizer._optimizer_step_pre_hooks
        (ours,) = (key for key, hook in hooks.items() if hasattr(hook, "__self__"))
        theirs = optimizer.register_step_pre_hook(lambda *_: None).id
        for _ in range(STEPS):
            if behind != "nothing":
                hooks.move_to_end(ours if behind == "the dither" else theirs)
            step_once(model, optimizer)
    check(ticks_of(run))
    assert {tick.multipliers for tick in ticks_of(run)} == {(0.5,), (1.5,)}


def test_a_dither_of_some_steps_is_noted_in_those(run):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with deadneuron.watch(model, optimizer, run):
        for step in range(30):
            if step == 7:
                dither = deadneuron.LRDither(optimizer)
            if step == 13:
                with undithered(optimizer):
                    step_once(model, optimizer)
                continue
            if step == 19:
                dither.close()
            step_once(model, optimizer)
    ticks = ticks_of(run)
    without = [tick.step for tick in ticks if tick.multipliers is None]
    assert without == [*range(7), 13, *range(19, 30)]
    assert {tick.rates for tick in ticks if tick.step in without} == {(LR,)}
    check([tick for tick in ticks if tick.step not in without])
    assert dither.state_dict()["drawn"] == [11]


@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
@pytest.mark.parametrize("dither_first", [True, False])
def test_of_two_optimizers_each_has_its_own(which, dither_first, run):
    model = small_model()
    pair = [torch.optim.SGD(model[0].parameters(), lr=LR), torch.optim.Adam(model[2].parameters(), lr=0.7)]
    chosen = [pair[index] for index in which]
    dither = deadneuron.LRDither(chosen) if dither_first else None
    with deadneuron.watch(model, pair, run):
        dither = dither or deadneuron.LRDither(chosen)
        for _ in range(STEPS):
            step_once(model, *pair)
    ticks = ticks_of(run)
    for index, rate in enumerate((LR, 0.7)):
        if index in which:
            check(ticks, index, rate)
        else:
            assert {tick.rates[index] for tick in ticks} == {rate}
            assert all(math.isnan(tick.multipliers[index]) for tick in ticks)
    if len(which) == 2:
        assert any(len(set(tick.multipliers)) == 2 for tick in ticks), "they draw apart"


@pytest.mark.parametrize("dither_first", [True, False])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips(fused, dither_first, run):
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=fused)
    scaler = GradScaler("cpu", init_scale=4.0)
    dither = deadneuron.LRDither(optimizer) if dither_first else None
    with deadneuron.watch(model, optimizer, run):
        dither = dither or deadneuron.LRDither(optimizer)
        for step in range(11):
            optimizer.zero_grad()
            scaler.scale(model(torch.randn(BATCH, INPUTS)).sum()).backward()
            if step in (2, 5):
                model[2].bias.grad[0] = math.inf
            scaler.step(optimizer)
            scaler.update()
    ticks = ticks_of(run)
    assert [tick.step for tick in ticks if tick.skipped] == [2, 5]
    check([tick for tick in ticks if not tick.skipped])
    if fused:  # it is called, and skips by itself
        check(ticks)
    else:
        assert [(tick.rates, tick.multipliers) for tick in ticks if tick.skipped] == [((LR,), None)] * 2
        assert dither.state_dict()["drawn"] == [9]


def test_a_group_that_comes_later_is_dithered_from_then_on(run):
    model = small_model()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=LR)
    with deadneuron.watch(model, optimizer, run), deadneuron.LRDither(optimizer):
        for step in range(STEPS):
            if step == 11:
                optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.7})
            step_once(model, optimizer)
    ticks = ticks_of(run)
    check(ticks)
    check(ticks, 1, 0.7, (11, None))
    assert {len(tick.multipliers) for tick in ticks} == {1, 2}


def test_a_closure_and_a_wrapped_optimizer(run):
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    model = small_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=LR, max_iter=3)
    with deadneuron.watch(model, optimizer, run) as monitor, deadneuron.LRDither(Wrapper(optimizer)):
        for _ in range(STEPS):
            x = torch.randn(BATCH, INPUTS)

            def closure(x=x):
                optimizer.zero_grad()
                loss = model(x).square().sum()
                loss.backward()
                return loss

            optimizer.step(closure)
    assert monitor.gaps == ()
    check(ticks_of(run))
    assert optimizer.param_groups[0]["lr"] == LR
