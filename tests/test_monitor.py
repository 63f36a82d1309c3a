"""The monitor beside real trainings: it changes nothing, breaks nothing, and leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref

import pytest
import torch
from loops import MODELS, OPTIMIZERS, Thrower, batch, convolutional, mlp, sgd
from torch import nn
from watching import added_up
from zoo import BATCH, HEIGHT, INPUTS, NEVER, UNITS, WIDTH, hooks_of, step_once, thresholds_linear

import deadneuron
from deadneuron.errors import DeadneuronWarning
from deadneuron.store.reader import read_folder


def flat(value):
    """Everything in a nested state as plain comparable values, tensors byte for byte."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.detach().contiguous().view(-1).view(torch.uint8).tolist())
    if isinstance(value, dict):
        return {key: flat(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [flat(one) for one in value]
    return value


def train(model_name, optimizer_name, run=None, steps=12):
    """Everything that a training leaves behind: losses, weights, buffers, optimizer state, random state."""
    torch.manual_seed(17)
    make, size = MODELS[model_name]
    model = make()
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    monitor = deadneuron.watch(model, optimizer, run, every=2) if run else None
    losses = []
    for _ in range(steps):
        x = torch.randn(size)

        def closure(x=x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        losses.append(loss.item())
        if monitor is not None:
            monitor.log(loss=loss)
    if monitor is not None:
        assert monitor.sites
        assert monitor.gaps == ()
        monitor.close()
    return flat([losses, model.state_dict(), optimizer.state_dict(), torch.get_rng_state()])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_a_watched_training_is_the_unwatched_one_bit_for_bit(model, optimizer, run):
    assert train(model, optimizer, run) == train(model, optimizer)
    assert added_up(run).windows


# ── nothing is left behind ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["nowhere", "in the loop", "in forward"])
def test_closing_leaves_no_hook_and_no_attribute(where, run):
    model = Thrower()
    model.fc.register_forward_hook(lambda module, args, output: None)  # the user's own must stay
    optimizer = sgd(model)
    optimizer.register_step_pre_hook(lambda *_: None)
    before = hooks_of(model, optimizer)

    def loop():
        with deadneuron.watch(model, optimizer, run):
            assert hooks_of(model, optimizer) != before
            step_once(model, optimizer, batch())
            if where == "in the loop":
                raise RuntimeError("the user's own")
            if where == "in forward":
                model.error = RuntimeError("the user's own")
                model(batch())

    if where == "nowhere":
        loop()
    else:
        with pytest.raises(RuntimeError, match="own"):
            loop()
    assert hooks_of(model, optimizer) == before
    assert read_folder(run).info.ended is not None
    assert sum(w.rows for w in added_up(run).windows) == BATCH * (2 if where == "in forward" else 1)


def test_a_closed_monitor_keeps_neither_the_model_nor_its_weights_alive(run):
    model = mlp()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, optimizer, run)
    step_once(model, optimizer, batch())
    monitor.close()
    gone = [weakref.ref(model), weakref.ref(model[0].weight), weakref.ref(optimizer)]
    del model, optimizer
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
    assert len(monitor.sites) == 2, "what was seen can still be asked for"


def test_closing_twice_and_calling_a_closed_monitor_does_nothing(run):
    model = mlp()
    monitor = deadneuron.watch(model, None, run)
    model(batch())
    monitor.close()
    files = sorted(run.rglob("*"))
    monitor.close()
    monitor.log(loss=1.0)
    monitor.step(lr=1.0)
    monitor.pause()
    monitor.resume()
    model(batch())
    assert sorted(run.rglob("*")) == files
    assert added_up(run).windows[0].rows == BATCH


def test_two_monitors_side_by_side_see_the_same(tmp_path):
    model = convolutional()
    optimizer = sgd(model)
    with (
        deadneuron.watch(model, optimizer, tmp_path / "one", every=3),
        deadneuron.watch(model, optimizer, tmp_path / "other", every=3),
    ):
        for _ in range(7):
            step_once(model, optimizer, torch.randn(BATCH, INPUTS, HEIGHT, WIDTH))
    one, other = added_up(tmp_path / "one"), added_up(tmp_path / "other")
    assert len(one.windows) == len(other.windows) == 2
    for mine, yours in zip(one.windows, other.windows, strict=True):
        for name in ("rows", "samples", "sampled_rows", "first_step", "last_step"):
            assert getattr(mine, name) == getattr(yours, name)
        for name in ("active", "last_active", "nonfinite", "mean", "magnitude", "peak", "histogram"):
            assert getattr(mine, name).tolist() == getattr(yours, name).tolist()


def test_the_first_of_two_monitors_to_close_leaves_the_other_its_hooks(tmp_path):
    model = mlp()
    optimizer = sgd(model)
    one = deadneuron.watch(model, optimizer, tmp_path / "one")
    other = deadneuron.watch(model, optimizer, tmp_path / "other")
    step_once(model, optimizer, batch())
    one.close()
    step_once(model, optimizer, batch())
    other.close()
    assert [w.rows for w in added_up(tmp_path / "one").windows] == [BATCH] * 2
    assert [w.rows for w in added_up(tmp_path / "other").windows] == [2 * BATCH] * 2


# ── findings in the loop ─────────────────────────────────────────────────────────────────────────────────────────────


def dying(run, on_finding=None, steps=260):
    model = nn.Sequential(thresholds_linear([-9.0, -9.0, -9.0, -9.0, -9.0]), nn.ReLU())
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run, on_finding=on_finding) as monitor:
        for step in range(steps):
            step_once(model, optimizer, batch())
            if step == 20:
                with torch.no_grad():
                    model[0].bias[1:4] = -NEVER
    return monitor


def test_findings_are_told_once_while_the_training_runs(run):
    told = []
    monitor = dying(run, told.append)
    assert told
    assert {finding.where for finding in told} == {"1"}
    assert len({(finding.code, finding.where) for finding in told}) == len(told)
    assert monitor.diagnose().worst.dead == 3


def test_an_error_in_the_users_callback_does_not_reach_the_loop(run):
    def callback(finding):
        raise ValueError("in the callback")

    with pytest.warns(DeadneuronWarning, match="in the callback"):
        monitor = dying(run, callback)
    assert any(gap.where == "on_finding" and "in the callback" in gap.reason for gap in monitor.gaps)
    assert len(read_folder(run).ticks) == 260


def test_a_diagnosis_in_the_loop_sees_the_open_window(run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        for _ in range(7):
            step_once(model, optimizer, batch())
        diagnosis = monitor.diagnose()
        assert (diagnosis.coverage.seen, diagnosis.last_step) == (2, 6)
    assert sum(w.rows for w in added_up(run).windows) == 2 * 7 * BATCH


def test_a_paused_monitor_counts_nothing_and_the_steps_go_on(run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        for step in range(12):
            if step == 3:
                monitor.pause()
            if step == 8:
                monitor.resume()
            step_once(model, optimizer, batch())
    stored = added_up(run)
    assert [tick.step for tick in stored.ticks] == list(range(12))
    assert [w.rows for w in stored.windows] == [7 * BATCH] * 2


# ── copies ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def saved_and_loaded(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize(
    "copy_of",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), saved_and_loaded],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_of_a_watched_model_works_and_counts_nothing(copy_of, run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run):
        step_once(model, optimizer, batch())
        double = copy_of(model)
        x = batch()
        for _ in range(5):
            double(x)
        assert torch.equal(double(x), model(x))
        optimizer.step()
    assert [w.rows for w in added_up(run).windows] == [2 * BATCH] * 2
    assert torch.equal(double(x), model(x))


def test_a_pickled_watched_model_loads_where_deadneuron_is_not_installed(run, tmp_path):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU())
    with deadneuron.watch(model, None, run):
        torch.save(model, tmp_path / "model.pt")
        state = {key: value.clone() for key, value in model.state_dict().items()}
    script = (
        "import sys; sys.modules['deadneuron'] = None\n"
        "import torch; model = torch.load(sys.argv[1], weights_only=False); model(torch.randn(2, 3))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "model.pt")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(state) == {"0.weight", "0.bias"}


def test_an_optimizer_of_a_watched_training_can_be_copied_and_saved(run):
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters())
    with deadneuron.watch(model, optimizer, run):
        step_once(model, optimizer, batch())
        copy.deepcopy(optimizer).step()
        pickle.loads(pickle.dumps(optimizer)).step()
    assert len(read_folder(run).ticks) == 1


# ── scripts that end as they like ────────────────────────────────────────────────────────────────────────────────────

SCRIPT = """
import os, sys, torch
from torch import nn
import deadneuron
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = deadneuron.watch(model, optimizer, sys.argv[1])
for _ in range(70):
    model(torch.randn(7, 3)).sum().backward()
    optimizer.step()
if sys.argv[2] == "raise":
    raise RuntimeError("the user's own")
if sys.argv[2] == "fork" and os.fork() == 0:
    monitor.close()
    sys.exit()
"""


@pytest.mark.parametrize("end", ["plain", "raise", "fork"])
def test_a_script_that_ends_without_closing_keeps_its_windows(end, run):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(run), end], capture_output=True, text=True, timeout=60)
    assert done.returncode == (1 if end == "raise" else 0), done.stderr
    stored = read_folder(run)
    assert [(w.first_step, w.last_step, w.rows) for w in stored.windows] == [(0, 0, 7), (1, 49, 343), (50, 69, 140)]
    assert [tick.step for tick in stored.ticks] == list(range(70))
    assert stored.info.ended is not None
    assert stored.gaps == ()
