"""Planted dead units beside copies of the model, under two monitors, and names that match nothing."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from oracle import Oracle
from planted import BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, check, frozen, inputs, listen, steps
from planted_functions import Ramp, gelu_new
from planted_sharing import SECOND, Gan, one_each, play
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from watching import added_up
from zoo import BATCH, hooks_of, step_once, thresholds_linear

import deadneuron
from deadneuron.errors import UsageError

ROWS = STEPS * BATCH


class Plain(nn.Module):
    """Calls F.relu by itself, so that a copy of it can be made in any way."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = thresholds_linear(THRESHOLDS), nn.Linear(len(THRESHOLDS), 2)

    def forward(self, x):
        return self.head(F.relu(self.fc(x)))


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved_and_loaded(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def from_its_state(model):
    double = Plain()
    double.load_state_dict(model.state_dict())
    return double


def averaged(model):
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)
    return average


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "torch.save": saved_and_loaded,
    "state_dict": from_its_state,
    "AveragedModel": averaged,
}


def beside_copies(copy_of):
    """Training, with a new copy at each step that trains and evaluates too."""

    def drive(model, optimizer):
        for _ in range(STEPS):
            step_once(model, optimizer, inputs())
            double, x = copy_of(model), inputs()
            double(x).sum().backward()
            assert torch.equal(double.eval()(x), double(x))
            assert model.state_dict().keys() == Plain().state_dict().keys()

    return drive


@pytest.mark.parametrize("copy_of", COPIES.values(), ids=COPIES)
def test_copies_of_a_watched_model_work_and_are_not_counted(copy_of, run):
    unmeasured = frozenset({("<Plain>", "relu")})
    check(Case(Plain, beside_copies(copy_of), {"relu()": Truth(BELOW)}, unmeasured=unmeasured), run)


def test_an_average_that_follows_the_training_is_not_counted(run):
    def drive(model, optimizer):
        average = averaged(model)
        for _ in range(STEPS):
            step_once(model, optimizer, inputs())
            average.update_parameters(model)
            with torch.no_grad():
                average(inputs())

    unmeasured = frozenset({("<Plain>", "relu")})
    check(Case(Plain, drive, {"relu()": Truth(BELOW)}, unmeasured=unmeasured), run)


