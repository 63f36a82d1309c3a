"""The rates between two checkpoints against those that a real training used: the very numbers, or told as not so."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints.onfile import checkpoint
from checkpoints.trainings import Dense, split, train
from torch.optim import lr_scheduler as schedulers

from deadneuron.checkpoints.contents import Rates
from deadneuron.checkpoints.layouts.schedules import rates_between

SAVES = (10, 20, 30, 50)


def sequence(optimizer):
    parts = [schedulers.LinearLR(optimizer, 0.1, total_iters=13), schedulers.CosineAnnealingLR(optimizer, 40)]
    return schedulers.SequentialLR(optimizer, parts, milestones=[13])


def chain(optimizer):
    parts = [schedulers.ConstantLR(optimizer, 0.5, total_iters=13), schedulers.ExponentialLR(optimizer, 0.97)]
    return schedulers.ChainedScheduler(parts)


def nested(optimizer):
    return schedulers.ChainedScheduler([sequence(optimizer), schedulers.StepLR(optimizer, 17, gamma=0.7)])


SCHEDULES = {
    "StepLR": lambda o: schedulers.StepLR(o, 7, gamma=0.7),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [3, 13, 13, 17, 23], gamma=0.7),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.97),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, 0.9, total_iters=37),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.3, total_iters=17),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 43, power=1.7),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 37, eta_min=1e-4),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 7, T_mult=2),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=53),
    "OneCycleLR linear": lambda o: schedulers.OneCycleLR(
        o, [0.1] * len(o.param_groups), total_steps=53, cycle_momentum=False, anneal_strategy="linear", three_phase=True
    ),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=7, mode="triangular2"),
    "CyclicLR range": lambda o: schedulers.CyclicLR(
        o, 0.01, 0.1, step_size_up=7, mode="exp_range", gamma=0.99, cycle_momentum=False
    ),
    "SequentialLR": sequence,
    "ChainedScheduler": chain,
    "ChainedScheduler nested": nested,
}
MAKERS = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.05),
}


def trained(schedule, make=MAKERS["SGD"], *, groups=lambda model: model.parameters(), keep=True, epochs=False, **loop):
    """(checkpoints, truth) of a training, nothing on disk. With `epochs` the file counts those and no updates."""
    model = Dense()
    optimizer = make(groups(model))
    scheduler = schedule(optimizer) if schedule is not None else None
    kept = []

    def save(step):
        counter = {"epoch": step // loop["epoch"]} if epochs else {"global_step": step}
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **counter}
        if scheduler is not None and keep:
            content["lr_scheduler"] = scheduler.state_dict()
        kept.append(copy.deepcopy(content))
        return Path(f"step_{step}.pt")

    truth = train(model, optimizer, scheduler, save, **({"saves": SAVES} | loop))
    return [checkpoint(content) for content in kept], truth


def holds(rates: Rates | None, truth, first: int, last: int) -> None:
    """The very rates, and the very momenta, of updates first … last-1."""
    assert rates is not None
    assert rates.exact
    np.testing.assert_array_equal(rates.by_update, truth.rates_between(first, last))
    used = np.array(truth.momenta[first:last])
    if rates.momenta is not None:
        np.testing.assert_array_equal(rates.momenta, used)
    else:
        assert (used == used[0]).all()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")  # of torch's own SequentialLR
def test_a_schedule_stepped_every_update_is_rebuilt_to_the_bit(schedule, make):
    saved, truth = trained(SCHEDULES[schedule], MAKERS[make], groups=split)
    for earlier, later in [*pairwise(saved), (saved[0], saved[-1])]:
        rates = rates_between(earlier, later)
        holds(rates, truth, earlier.step, later.step)
        assert rates.evidence == f"rebuilt from the saved state of {schedule.split()[0]}"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_a_schedule_stepped_every_epoch_is_rebuilt_to_the_bit(schedule, late):
    """Saved at the ends of epochs, after the schedule's step or before it."""
    saved, truth = trained(SCHEDULES[schedule], MAKERS["AdamW"], epoch=10, late=late, epochs=True)
    for earlier, later in pairwise(saved):
        holds(rates_between(earlier, later), truth, earlier.step, later.step)
        # With a count of updates it may have been written anywhere in an epoch.
        counted = rates_between(earlier, replace(later, epoch_ended=False))
        assert not counted.exact
        np.testing.assert_array_equal(counted.by_update, truth.rates_between(earlier.step, later.step))


@pytest.mark.parametrize("schedule", ["CosineAnnealingLR", "ChainedScheduler"])
def test_checkpoints_saved_before_the_schedules_own_step(schedule):
    saved, truth = trained(SCHEDULES[schedule], late=True)
    for earlier, later in pairwise(saved):
        holds(rates_between(earlier, later), truth, earlier.step, later.step)


