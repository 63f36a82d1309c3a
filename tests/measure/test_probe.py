"""Models whose dead units are known, from a training loop to the windows in the run folder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import (
    BATCH,
    HEIGHT,
    INPUTS,
    LENGTH,
    NEVER,
    TIME,
    UNITS,
    WIDTH,
    Seen,
    active_by_hand,
    histogram_by_hand,
    rows_of,
    step_once,
    thresholds_conv,
    thresholds_linear,
)

import deadneuron
from deadneuron.errors import UsageError
from deadneuron.monitor import DeadneuronWarning
from deadneuron.store.reader import read_folder

THRESHOLDS = [-10.0, NEVER, 0.0, 0.7, NEVER]  # always, never, half, seldom, never
DEAD = [1, 4]
STEPS = 23


def frozen_sgd(model):
    """Steps that change nothing: the truth stays what the weights were set to."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def train(model, run, x_of_step, steps=STEPS, loop=step_once, **options):
    """Train under the monitor and read the folder back."""
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, **options) as monitor:
        for step in range(steps):
            loop(model, optimizer, x_of_step(step))
    assert monitor.gaps == ()
    return read_folder(run)


def names(stored):
    return [site.name for site in stored.info.sites]


def check_window(window, inputs, outputs, axis, gate, first_step, every, examples):
    """All fields of a window against what was recorded beside it; one pass a step."""
    steps = range(window.first_step, window.last_step + 1)
    hits = {s: np.array(active_by_hand(inputs[s], axis, gate)) for s in steps}
    assert window.rows == sum(inputs[s].numel() for s in steps) // len(window.active)
    assert window.samples == examples * len(steps)
    assert window.active.tolist() == sum(hits.values()).tolist()
    for unit in range(len(window.active)):
        fired = [s for s in steps if hits[s][unit]]
        assert window.first_active[unit] == (fired[0] if fired else -1)
        assert window.last_active[unit] == (fired[-1] if fired else -1)
    full = [s for s in steps if s % every == 0]
    sampled = [rows_of(torch.cat([inputs[s] for s in full], dim=1 if axis == 0 else 0), axis) if full else []][0]
    results = [rows_of(torch.cat([outputs[s] for s in full], dim=1 if axis == 0 else 0), axis) if full else []][0]
    assert window.sampled_rows == (len(sampled[0]) if full else 0)
    for unit, row in enumerate(sampled):
        assert window.above[unit] == sum(value >= gate[1] for value in row if gate[1] < math.inf)
        assert window.nonfinite[unit] == 0
        assert window.mean[unit] == pytest.approx(np.mean(row), rel=1e-3, abs=1e-3)
        assert window.square[unit] == pytest.approx(np.mean(np.square(row)), rel=1e-3)
        assert window.magnitude[unit] == pytest.approx(np.mean(np.abs(results[unit])), rel=1e-3)
        assert window.peak[unit] == pytest.approx(max(row), rel=1e-3)
    expected = sum((histogram_by_hand(inputs[s]) for s in full), start=np.zeros_like(window.histogram))
    assert window.histogram.tolist() == expected.tolist()


# ── shapes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SHAPES = {
    "features": (lambda: thresholds_linear(THRESHOLDS), (BATCH, INPUTS), 1),
    "tokens": (lambda: thresholds_linear(THRESHOLDS), (BATCH, TIME, INPUTS), 2),
    "sequences": (lambda: thresholds_conv(nn.Conv1d, THRESHOLDS), (BATCH, INPUTS, LENGTH), 1),
    "images": (lambda: thresholds_conv(nn.Conv2d, THRESHOLDS), (BATCH, INPUTS, HEIGHT, WIDTH), 1),
}