def test_copies_of_a_watched_model_outlive_the_monitor(run):
    model = Plain()
    optimizer = frozen(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        step_once(model, optimizer, inputs())
        doubles = [copy_of(model) for copy_of in COPIES.values()]
    x = inputs()
    assert all(torch.equal(double(x), model(x)) for double in doubles)
    assert monitor.gaps == ()


# ── two monitors ─────────────────────────────────────────────────────────────────────────────────────────────────────


def counted(run):
    stored = added_up(run)
    return {stored.info.sites[w.site].name: (w.rows, w.samples, w.active.tolist()) for w in stored.windows}


TWICE = {
    "F.relu": (F.relu, False),
    "nn.ReLU": (nn.ReLU(), False),
    "torch.tanh": (torch.tanh, False),
    "F.relu, compiled": (F.relu, True),
    "nn.ReLU, compiled": (nn.ReLU(), True),  # a functional tanh is a gap in compiled code
}


@pytest.mark.parametrize(("act", "compiled"), TWICE.values(), ids=TWICE)
def test_two_monitors_of_one_model_count_the_same(act, compiled, run, tmp_path):
    def both(model, optimizer):
        with deadneuron.watch(model, optimizer, tmp_path / "second") as second:
            steps()(model, optimizer)
        assert second.gaps == ()

    model = Layers(act)
    plain = hooks_of(model)
    if compiled:
        torch.compiler.reset()
        model.compile(backend="eager", fullgraph=True)
    optimizer = frozen(model)
    with deadneuron.watch(model, optimizer, run) as first:
        both(model, optimizer)
    assert first.gaps == ()
    assert counted(run) == counted(tmp_path / "second")
    ((rows, samples, active),) = counted(run).values()
    assert (rows, samples) == (ROWS, ROWS)
    assert {unit for unit, hits in enumerate(active) if not hits} == (BELOW if act is not torch.tanh else {1, 4})
    assert hooks_of(model) == plain or compiled


def test_a_second_monitor_that_comes_and_goes_leaves_the_first_one_whole(run, tmp_path):
    def drive(model, optimizer):
        steps(count=3)(model, optimizer)
        with deadneuron.watch(model, optimizer, tmp_path / "second"):
            steps(count=4)(model, optimizer)
        steps(count=4)(model, optimizer)

    check(Case(lambda: Layers(F.relu), drive, {"relu()": Truth(BELOW)}, plain=steps()), run)
    ((rows, samples, _),) = counted(tmp_path / "second").values()
    assert (rows, samples) == (4 * BATCH, 4 * BATCH)


def test_a_gan_under_a_monitor_for_each_net(run, tmp_path):
    model = Gan()
    optimizers = one_each(model)
    with (
        deadneuron.watch(model.generator, optimizers[0], run) as first,
        deadneuron.watch(model.discriminator, optimizers[1], tmp_path / "second") as second,
    ):
        play(model, optimizers)
    assert (first.gaps, second.gaps) == ((), ())
    ((rows, samples, active),) = counted(run).values()
    assert (rows, samples, {i for i, hits in enumerate(active) if not hits}) == (2 * ROWS, 2 * ROWS, BELOW)
    ((rows, samples, active),) = counted(tmp_path / "second").values()
    assert (rows, samples, {i for i, hits in enumerate(active) if not hits}) == (3 * ROWS, 3 * ROWS, SECOND)


# ── modes of the user's ──────────────────────────────────────────────────────────────────────────────────────────────

ACTS = {"F.relu": F.relu, "F.silu": F.silu, "nn.ReLU": nn.ReLU(), "torch.tanh": torch.tanh, "gelu_new": gelu_new}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_mode_of_the_users_sees_nothing_of_what_the_monitor_computes(act, run):
    alone = listen(Case(lambda: Layers(act), steps(), {}))
    torch.manual_seed(0)
    model = Layers(act)
    optimizer = frozen(model)
    torch.manual_seed(1)
    with deadneuron.watch(model, optimizer, run, every=1), Oracle(model) as nested:
        steps()(model, optimizer)
    assert [(call.module, call.op) for call in nested.calls] == [(call.module, call.op) for call in alone.calls]
    assert all(torch.equal(a.x, b.x) for a, b in zip(nested.calls, alone.calls, strict=True))


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_selective_checkpointing_keeps_the_models_own_results_alone(act, run):
    """Even with a policy that keeps everything the gradients are what they are without a monitor."""

    def keep(context, op, *args, **kwargs):
        return CheckpointPolicy.MUST_SAVE

    def contexts():
        return create_selective_checkpoint_contexts(keep)

    model, x = Layers(act), inputs()

    def gradients():
        model.zero_grad()
        checkpoint(model, x, use_reentrant=False, context_fn=contexts).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    with deadneuron.watch(model, None, run, every=1) as monitor:
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(gradients(), plain, strict=True))
            monitor.step(lr=0.1)
    assert monitor.gaps == ()
    ((rows, samples, _),) = counted(run).values()
    assert (rows, samples) == (5 * BATCH, 5 * BATCH)


# ── activations that the user names ──────────────────────────────────────────────────────────────────────────────────


class Pairs(nn.Module):
    """Mixes neighbours: there is no gate to derive."""

    def forward(self, x):
        return x * x.roll(1, -1)


class Bumps(nn.Module):
    def forward(self, x):
        return F.softshrink(x, 0.5)


@pytest.mark.parametrize(
    ("act", "activations", "message"),
    [
        (Ramp(), {"Rump": None}, "no module of the model is called so"),
        (Ramp(), {"body.*": (0.0, 1.0)}, "no module of the model is called so"),
        (Ramp(), {"act": (1.0, 1.0)}, "a gate is an interval"),
        (Ramp(), {"act": (0.0, float("nan"))}, "a gate is an interval"),
        (Pairs(), {"act": None}, "its gate cannot be derived"),
        (Bumps(), {"Bumps": None}, "its gate cannot be derived"),
    ],
)
def test_a_named_activation_that_is_not_there_or_has_no_gate_is_an_error(act, activations, message, run):
    with pytest.raises(UsageError, match=message):
        deadneuron.watch(Layers(act), None, run, activations=activations)
    assert not run.exists()


@pytest.mark.parametrize("pattern", ["*.rleu()", "body.relu()", "relu"])
def test_a_pattern_that_no_function_could_have_is_an_error(pattern, run):
    with pytest.raises(UsageError, match="matches no activation"):
        deadneuron.watch(Layers(F.relu), None, run, include=pattern)
    assert not run.exists()


@pytest.mark.parametrize(("act", "where"), [(F.relu, "Layers"), (nn.ReLU(), "act")])
def test_a_model_that_was_never_called_is_a_gap(act, where, run):
    with deadneuron.watch(Layers(act), None, run) as monitor:
        pass
    assert [gap.where for gap in monitor.gaps] == [where]
