"""Hooks that the user registers while the model is watched."""

from __future__ import annotations

import torch
from torch import nn
from watching import added_up, frozen_sgd
from zoo import BATCH, INPUTS, NEVER, thresholds_linear

import deadneuron


def watched(run, register):
    model = nn.Sequential(thresholds_linear([0.0, NEVER, -9.0]), nn.ReLU())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        register(model[1])
        for _ in range(5):
            model(torch.rand(BATCH, INPUTS))
            optimizer.step()
    assert [type(hook).__module__.partition(".")[0] for hook in model[1]._forward_pre_hooks.values()] == ["builtins"]
    (window,) = added_up(run).windows
    return window.active.tolist(), [gap.reason for gap in monitor.gaps]


def test_what_a_later_hook_makes_of_the_input_is_counted_and_the_pass_that_missed_it_is_a_gap(run):
    active, reasons = watched(run, lambda act: act.register_forward_pre_hook(lambda module, args: (-args[0],)))
    assert active == [BATCH, 4 * BATCH, BATCH], "as it is given: in the first pass before, then behind that hook"
    assert len(reasons) == 1
    assert "registered after watch()" in reasons[0]


def test_a_later_hook_that_only_looks_is_no_gap(run):
    active, reasons = watched(run, lambda act: act.register_forward_pre_hook(lambda module, args: None))
    assert active == [5 * BATCH, 0, 5 * BATCH]
    assert reasons == []


def test_two_monitors_do_not_overtake_each_other(run):
    model = nn.Sequential(thresholds_linear([0.0, NEVER, -9.0]), nn.ReLU())
    with deadneuron.watch(model, None, run / "a") as first, deadneuron.watch(model, None, run / "b") as second:
        order = list(model[1]._forward_pre_hooks)
        for _ in range(3):
            model(torch.rand(BATCH, INPUTS))
        assert list(model[1]._forward_pre_hooks) == order
    assert first.gaps == second.gaps == ()