def test_groups_with_rates_of_their_own():
    def groups(model):
        return [{"params": [p], "lr": 0.01 * (i + 1)} for i, p in enumerate(model.parameters())]

    saved, truth = trained(SCHEDULES["CosineAnnealingLR"], groups=groups)
    holds(rates_between(saved[1], saved[2]), truth, 20, 30)
    assert len(set(truth.rates[20])) == 6


def test_checkpoints_inside_epochs_hide_when_the_rate_changed():
    saved, truth = trained(SCHEDULES["ExponentialLR"], epoch=17)
    # It changed once in between, and nobody knows when: epochs of 10 would have the same counts.
    assert not rates_between(saved[0], saved[1]).exact
    assert rates_between(saved[0], saved[3]) is None
    holds(rates_between(saved[1], saved[2]), truth, 20, 30)  # both in one epoch


def test_an_epoch_of_two_possible_lengths_is_none():
    saved, _ = trained(SCHEDULES["ExponentialLR"], epoch=10)
    # Twice 20 updates, saved before the second step of the schedule? Or once 40, saved after the first?
    state = dict(saved[1].schedulers[0])
    start = replace(saved[0], step=0, schedulers=({**state, "last_epoch": 0},))
    end = replace(saved[1], step=40, schedulers=({**state, "last_epoch": 1},))
    assert rates_between(start, end) is None


def test_a_constant_rate_is_exact_where_nothing_speaks_against_it():
    saved, truth = trained(None)
    rates = rates_between(saved[0], saved[1])
    holds(rates, truth, 10, 20)
    assert rates.evidence == "the rate is the same at both ends"


def test_a_schedule_that_was_not_saved_makes_equal_rates_a_guess():
    saved, _ = trained(SCHEDULES["StepLR"], saves=(2, 5, 11), keep=False)
    rates = rates_between(saved[0], saved[1])
    assert not rates.exact
    np.testing.assert_array_equal(rates.by_update, 0.05)
    assert rates_between(saved[1], saved[2]) is None


def test_functions_are_not_saved_and_so_not_rebuilt():
    schedule = schedulers.LambdaLR
    saved, _ = trained(lambda optimizer: schedule(optimizer, lambda step: 1.0 if step in {10, 20} else 0.1))
    rates = rates_between(saved[0], saved[1])
    assert not rates.exact
    saved, _ = trained(lambda optimizer: schedule(optimizer, lambda step: 0.9**step))
    assert rates_between(saved[0], saved[1]) is None


def test_a_plateau_that_did_not_move_is_exact_and_one_that_did_is_none():
    saved, _ = trained(None)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(3))], 0.05)
    state = schedulers.ReduceLROnPlateau(optimizer).state_dict()
    first, second = (replace(one, schedulers=(state | {"last_epoch": i},)) for i, one in enumerate(saved[:2]))
    assert rates_between(first, second).exact
    (one,) = second.optimizers
    slower = replace(one, groups=tuple(replace(g, settings={**g.settings, "lr": 0.005}) for g in one.groups))
    assert rates_between(first, replace(second, optimizers=(slower,))) is None


def test_a_schedule_that_ends_elsewhere_is_not_believed():
    saved, _ = trained(SCHEDULES["CosineAnnealingLR"])
    state = dict(saved[0].schedulers[0])
    assert rates_between(replace(saved[0], schedulers=({**state, "T_max": 31},)), saved[1]) is None
    assert rates_between(saved[0], replace(saved[1], step=21)) is None  # last_epoch and updates do not agree


def test_a_last_bit_that_another_torch_rounds_otherwise_is_not_exact():
    saved, truth = trained(SCHEDULES["CosineAnnealingLR"])
    (one,) = saved[1].optimizers
    other = float(np.nextafter(one.groups[0].settings["lr"], 1))
    moved = replace(one, groups=tuple(replace(g, settings={**g.settings, "lr": other}) for g in one.groups))
    rates = rates_between(saved[0], replace(saved[1], optimizers=(moved,)))
    assert not rates.exact
    np.testing.assert_array_equal(rates.by_update, truth.rates_between(10, 20))


def test_a_count_that_is_neither_updates_nor_epochs_is_not_exact():
    """Updates that GradScaler skipped are counted by the schedule alone."""
    saved, _ = trained(SCHEDULES["CosineAnnealingLR"])
    first, second = (replace(one, step=one.step - 3) for one in saved[:2])
    assert not rates_between(first, second).exact


