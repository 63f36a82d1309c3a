"""One place where an activation is applied is one site: shared modules, loops, patterns, programs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from watching import DEAD, STEPS, THRESHOLDS, Shared, added_up, frozen_sgd, names, train
from zoo import (
    BATCH,
    INPUTS,
    NEVER,
    TIME,
    UNITS,
    Seen,
    active_by_hand,
    step_once,
    thresholds_linear,
)

import deadneuron

# ── several sites of one module, one site of several calls ───────────────────────────────────────────────────────────


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
    assert sum(w.rows for w in added_up(run).windows) == 51 * BATCH


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
    assert len(added_up(run).windows) == 1


def test_an_activation_that_never_ran_is_a_gap(run):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.spare = nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.act(self.fc(x))

    with deadneuron.watch(Unused(), None, run) as monitor:
        monitor._probe.model(torch.randn(BATCH, INPUTS))
    assert [(gap.where, gap.reason) for gap in monitor.gaps] == [
        ("spare", "never called while the model ran (a fused kernel may do its work)")
    ]


def test_a_model_that_never_trained_is_a_gap_and_not_healthy(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU()).eval()
    with deadneuron.watch(model, None, run) as monitor:
        for _ in range(5):
            model(torch.randn(BATCH, INPUTS))
    assert [(gap.where, gap.reason) for gap in monitor.gaps] == [
        ("1", "never called in train mode: all 5 passes of the model were in another mode, or inside torch.func")
    ]
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


# ── one unit, two paths, lists of images ─────────────────────────────────────────────────────────────────────────────


def test_a_head_of_one_unit_has_one_unit_whatever_the_batch(run):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear([0.5]), nn.Sigmoid()

        def forward(self, x):
            return self.act(self.fc(x).squeeze(-1))

    sizes = [7, 13, 1, 5]
    stored = train(Head(), run, lambda step: torch.full((sizes[step % 4], INPUTS), 1.0), 8, every=1)
    (site,), (window,) = stored.info.sites, stored.windows
    assert (site.units, site.unit_axis, site.feeder) == (1, -1, "fc.bias")
    assert window.rows == window.samples == 2 * sum(sizes)
    assert window.active.tolist() == [window.rows]
    assert window.mean.tolist() == [0.5]
    assert window.histogram.sum() == window.rows


def test_an_activation_of_one_number_is_a_unit(run):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.raw, self.act = nn.Parameter(torch.tensor(0.5)), nn.Softplus()

        def forward(self, x):
            return x * self.act(self.raw)

    stored = train(Scale(), run, lambda step: torch.randn(BATCH, INPUTS), 5)
    (window,) = stored.windows
    assert (window.rows, window.active.tolist()) == (5, [5])


def test_both_halves_of_a_concatenated_relu_are_sites_of_their_own(run):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = thresholds_linear(THRESHOLDS), nn.ReLU()

        def forward(self, x):
            y = self.fc(x)
            return torch.cat([self.act(y), self.act(-y)], -1)

    stored = train(Both(), run, lambda step: torch.zeros(BATCH, INPUTS))
    first, second = stored.windows
    assert (first.active > 0).tolist() == [True, False, False, False, False]
    assert (second.active > 0).tolist() == [False, True, False, True, True]
    assert first.rows == second.rows == STEPS * BATCH


def test_a_shared_activation_behind_a_skip_connection_is_two_sites(run):
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.f1, self.f2 = thresholds_linear(THRESHOLDS), thresholds_linear([0.0] * UNITS, UNITS)
            self.act, self.drop = nn.ReLU(), nn.Dropout(0.5)

        def forward(self, x):
            h = self.act(self.f1(x))
            return self.act(h + self.drop(self.f2(h)))

    stored = train(Skip(), run, lambda step: torch.full((BATCH, INPUTS), 1.0))
    assert names(stored) == ["act@f1", "act@f2"]
    assert (stored.windows[0].active == 0).nonzero()[0].tolist() == DEAD


def test_a_list_of_images_is_as_many_examples(run):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(INPUTS, UNITS, 3), nn.ReLU()

        def forward(self, images):
            return self.act(self.conv(torch.stack(images)))

    stored = train(Detector(), run, lambda step: [torch.randn(INPUTS, 5, 7) for _ in range(11)], 4)
    assert stored.windows[0].samples == 44


def test_a_time_step_in_front_of_the_batch_is_not_its_size(run):
    class Diffusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(INPUTS, UNITS), nn.ReLU()

        def forward(self, t, x):
            return self.act(self.fc(x * t))

    def loop(model, optimizer, x):
        model(torch.tensor([0.5]), x).sum().backward()
        optimizer.step()

    stored = train(Diffusion(), run, lambda step: torch.randn(BATCH, INPUTS), 4, loop=loop)
    assert stored.windows[0].samples == 4 * BATCH