@pytest.mark.parametrize("inplace", [False, True], ids=["out of place", "in place"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_field_of_a_window_is_what_plain_python_counts(shape, inplace, run):
    make, size, axis = SHAPES[shape]
    model = nn.Sequential(make(), nn.ReLU(inplace=inplace))
    seen = Seen.through(model[1])
    profile = run.parent / "short.toml"
    profile.write_text("[sampling]\nwindow = 9\nevery = 4\n")
    steps = 23 if shape != "images" else 11
    stored = train(model, run, lambda step: torch.randn(size), steps, profile=profile)
    (site,) = stored.info.sites
    assert (site.name, site.op, site.units, site.unit_axis, site.axis_from) == ("1", "ReLU", UNITS, axis, "producer")
    assert (site.feeder, site.group, site.gate) == ("0.bias", 0, (0.0, math.inf))
    spans = [(0, 8), (9, 17), (18, 22)] if steps == 23 else [(0, 8), (9, 10)]
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
    windows = read_folder(run).windows
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


# ── several sites of one module, one site of several calls ───────────────────────────────────────────────────────────


class Shared(nn.Module):
    """One nn.ReLU behind layers of equal width; `plan` says which run, in which order."""

    def __init__(self, depth=2, inplace=False):
        super().__init__()
        self.act = nn.ReLU(inplace=inplace)
        self.layers = nn.ModuleList(thresholds_linear([float(i), NEVER, -10.0], 3) for i in range(depth))
        self.plan = range(depth)

    def forward(self, x):
        return sum(self.act(self.layers[i](x)) for i in self.plan)


def test_a_shared_relu_behind_two_layers_is_two_sites(run):
    model = Shared()
    stored = train(model, run, lambda step: torch.full((BATCH, 3), 0.5))
    assert names(stored) == ["act@layers.0", "act@layers.1"]
    assert [site.feeder for site in stored.info.sites] == ["layers.0.bias", "layers.1.bias"]
    rows = STEPS * BATCH
    assert [w.active.tolist() for w in stored.windows] == [[rows, 0, rows], [0, 0, rows]]
    assert [w.samples for w in stored.windows] == [rows, rows]


def test_a_loop_over_layers_is_one_site_a_layer(run):
    stored = train(Shared(5), run, lambda step: torch.full((BATCH, 3), 2.5))
    assert names(stored) == [f"act@layers.{i}" for i in range(5)]
    assert [int(w.active[0]) > 0 for w in stored.windows] == [True, True, True, False, False]


def test_the_feeder_decides_the_site_where_layers_are_skipped_at_random(run):
    model = Shared(3)
    plans = [[0], [2], [1, 2], [2, 0], [0, 1, 2], [2, 1, 0], [1]]

    def loop(model, optimizer, x):
        model.plan = plans[loop.step % len(plans)]
        loop.step += 1
        step_once(model, optimizer, x)

    loop.step = 0
    stored = train(model, run, lambda step: torch.full((BATCH, 3), 0.5), 3 * len(plans), loop)
    by_feeder = {stored.info.sites[w.site].feeder: w for w in stored.windows}
    assert len(stored.windows) == 3
    for layer in range(3):
        window = by_feeder[f"layers.{layer}.bias"]
        assert window.rows == 3 * BATCH * sum(layer in plan for plan in plans)
        assert window.active.tolist() == [window.rows if layer == 0 else 0, 0, window.rows]


def test_a_cell_called_at_every_time_step_is_one_site_that_sees_each_example_once(run):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(INPUTS + UNITS, UNITS), nn.ReLU()

        def forward(self, x):
            h = x.new_zeros(len(x), UNITS)
            for t in range(x.shape[1]):
                h = self.act(self.fc(torch.cat([x[:, t], h], 1)))
            return h

    model = Recurrent()
    seen = Seen.through(model.act)
    stored = train(model, run, lambda step: torch.randn(BATCH, TIME, INPUTS))
    (window,) = stored.windows
    assert names(stored) == ["act"]
    assert window.rows == STEPS * TIME * BATCH
    assert window.samples == STEPS * BATCH
    assert window.active.tolist() == active_by_hand(torch.cat(seen.inputs), 1, (0.0, math.inf))


class BasicBlock(nn.Module):
    """As in torchvision: one in-place ReLU used twice, once behind the residual add."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


def test_a_residual_block_has_a_site_behind_each_norm(run):
    model = nn.Sequential(nn.Conv2d(INPUTS, UNITS, 1), BasicBlock(UNITS), BasicBlock(UNITS))
    with torch.no_grad():
        model[1].bn1.bias[3] = -50.0
        model[2].bn2.bias[1] = -500.0
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS, 5, 3), 3)
    assert names(stored) == ["1.relu@1.bn1", "1.relu@1.bn2", "2.relu@2.bn1", "2.relu@2.bn2"]
    assert {site.unit_axis for site in stored.info.sites} == {1}
    assert [(w.active == 0).nonzero()[0].tolist() for w in stored.windows] == [[3], [], [], [1]]
    assert [w.rows for w in stored.windows] == [3 * BATCH * 15] * 4


def test_twins_that_share_an_encoder_share_its_site(run):
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())

        def forward(self, pair):
            left, right = pair.unbind(1)
            return self.encoder(left) - self.encoder(right)

    stored = train(Siamese(), run, lambda step: torch.randn(BATCH, 2, INPUTS))
    (window,) = stored.windows
    assert window.rows == STEPS * BATCH * 2
    assert window.samples == STEPS * BATCH
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_submodules_that_are_called_without_the_model_are_seen(run):
    class AutoEncoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU())
            self.decoder = nn.Sequential(thresholds_linear([NEVER, 0.0], UNITS), nn.ReLU())
            self.bare, self.act = thresholds_linear([0.0, NEVER, -9.0]), nn.ReLU()

    def loop(model, optimizer, x):
        optimizer.zero_grad()
        (model.decoder(model.encoder(x)).sum() + model.act(model.bare(x)).sum()).backward()
        optimizer.step()

    stored = train(AutoEncoder(), run, lambda step: torch.randn(BATCH, INPUTS), loop=loop)
    assert names(stored) == ["encoder.1", "decoder.1", "act"]
    assert [(w.active == 0).nonzero()[0].tolist() for w in stored.windows] == [DEAD, [0], [1]]
    assert [w.samples for w in stored.windows] == [STEPS * BATCH] * 3


def test_many_calls_by_hand_without_a_gradient_make_no_new_sites(run):
    model = nn.ModuleDict({"fc": thresholds_linear(THRESHOLDS), "act": nn.ReLU()})
    optimizer = frozen_sgd(model)
    x = torch.randn(BATCH, INPUTS)
    with deadneuron.watch(model, optimizer, run) as monitor:
        model["act"](model["fc"](x)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for _ in range(50):
                model["act"](model["fc"](x))
        optimizer.step()
    assert len(monitor.sites) == 1
    assert monitor.gaps == ()
    assert sum(w.rows for w in read_folder(run).windows) == 51 * BATCH


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
            assert (window.first_step, window.last_step) == (0, STEPS - 1), "the last evaluation is no step more"
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
    assert sum(w.rows for w in read_folder(run).windows) == 4 * BATCH


# ── frozen layers and guessed axes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_graph_the_axis_is_guessed_from_the_layer_registered_before(shape, run):
    make, size, axis = SHAPES[shape]
    model = nn.Sequential(make().requires_grad_(False), nn.ReLU())
    with deadneuron.watch(model, None, run) as monitor:
        model(torch.randn(size))
        monitor.step(lr=0.1)
    (site,), (window,) = monitor.sites, read_folder(run).windows
    assert (site.unit_axis, site.axis_from, site.feeder, site.group) == (axis, "registration", None, 0)
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_an_axis_that_is_only_assumed_is_a_gap(run):
    model = nn.Sequential(nn.ReLU())
    with deadneuron.watch(model, None, run) as monitor:
        with pytest.warns(DeadneuronWarning, match="unit_axis="):
            model(torch.randn(BATCH, TIME, UNITS))
        monitor.step(lr=0.1)
    assert monitor.sites[0].axis_from == "shape"
    assert "assumed" in monitor.gaps[0].reason


def test_a_frozen_layer_behind_a_trained_one_has_no_feeder_and_its_own_axis(run):
    frozen = thresholds_conv(nn.Conv1d, THRESHOLDS, TIME).requires_grad_(False)
    model = nn.Sequential(nn.Linear(INPUTS, LENGTH), frozen, nn.ReLU())
    stored = train(model, run, lambda step: torch.randn(BATCH, TIME, INPUTS), 3)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.unit_axis, site.axis_from, site.feeder, site.group) == (1, "producer", None, None)
    assert window.rows == 3 * BATCH * LENGTH
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


def test_a_layer_that_is_frozen_midway_keeps_its_site(run):
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), thresholds_linear(THRESHOLDS), nn.ReLU())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(6):
            model[1].requires_grad_(step < 3)
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    stored = read_folder(run)
    assert [site.feeder for site in stored.info.sites] == ["1.bias"]
    assert [w.rows for w in stored.windows] == [6 * BATCH]


def test_the_user_decides_the_unit_axis(run):
    model = nn.Sequential(nn.Conv1d(INPUTS, UNITS, 1), nn.ReLU(), nn.Conv1d(UNITS, UNITS, 1), nn.ReLU())
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS, LENGTH), 3, unit_axis={"3": -1})
    assert [(s.units, s.unit_axis, s.axis_from) for s in stored.info.sites] == [
        (UNITS, 1, "producer"),
        (LENGTH, 2, "user"),
    ]
    assert [w.rows for w in stored.windows] == [3 * BATCH * LENGTH, 3 * BATCH * UNITS]


def test_a_unit_axis_that_names_no_activation_is_an_error(run):
    with pytest.raises(UsageError, match="unit_axis names no activation"):
        deadneuron.watch(nn.Sequential(nn.ReLU()), None, run, unit_axis={"fc*": 1})
    assert not run.exists()


def test_a_unit_axis_that_the_tensor_does_not_have_is_a_gap(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU())
    with (
        pytest.warns(DeadneuronWarning, match="unit_axis 3 is outside"),
        deadneuron.watch(model, None, run, unit_axis={"1": 3}),
    ):
        model(torch.randn(BATCH, INPUTS))
    assert read_folder(run).windows == ()


def test_a_number_of_units_that_changes_is_a_gap(run):
    model = nn.Sequential(nn.ReLU())
    with deadneuron.watch(model, None, run):
        model(torch.randn(BATCH, 5))
        with pytest.warns(DeadneuronWarning, match="expected 5 units"):
            model(torch.randn(BATCH, 3))
    assert read_folder(run).windows[0].rows == BATCH


# ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_prelu_is_judged_by_the_slopes_it_has_after_the_last_drain(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(UNITS))
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(100):
            if step == 40:  # in the first window: read again at its end
                with torch.no_grad():
                    model[1].weight.copy_(torch.tensor([0.25, 0.0, 0.25, 0.0, 0.25]))
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    first, second = read_folder(run).windows
    assert first.active.tolist() == [50 * BATCH] * UNITS
    assert (second.first_step, second.rows) == (50, 50 * BATCH)
    assert (second.active == 0).nonzero()[0].tolist() == [1]
    assert second.active[[0, 2, 4]].tolist() == [second.rows] * 3
    assert 0 < second.active[3] < second.rows


def test_prelu_along_channels_while_units_are_features(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(TIME, init=0.0))
    stored = train(model, run, lambda step: torch.randn(BATCH, TIME, INPUTS), 3)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.unit_axis, site.gate) == (2, (0.0, math.inf))
    assert (window.active == 0).nonzero()[0].tolist() == DEAD


@pytest.mark.parametrize("activation", [nn.LeakyReLU(), nn.RReLU(), nn.PReLU()], ids=repr)
def test_an_activation_with_an_open_gate_has_no_silent_unit(activation, run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), activation)
    (window,) = train(model, run, lambda step: torch.randn(BATCH, INPUTS)).windows
    assert window.active.tolist() == [window.rows] * UNITS == [STEPS * BATCH] * UNITS


@pytest.mark.parametrize("activation", [nn.ELU(), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.Mish(), nn.SELU()], ids=repr)
def test_a_smooth_activation_is_closed_far_below_zero_only(activation, run):
    model = nn.Sequential(thresholds_linear([0.0, NEVER, 1.5, -2.0, 200.0]), activation)
    (window,) = train(model, run, lambda step: torch.rand(BATCH, INPUTS)).windows
    assert window.active.tolist() == [window.rows, 0, window.rows, window.rows, 0]


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.Tanh(), nn.Softsign(), nn.Hardtanh()], ids=repr)
def test_a_saturated_unit_is_closed_on_either_side(activation, run):
    model = nn.Sequential(thresholds_linear([0.5, NEVER, -NEVER, 0.5, 0.5]), activation)
    (window,) = train(model, run, lambda step: torch.rand(BATCH, INPUTS), every=1).windows
    assert window.active.tolist() == [window.rows, 0, 0, window.rows, window.rows]
    assert window.above.tolist() == [0, 0, window.rows, 0, 0]


def test_a_nan_never_makes_a_unit_silent(run):
    def inputs(step):
        x = torch.full((BATCH, INPUTS), -1.0)
        if step == 10:
            x[2, 1] = math.nan
        return x

    class OnlySecondUnit(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear([0.0, 0.0, -9.0]), nn.ReLU()

        def forward(self, x):
            h = self.fc(x.nan_to_num())
            return self.act(torch.cat([h[:, :1], h[:, 1:2] + 0 * x[:, 1:2], h[:, 2:]], 1))

    def loop(model, optimizer, x):  # no gradients: a NaN in the loss would reach all weights, even at a rate of 0
        model(x)
        optimizer.step()

    (window,) = train(OnlySecondUnit(), run, inputs, loop=loop).windows
    assert window.active.tolist() == [0, 1, STEPS * BATCH]
    assert window.last_active.tolist() == [-1, 10, STEPS - 1]
    assert window.nonfinite.tolist() == [0, 1, 0]
    assert window.mean[1] == -1.0, "of the finite rows"
    assert np.isnan(window.peak[1])
    assert window.peak[0] == -1.0


def test_infinite_rows_are_told_apart_from_finite_ones(run):
    model = nn.Sequential(nn.ReLU())
    x = torch.tensor([[math.inf, -math.inf, 1.0], [1.0, -1.0, 3.0]])
    with deadneuron.watch(model, None, run) as monitor:
        model(x)
        monitor.step(lr=0.1)
    (window,) = read_folder(run).windows
    assert window.active.tolist() == [2, 0, 2]
    assert window.nonfinite.tolist() == [1, 1, 0]
    assert window.mean.tolist() == [1.0, -1.0, 2.0]
    assert window.magnitude.tolist() == [1.0, 0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_count_the_same(dtype, run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU()).to(dtype)
    seen = Seen.through(model[1])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS).to(dtype))
    check_window(stored.windows[0], seen.inputs, seen.outputs, 1, (0.0, math.inf), 0, 10, BATCH)


def test_autocast_counts_what_the_activation_saw(run):
    model = nn.Sequential(thresholds_linear(THRESHOLDS), nn.PReLU(UNITS, init=0.0), nn.Linear(UNITS, 2), nn.ReLU())

    def loop(model, optimizer, x):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).float().sum()
        loss.backward()
        optimizer.step()

    seen = Seen.through(model[1])
    stored = train(model, run, lambda step: torch.randn(BATCH, INPUTS), loop=loop)
    assert seen.inputs[0].dtype == torch.bfloat16
    check_window(stored.windows[0], seen.inputs, seen.outputs, 1, (0.0, math.inf), 0, 10, BATCH)
    assert [site.feeder for site in stored.info.sites] == ["0.bias", "2.bias"]


# ── what is watched ──────────────────────────────────────────────────────────────────────────────────────────────────


def three_activations():
    return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 3), nn.ReLU())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["1", "3", "5"]),
        ({"include": ["1", "5"]}, ["1", "5"]),
        ({"exclude": ["3"]}, ["1", "5"]),
        ({"include": ["[1-3]"], "exclude": ["3"]}, ["1"]),
        ({"include": "5"}, ["5"]),
    ],
)
def test_patterns_choose_what_is_watched(options, expected, run):
    stored = train(three_activations(), run, lambda step: torch.randn(BATCH, 3), 2, **options)
    assert names(stored) == expected == list(stored.info.modules)


def test_what_cannot_be_measured_is_a_gap_and_the_rest_is_measured(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Tanhshrink(), nn.Softmax(-1))
    with deadneuron.watch(model, None, run) as monitor:
        model(torch.randn(BATCH, INPUTS))
        monitor.step(lr=0.1)
    assert {gap.where for gap in monitor.gaps} == {"2", "3"}
    assert len(read_folder(run).windows) == 1


def test_an_activation_that_never_ran_is_a_gap(run):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.spare = nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.act(self.fc(x))

    with deadneuron.watch(Unused(), None, run) as monitor:
        monitor._probe.model(torch.randn(BATCH, INPUTS))
    assert [(gap.where, gap.reason) for gap in monitor.gaps] == [("spare", "never called while the model ran")]


def test_a_model_that_never_trained_is_a_gap_and_not_healthy(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU()).eval()
    with deadneuron.watch(model, None, run) as monitor:
        pass
    assert [(gap.where, gap.reason) for gap in monitor.gaps] == [("1", "never called in train mode")]
    assert monitor.diagnose().status == "unknown"


def test_two_activations_whose_plain_names_collide_are_both_watched(run):
    class Colliding(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.module = nn.ModuleDict({"act": nn.ReLU()})

        def forward(self, x):
            return self.module["act"](self.act(x) - 1)

    with deadneuron.watch(Colliding(), None, run) as monitor:
        monitor._probe.model(torch.randn(BATCH, UNITS))
    assert sorted(site.name for site in monitor.sites) == ["act", "module.act"]


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
    assert [(w.first_step, w.last_step) for w in windows] == [(0, 49), (50, 99), (100, 119)]
    assert max(int(w.last_active[1]) for w in windows) == at
    assert [int(w.active[1]) for w in windows] == [
        BATCH * max(0, min(at, w.last_step) - w.first_step + 1) for w in windows
    ]
    assert [w.last_active[0] for w in windows] == [49, 99, 119]
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
    first, second = read_folder(run).windows
    assert (first.first_active[1], first.last_active[1]) == (-1, -1)
    assert (second.first_active[1], second.last_active[1]) == (62, 99)
    assert second.active[1] == 38 * BATCH


# ── compiled and traced models ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated:DeprecationWarning")
def test_a_traced_program_holds_nothing_of_the_monitor(run):
    model = three_activations()
    example = torch.randn(BATCH, 3)
    plain = str(torch.jit.trace(model, example).inlined_graph)
    with deadneuron.watch(model, None, run) as monitor:
        traced = str(torch.jit.trace(model, example).inlined_graph)
        assert monitor.gaps == ()
    assert traced.count("aten::") == plain.count("aten::") > 0


def test_an_exported_program_holds_nothing_of_the_monitor(run):
    model = three_activations()
    example = (torch.randn(BATCH, 3),)
    plain = [node.name for node in torch.export.export(model, example).graph.nodes]
    with deadneuron.watch(model, None, run):
        assert [node.name for node in torch.export.export(model, example).graph.nodes] == plain


def test_a_compiled_model_trains_and_is_reported_as_not_measured(run):
    model = three_activations()
    compiled = torch.compile(model, backend="eager")
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        step_once(compiled, optimizer, torch.randn(BATCH, 3))
    assert {gap.where for gap in monitor.gaps} == {"1", "3", "5"}
    assert all("compile" in gap.reason for gap in monitor.gaps)
    torch.compiler.reset()