def test_two_optimizers_with_a_schedule_for_one():
    model, other = Dense(), torch.nn.Parameter(torch.ones(3))
    optimizer, still = MAKERS["AdamW"](model.parameters()), torch.optim.Adam([other], 0.3)
    scheduler = SCHEDULES["CosineAnnealingLR"](optimizer)
    kept = []

    def save(step):
        states = [still.state_dict(), optimizer.state_dict()]
        weights = {**model.state_dict(), "other": other}
        content = {"model": weights, "optimizers": states, "lr_schedulers": [scheduler.state_dict()], "step": step}
        kept.append(checkpoint(copy.deepcopy(content)))
        return Path("x.pt")

    truth = train(model, optimizer, scheduler, save, saves=(7, 13))
    rates = rates_between(*kept)
    assert rates.exact
    np.testing.assert_array_equal(rates.by_update[:, 1:], truth.rates_between(7, 13))
    np.testing.assert_array_equal(rates.by_update[:, 0], 0.3)


def logged(saved, truth, *, every=1, first=0):
    """The checkpoints with rates in a log, as transformers writes them."""
    rates = [(step + 1, row[0]) for step, row in enumerate(truth.rates) if (step + 1) % every == 0 and step >= first]
    bare = [replace(one, schedulers=()) for one in saved]
    return [replace(one, rates=tuple(entry for entry in rates if entry[0] <= one.step)) for one in bare]


def test_a_log_of_every_update_is_exact():
    saved, truth = trained(SCHEDULES["CosineAnnealingLR"], groups=split)
    saved = logged(saved, truth)
    rates = rates_between(saved[0], saved[1])
    holds(rates, truth, 10, 20)
    assert rates.evidence == "every update's rate was logged"


def test_a_log_of_some_updates_is_interpolated():
    saved, truth = trained(SCHEDULES["LinearLR"], groups=split)
    saved = logged(saved, truth, every=5)
    rates = rates_between(saved[0], saved[1])
    assert not rates.exact
    np.testing.assert_allclose(rates.by_update, truth.rates_between(10, 20), rtol=1e-12)  # a line is a line


def test_a_log_that_contradicts_the_checkpoint_is_not_exact():
    saved, truth = trained(SCHEDULES["CosineAnnealingLR"])
    saved = logged(saved, truth)
    shifted = tuple((step, rate) for (step, _), (_, rate) in pairwise(saved[1].rates))
    assert not rates_between(replace(saved[0], rates=()), replace(saved[1], rates=shifted)).exact


def test_a_log_that_moves_between_equal_ends_speaks_against_a_constant_rate():
    saved, _ = trained(None)
    moving = replace(saved[1], rates=((13, 0.5),))
    assert not rates_between(saved[0], moving).exact
    assert rates_between(saved[0], moving).by_update.max() == 0.5
    assert rates_between(saved[0], replace(saved[1], rates=((13, 0.05),))).exact


def test_a_log_names_one_group_and_others_follow_it_in_proportion():
    saved, truth = trained(
        SCHEDULES["ExponentialLR"], groups=lambda model: [dict(g, lr=0.1 / (i + 1)) for i, g in enumerate(split(model))]
    )
    saved = logged(saved, truth)
    rates = rates_between(saved[0], saved[1])
    assert not rates.exact
    np.testing.assert_allclose(rates.by_update, truth.rates_between(10, 20), rtol=1e-12)


def test_what_cannot_be_told_is_none():
    saved, _ = trained(None)
    first, second = saved[:2]
    assert rates_between(second, first) is None
    assert rates_between(first, first) is None
    assert rates_between(first, replace(second, step=None)) is None
    assert rates_between(first, replace(second, optimizers=())) is None
    assert rates_between(replace(first, optimizers=()), replace(second, optimizers=())) is None
    assert rates_between(first, replace(second, step=10**12)) is None


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("value", [None, "x", -1, 0, 1e400, [], {"a": 1}, 10**30])
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_broken_states_are_never_more_than_not_told(schedule, value):
    saved, _ = trained(SCHEDULES[schedule], saves=(2, 5))
    state = saved[0].schedulers[0]
    for key in state:
        first = replace(saved[0], schedulers=({**state, key: value},))
        rates = rates_between(first, replace(saved[1], schedulers=({**saved[1].schedulers[0], key: value},)))
        assert rates is None or rates.by_update.shape == (3, 1)


def test_a_state_cannot_replace_a_method():
    saved, truth = trained(SCHEDULES["StepLR"])
    state = dict(saved[0].schedulers[0]) | {"step": "x", "get_lr": "x", "optimizer": "x"}
    holds(rates_between(replace(saved[0], schedulers=(state,)), saved[1]), truth, 10, 20)
