"""Rates that are multiplied within a step, and what is left of it afterwards: nothing."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from deadneuron.errors import UsageError
from deadneuron.measure.rescale import Rescale, rates_in_use, undithered

LR = 0.3  # no power of two: a rate that is divided back would differ in its last bit


def parameter():
    made = nn.Parameter(torch.zeros(3))
    made.grad = torch.ones(3)
    return made


def sgd(lr=LR):
    return torch.optim.SGD([parameter()], lr=lr)


def moved(optimizer, step=None):
    """By how much a step with gradient 1 moves the first parameter: the rate that it used."""
    first = optimizer.param_groups[0]["params"][0]
    before = first.detach().clone()
    (step or optimizer.step)()
    return float((before - first.detach())[0])


def test_a_step_uses_the_multiplied_rate_and_leaves_the_very_object_that_was_there():
    optimizer = sgd()
    numbers = iter([0.5, 1.5, 3.0])
    rescale = Rescale(optimizer, lambda: next(numbers))
    rate = optimizer.param_groups[0]["lr"]
    for factor in (0.5, 1.5, 3.0):
        assert moved(optimizer) == pytest.approx(LR * factor)
        assert optimizer.param_groups[0]["lr"] is rate
    rescale.remove()
    assert moved(optimizer) == pytest.approx(LR)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_state_dict_pre_hooks


def test_one_draw_a_step_for_all_groups():
    optimizer = torch.optim.SGD([{"params": [parameter()], "lr": 0.1}, {"params": [parameter()], "lr": 7}])
    drawn = []
    Rescale(optimizer, lambda: drawn.append(0) or 3.0)
    optimizer.step()
    first, second = (group["params"][0][0].item() for group in optimizer.param_groups)
    assert (first, second) == (pytest.approx(-0.3), -21.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 7]
    assert isinstance(optimizer.param_groups[1]["lr"], int)
    assert len(drawn) == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_tensor_stays_the_same_tensor_and_gets_its_bits_back(shared):
    rate = torch.tensor(LR)
    groups = [{"params": [parameter()]} for _ in range(2 if shared else 1)]
    optimizer = torch.optim.SGD(groups, lr=rate, foreach=False)
    inside = []
    optimizer.register_step_post_hook(lambda *_: inside.append(rate.item()))  # before ours
    rescale = Rescale(optimizer, lambda: 7.0)
    bits = rate.clone()
    assert moved(optimizer) == pytest.approx(7 * LR)
    assert optimizer.param_groups[0]["lr"] is rate
    assert torch.equal(rate, bits)
    assert inside == [pytest.approx(7 * LR)], "once, also where two groups share the tensor"
    rescale.remove()


def test_a_whole_number_in_a_tensor_is_multiplied_too():
    rate = torch.tensor(2)
    optimizer = sgd(rate)
    Rescale(optimizer, lambda: 1.5)
    assert moved(optimizer) == 3.0
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(2)


def test_two_multipliers_compose_and_either_may_go_first():
    for gone in (0, 1):
        optimizer = sgd()
        both = [Rescale(optimizer, lambda: 3.0), Rescale(optimizer, lambda: 5.0, dither=True)]
        assert moved(optimizer) == pytest.approx(15 * LR)
        assert rates_in_use(optimizer, ended=True) == [(pytest.approx(15 * LR), 5.0)]
        both[gone].remove()
        assert moved(optimizer) == pytest.approx((5, 3)[gone] * LR)
        assert optimizer.param_groups[0]["lr"] == LR


def test_only_a_dither_is_noted():
    optimizer = sgd()
    Rescale(optimizer, lambda: 3.0)
    optimizer.step()
    ((rate, factor),) = rates_in_use(optimizer, ended=True)
    assert rate == pytest.approx(3 * LR)
    assert factor != factor
    assert rates_in_use(optimizer, ended=False)[0][0] == LR


class Twice(torch.optim.SGD):
    """torch wraps the step of each class: hooks run for both."""

    def step(self, closure=None):
        return super().step(closure)


def test_a_step_that_calls_its_base_class_is_multiplied_once():
    optimizer = Twice([parameter()], lr=LR)
    drawn = []
    Rescale(optimizer, lambda: drawn.append(0) or 3.0)
    for _ in range(3):
        assert moved(optimizer) == pytest.approx(3 * LR)
        assert optimizer.param_groups[0]["lr"] == LR
    assert len(drawn) == 3


def test_a_closure_runs_inside_the_step():
    member = nn.Parameter(torch.tensor([3.0]))
    optimizer = torch.optim.LBFGS([member], lr=0.25, max_iter=1)
    Rescale(optimizer, lambda: 2.0)
    seen = []

    def closure():
        optimizer.zero_grad()
        seen.append(optimizer.param_groups[0]["lr"])
        loss = member.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    # The first step of LBFGS is min(1, 1/|g|_1) · lr · g.
    assert member.item() == pytest.approx(3.0 - min(1.0, 1 / 3) * 0.5 * 3.0)
    assert set(seen) == {0.5}
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_rate_that_the_step_itself_sets_stays():
    optimizer = sgd()
    Rescale(optimizer, lambda: 3.0)

    def closure():
        optimizer.param_groups[0]["lr"] = 11.0
        return torch.ones(())

    optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 11.0
    assert rates_in_use(optimizer, ended=True)[0][1] != 3.0, "what it was multiplied by is not known"


def broken():
    raise ValueError("the user's own")


@pytest.mark.parametrize("kind", [float, torch.tensor])
@pytest.mark.parametrize("then", ["step", "save", "remove"])
def test_a_step_that_raised_leaves_no_multiplied_rate_behind(kind, then):
    optimizer = torch.optim.SGD([parameter()], lr=kind(LR), foreach=False)
    rescale = Rescale(optimizer, lambda: 3.0)
    with pytest.raises(ValueError, match="own"):
        optimizer.step(broken)
    if then == "step":
        assert moved(optimizer) == pytest.approx(3 * LR)
    elif then == "save":
        assert float(optimizer.state_dict()["param_groups"][0]["lr"]) == float(kind(LR))
    else:
        rescale.remove()
    assert float(optimizer.param_groups[0]["lr"]) == float(kind(LR))


def test_without_a_dither_nothing_is_multiplied_or_drawn():
    optimizer = sgd()
    drawn = []
    Rescale(optimizer, lambda: drawn.append(0) or 3.0, dither=True)
    Rescale(optimizer, lambda: 5.0)
    with undithered([optimizer]), undithered(optimizer):
        assert moved(optimizer) == pytest.approx(5 * LR), "a constant one goes on"
    assert drawn == []
    assert moved(optimizer) == pytest.approx(15 * LR)
    with undithered(sgd()):  # nothing to pause
        pass


def test_copies_and_pickles_know_nothing_of_it():
    optimizer = sgd()
    Rescale(optimizer, lambda: 3.0)
    optimizer.step()
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        for member in twin.param_groups[0]["params"]:
            member.grad = torch.ones(3)
        assert moved(twin) == pytest.approx(LR)
        assert twin.state_dict() == sgd().state_dict()


@pytest.mark.parametrize("how", ["positional", "keyword"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_closure_that_raises_leaves_the_rate_as_it_was_for_a_scheduler_behind_it(how, error):
    optimizer = sgd()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    Rescale(optimizer, lambda: 3.0)
    seen = []

    def closure():
        seen.append(optimizer.param_groups[0]["lr"])
        if len(seen) == 1:
            raise error("the user's own")
        return torch.tensor(7.0)

    def step():
        return optimizer.step(closure) if how == "positional" else optimizer.step(closure=closure)

    with pytest.raises(error, match="own"):
        step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == LR / 2
    assert step() == 7.0
    assert seen == [3 * LR, 3 * LR / 2]
    assert optimizer.param_groups[0]["lr"] == LR / 2


def test_it_does_not_keep_an_optimizer_alive():
    optimizer = sgd()
    rescale = Rescale(optimizer, lambda: 3.0, dither=True)
    optimizer.step()
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    rescale.remove()


def test_removed_in_the_middle_of_a_step_it_ends_that_step_as_it_began():
    optimizer = sgd()
    rescale = Rescale(optimizer, lambda: 3.0)

    def closure():
        rescale.remove()
        return torch.ones(())

    assert moved(optimizer, lambda: optimizer.step(closure)) == pytest.approx(3 * LR)
    assert optimizer.param_groups[0]["lr"] == LR
    assert moved(optimizer) == pytest.approx(LR)


def test_what_does_not_fit_is_told_at_once():
    optimizer = sgd()
    with pytest.raises(UsageError, match="no torch optimizer"):
        Rescale(object(), lambda: 1.0)
    Rescale(optimizer, lambda: 1.0, dither=True)
    with pytest.raises(UsageError, match="dithered already"):
        Rescale(optimizer, lambda: 1.0, dither=True)
    told = []

    def closure():
        with pytest.raises(UsageError, match="between two steps"):
            Rescale(optimizer, lambda: 1.0)
        told.append(1)
        return torch.ones(())

    optimizer.step(closure)
    assert told == [1]


def test_a_group_without_a_rate_is_left_alone():
    optimizer = sgd()
    optimizer.param_groups[0]["lr"] = None
    optimizer.param_groups.append({"params": []})
    Rescale(optimizer, lambda: 3.0)
    for hook in optimizer._optimizer_step_pre_hooks.values():
        hook(optimizer, (), {})
    assert optimizer.param_groups[0]["lr"] is None
    assert "lr" not in optimizer.param_groups[1]
