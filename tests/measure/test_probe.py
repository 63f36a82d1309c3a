"""Models whose dead units are known, from a training loop to the windows in the run folder."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from watching import DEAD, SHAPES, STEPS, THRESHOLDS, Shared, added_up, check_window, frozen_sgd, names, train
from zoo import (
    BATCH,
    HEIGHT,
    INPUTS,
    NEVER,
    TIME,
    UNITS,
    WIDTH,
    Seen,
    histogram_by_hand,
    step_once,
    thresholds_linear,
)

import deadneuron
from deadneuron.store.reader import read_folder

# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("inplace", [False, True], ids=["out of place", "in place"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_field_of_a_window_is_what_plain_python_counts(shape, inplace, run):
    make, size, axis = SHAPES[shape]
    model = nn.Sequential(make(), nn.ReLU(inplace=inplace))
    seen = Seen.through(model[1])
    profile = run.parent / "short.toml"
    profile.write_text("[sampling]\nwindow = 9\nevery = 4\n")
    steps = 23 if shape != "images" else 11
    stored = train(model, run, lambda step: torch.randn(size), steps, apart=True, profile=profile)
    (site,) = stored.info.sites
    assert (site.name, site.op, site.units, site.unit_axis, site.axis_from) == ("1", "ReLU", UNITS, axis, "producer")
    assert (site.feeder, site.group, site.gate) == ("0.bias", 0, (0.0, math.inf))
    spans = [(0, 0), (1, 8), *([(9, 17), (18, 22)] if steps == 23 else [(9, 10)])]
    assert [(w.first_step, w.last_step) for w in stored.windows] == spans
    for window in stored.windows:
        check_window(window, seen.inputs, seen.outputs, axis, site.gate, 0, 4, BATCH)
        assert (window.active == 0).nonzero()[0].tolist() == DEAD
        assert (window.phase, window.rank, window.flow, window.output_histogram) == ("train", 0, None, None)


def test_a_gate_with_two_ends_counts_what_is_above(run):
    model = nn.Sequential(thresholds_linear([-10.0, NEVER, 0.0, -3.0, 1.0]), nn.ReLU6())
    seen = Seen.through(model[1])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS), every=1)
    (window,) = stored.windows
    check_window(window, seen.inputs, seen.outputs, 1, (0.0, 6.0), 0, 1, BATCH)
    assert window.active[0] < window.rows, "10 above zero is mostly above 6"
    assert window.above[0] > 0


def test_an_activation_that_is_not_monotone_keeps_the_histogram_of_its_output(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.GELU())
    seen = Seen.through(model[1])
    (window,) = train(model, run, lambda step: torch.randn(BATCH, INPUTS), every=1).windows
    assert window.output_histogram.tolist() == sum(map(histogram_by_hand, seen.outputs)).tolist()
    assert window.histogram.tolist() == sum(map(histogram_by_hand, seen.inputs)).tolist()


def test_the_magnitude_is_that_of_the_activation_whatever_the_users_hooks_make_of_it(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
    seen = Seen.through(model[1])
    model[1].register_forward_hook(lambda module, args, output: output.add(100.0))
    (window,) = train(model, run, lambda step: torch.randn(BATCH, INPUTS), every=1).windows
    check_window(window, seen.inputs, seen.outputs, 1, (0.0, math.inf), 0, 1, BATCH)


def test_units_behind_batch_norm_die_by_its_beta(run):
    norm = nn.BatchNorm2d(UNITS)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.0, -50.0, 50.0, 0.0, -50.0]))
    model = nn.Sequential(nn.Conv2d(INPUTS, UNITS, 3), norm, nn.ReLU(inplace=True))
    seen = Seen.through(model[2])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS, HEIGHT, WIDTH), 3)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.feeder, site.unit_axis) == ("1.bias", 1)
    check_window(window, seen.inputs, seen.outputs, 1, site.gate, 0, 10, BATCH)
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_a_layer_may_be_given_a_batch_and_a_lone_example_by_turns(run):
    model = nn.Sequential(thresholds_linear([-10.0, NEVER, 0.0, -3.0, 1.0]), nn.ReLU6())
    optimizer = frozen_sgd(model)
    alone = torch.tensor([4.0, 0.0, 0.0])
    with deadneuron.watch(model, optimizer, run, every=1) as monitor:
        for _ in range(STEPS):
            with torch.no_grad():
                model(alone)
            step_once(model, optimizer, torch.full((BATCH, INPUTS), -1.0))
            model(torch.full((BATCH, TIME, INPUTS), -1.0))
        assert monitor.gaps == ()
    windows = added_up(run).windows
    assert len({window.site for window in windows}) == 1
    # alone: 14 is above 6, never, 4 fires, 7 is above 6, 3 fires; -1: 9 is above 6, never, never, 2 fires, never
    assert sum(w.active for w in windows).tolist() == [0, 0, STEPS, STEPS * BATCH * (1 + TIME), STEPS]
    assert sum(w.rows for w in windows) == STEPS * (1 + BATCH + BATCH * TIME)
    assert sum(w.samples for w in windows) == STEPS * (1 + BATCH + BATCH)
    assert sum(w.above for w in windows).tolist()[0] == STEPS * (1 + BATCH + BATCH * TIME)


def test_tokens_folded_into_the_batch_axis_are_no_independent_examples(run):
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear(THRESHOLDS), nn.ReLU()

        def forward(self, x):
            return self.act(self.fc(x.flatten(0, 1)))

    (window,) = train(Folded(), run, lambda step: torch.randn(BATCH, TIME, INPUTS)).windows
    assert window.rows == STEPS * BATCH * TIME
    assert window.samples == STEPS * BATCH


def test_a_time_major_cell_counts_the_examples_of_its_batch_axis(run):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear(THRESHOLDS), nn.ReLU()

        def forward(self, x):
            return torch.stack([self.act(self.fc(one)) for one in x])

    (window,) = train(Cell(), run, lambda step: torch.randn(TIME, BATCH, INPUTS), batch_axis=1).windows
    assert window.rows == STEPS * BATCH * TIME
    assert window.samples == STEPS * BATCH


# ── which passes count ───────────────────────────────────────────────────────────────────────────────────────────────


def evaluate_and_train(model, optimizer, x):
    step_once(model, optimizer, x)
    model.eval()
    with torch.no_grad():
        model(torch.full((13, INPUTS), 100.0))
    model.train()


def test_evaluation_passes_count_only_when_asked(tmp_path):
    for phases, expected in {("train",): ["train"], ("eval",): ["eval"], ("train", "eval"): ["eval", "train"]}.items():
        model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
        folder = tmp_path / "-".join(phases)
        loop = evaluate_and_train
        stored = train(model, folder, lambda step: torch.full((BATCH, INPUTS), 0.5), loop=loop, phases=phases)
        assert sorted(w.phase for w in stored.windows) == expected
        for window in stored.windows:
            training = window.phase == "train"
            assert window.last_step == STEPS - 1, "the last evaluation is no step more"
            assert window.rows == window.samples == STEPS * (BATCH if training else 13)
            assert window.active.tolist() == [window.rows, 0, window.rows, 0 if training else window.rows, 0]


def test_accumulated_gradients_are_one_step_of_several_passes(run):
    def loop(model, optimizer, x):
        optimizer.zero_grad()
        for part in x.split(BATCH):
            model(part).sum().backward()
        optimizer.step()

    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
    (window,) = train(model, run, lambda step: torch.randn(3 * BATCH, INPUTS), loop=loop).windows
    assert window.last_step == STEPS - 1
    assert window.rows == window.samples == STEPS * 3 * BATCH


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_counts_nothing_twice(reentrant, run):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
            self.head = nn.Linear(UNITS, 2)

        def forward(self, x):
            return self.head(checkpoint(self.block, x, use_reentrant=reentrant))

    def loop(model, optimizer, x):
        step_once(model, optimizer, x.requires_grad_())

    model = Checkpointed()
    (window,) = train(model, run, lambda step: torch.randn(BATCH, INPUTS), loop=loop).windows
    assert window.rows == window.samples == STEPS * BATCH
    assert (window.active == 0).nonzero()[0].tolist() == DEAD
    assert model.block[0].weight.grad is not None


def test_passes_without_gradient_count_in_training_mode(run):
    def loop(model, optimizer, x):
        with torch.no_grad():
            model(x)
        step_once(model, optimizer, x)

    stored = train(Shared(), run, lambda step: torch.full((BATCH, 3), 0.5), loop=loop)
    assert sorted(names(stored)) == ["act@layers.0", "act@layers.1"], "the sites of the passes with a gradient"
    assert [w.rows for w in stored.windows] == [2 * STEPS * BATCH] * 2


def test_a_first_pass_in_inference_mode_breaks_nothing_later(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, every=1) as monitor:
        with torch.inference_mode():
            model(torch.randn(BATCH, INPUTS))
        for _ in range(3):
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    assert monitor.gaps == ()
    assert sum(w.rows for w in added_up(run).windows) == 4 * BATCH


# ── when a unit died ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", [0, 1, 49, 50, 73])
def test_a_unit_killed_by_update_s_was_last_active_in_forward_s(at, run):
    model = nn.Sequential(thresholds_linear([-10.0, -10.0, NEVER]), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with deadneuron.watch(model, optimizer, run):
        for step in range(120):
            optimizer.zero_grad()
            model(torch.randn(BATCH, INPUTS)).sum().backward()
            model[0].weight.grad.zero_()
            model[0].bias.grad.zero_()
            if step == at:  # the update itself kills it
                model[0].bias.grad[1] = 1e6
            optimizer.step()
    windows = read_folder(run).windows
    assert [(w.first_step, w.last_step) for w in windows] == [(0, 0), (1, 49), (50, 99), (100, 119)]
    assert max(int(w.last_active[1]) for w in windows) == at
    assert [int(w.active[1]) for w in windows] == [
        BATCH * max(0, min(at, w.last_step) - w.first_step + 1) for w in windows
    ]
    assert [w.last_active[0] for w in windows] == [0, 49, 99, 119]
    assert {int(w.first_active[2]) for w in windows} == {-1}


def test_a_unit_that_revives_is_dated_by_its_first_firing(run):
    model = nn.Sequential(thresholds_linear([-10.0, NEVER]), nn.ReLU())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(100):
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
            if step == 61:
                with torch.no_grad():
                    model[0].bias[1] = 10.0
    _, first, second = read_folder(run).windows
    assert (first.first_active[1], first.last_active[1]) == (-1, -1)
    assert (second.first_active[1], second.last_active[1]) == (62, 99)
    assert second.active[1] == 38 * BATCH


def test_complex_numbers_are_a_gap_that_says_so(run):
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.head = nn.Linear(INPUTS, 5, dtype=torch.cfloat), nn.Tanh(), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.act(self.fc(x)).abs() + torch.sigmoid(self.fc(x)).real)

    model = Complex()
    with deadneuron.watch(model, frozen_sgd(model), run) as monitor:
        model(torch.randn(BATCH, INPUTS, dtype=torch.cfloat))
    assert {gap.where for gap in monitor.gaps} == {"act", "sigmoid()"}
    assert all("complex numbers" in gap.reason for gap in monitor.gaps)
    assert len(monitor.gaps) == 2, "and not also that they were never called"
