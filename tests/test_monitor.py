"""The monitor beside real trainings: it changes nothing, breaks nothing, and leaves nothing behind."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import warnings
import weakref

import pytest
import torch
from torch import nn
from zoo import BATCH, HEIGHT, INPUTS, NEVER, TIME, UNITS, WIDTH, hooks_of, step_once, thresholds_linear

import deadneuron
from deadneuron.errors import NoSitesError, ProfileError, RunFolderError, UsageError
from deadneuron.measure import counters
from deadneuron.monitor import DeadneuronWarning
from deadneuron.store.reader import read_folder


def mlp():
    return nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, UNITS), nn.GELU(), nn.Linear(UNITS, 2))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(INPUTS, UNITS, 3),
        nn.BatchNorm2d(UNITS),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
        nn.Conv2d(UNITS, 2, 3),
        nn.RReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 11, dropout=0.2, activation=nn.ReLU(), batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "mlp": (mlp, (BATCH, INPUTS)),
    "convolutional": (convolutional, (BATCH, INPUTS, HEIGHT, WIDTH)),
    "transformer": (transformer, (BATCH, TIME, 8)),
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=2),
}


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
    assert read_folder(run).windows


# ── nothing is left behind ───────────────────────────────────────────────────────────────────────────────────────────


class Thrower(nn.Module):
    """Raises in its forward when told to."""

    def __init__(self):
        super().__init__()
        self.fc, self.act, self.out = thresholds_linear([-9.0, NEVER, 0.0]), nn.ReLU(), nn.Linear(3, 2)
        self.error = None

    def forward(self, x):
        h = self.act(self.fc(x))
        if self.error is not None:
            raise self.error
        return self.out(h)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.0)


def batch():
    return torch.randn(BATCH, INPUTS)


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
    assert sum(w.rows for w in read_folder(run).windows) == BATCH * (2 if where == "in forward" else 1)


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
    assert read_folder(run).windows[0].rows == BATCH


def test_two_monitors_side_by_side_see_the_same(tmp_path):
    model = convolutional()
    optimizer = sgd(model)
    with (
        deadneuron.watch(model, optimizer, tmp_path / "one", every=3),
        deadneuron.watch(model, optimizer, tmp_path / "other", every=3),
    ):
        for _ in range(7):
            step_once(model, optimizer, torch.randn(BATCH, INPUTS, HEIGHT, WIDTH))
    one, other = read_folder(tmp_path / "one"), read_folder(tmp_path / "other")
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
    assert [w.rows for w in read_folder(tmp_path / "one").windows] == [BATCH] * 2
    assert [w.rows for w in read_folder(tmp_path / "other").windows] == [2 * BATCH] * 2


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_training_that_goes_on_after_an_interrupted_forward_is_counted_rightly(error, run):
    model = Thrower()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(9):
            model.error = error if step == 4 else None
            try:
                step_once(model, optimizer, batch())
            except type(error):
                optimizer.step()  # a loop that skips the batch
    stored = read_folder(run)
    assert [site.name for site in stored.info.sites] == ["act"]
    (window,) = stored.windows
    assert (window.first_step, window.last_step) == (0, 8)
    assert window.rows == window.samples == 9 * BATCH
    assert window.active[:2].tolist() == [9 * BATCH, 0]


def test_a_forward_that_was_interrupted_from_the_keyboard_loses_no_later_row(run):
    model = Thrower()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for step in range(9):
            if step == 4:
                model.error = KeyboardInterrupt()  # skips even the hooks that torch always calls
                with pytest.raises(KeyboardInterrupt):
                    model(batch())
                model.error = None
            step_once(model, optimizer, batch())
    stored = read_folder(run)
    assert [site.name for site in stored.info.sites] == ["act"]
    (window,) = stored.windows
    assert window.rows == 10 * BATCH
    assert 9 * BATCH <= window.samples <= window.rows, "fewer examples than there were claim less, never more"


def test_functional_transforms_of_a_watched_model_give_the_same_result(run):
    model = mlp()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).square().sum()

    x = batch()
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    expected = gradients(parameters, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadneuronWarning)
        with deadneuron.watch(model, None, run) as monitor:
            found = gradients(parameters, x)
            model(x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert monitor.gaps, "what happens inside a transform is not measured, and said so"
    for window in read_folder(run).windows:
        assert window.rows == BATCH
        assert (window.active <= BATCH).all()


def break_counting(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(counters, "count_closed", broken)


def test_a_failure_of_our_own_is_one_warning_and_a_gap_and_the_training_goes_on(monkeypatch, run):
    break_counting(monkeypatch)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[0].weight.detach().clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with deadneuron.watch(model, optimizer, run) as monitor:
            for _ in range(5):
                step_once(model, optimizer, batch())
    assert [w.category for w in caught] == [DeadneuronWarning]
    assert "the training is not affected" in str(caught[0].message)
    assert not torch.equal(before, model[0].weight)
    assert {(gap.where, gap.reason) for gap in monitor.gaps} == {
        ("1", "RuntimeError while counting: broken on purpose"),
        ("3", "RuntimeError while counting: broken on purpose"),
    }
    stored = read_folder(run)
    assert {gap.where for gap in stored.gaps} == {"1", "3"}
    assert len(stored.ticks) == 5
    assert stored.windows == ()


def test_a_failure_of_our_own_does_not_raise_where_warnings_are_errors(monkeypatch, run):
    break_counting(monkeypatch)
    model = mlp()
    optimizer = sgd(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with deadneuron.watch(model, optimizer, run) as monitor:
            step_once(model, optimizer, batch())
    assert len(monitor.gaps) == 2


def test_a_failure_in_the_middle_of_a_run_keeps_what_was_counted(monkeypatch, run):
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run):
        for _ in range(5):
            step_once(model, optimizer, batch())
        break_counting(monkeypatch)
        with pytest.warns(DeadneuronWarning):
            step_once(model, optimizer, batch())
        for _ in range(3):
            step_once(model, optimizer, batch())
    stored = read_folder(run)
    assert [w.rows for w in stored.windows] == [5 * BATCH] * 2
    assert [gap.first_step for gap in stored.gaps] == [4, 4], "the last step before it"


def test_inputs_that_refuse_to_tell_their_size_do_not_stop_the_forward(run):
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act = nn.Linear(INPUTS, UNITS), nn.ReLU()

        def forward(self, ragged):
            return self.act(self.fc(torch.cat(ragged.unbind())))

    class Ragged(dict):
        def unbind(self):
            return [torch.randn(2, INPUTS), torch.randn(3, INPUTS)]

        def values(self):
            raise RuntimeError("no values")

    model = Sparse()
    with deadneuron.watch(model, None, run) as monitor:
        assert model(Ragged()).shape == (5, UNITS)
        assert monitor.gaps == ()
    assert read_folder(run).windows[0].samples == 5


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
    assert sum(w.rows for w in read_folder(run).windows) == 2 * 7 * BATCH


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
    stored = read_folder(run)
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
    assert [w.rows for w in read_folder(run).windows] == [2 * BATCH] * 2
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
    assert [(w.first_step, w.last_step, w.rows) for w in stored.windows] == [(0, 49, 350), (50, 69, 140)]
    assert [tick.step for tick in stored.ticks] == list(range(70))
    assert stored.info.ended is not None
    assert stored.gaps == ()


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_without_an_activation_is_an_error_that_says_what_to_do(run):
    with pytest.raises(NoSitesError, match=r"no activation module .*F\.relu"):
        deadneuron.watch(nn.Linear(2, 3), None, run)
    with pytest.raises(NoSitesError):
        deadneuron.watch(nn.Sequential(nn.Linear(2, 3), nn.Tanhshrink()), None, run)
    assert not run.exists()


@pytest.mark.parametrize("option", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_an_error_that_names_what_there_is(option, run):
    with pytest.raises(UsageError, match="there are 1, 3"):
        deadneuron.watch(mlp(), None, run, **{option: ["fc*"]})


def test_patterns_that_leave_nothing_are_an_error(run):
    with pytest.raises(NoSitesError, match="leave no activation"):
        deadneuron.watch(mlp(), None, run, exclude=["*"])


def test_an_older_run_is_replaced_only_when_asked(run):
    deadneuron.watch(mlp(), None, run).close()
    with pytest.raises(RunFolderError, match="overwrite=True"):
        deadneuron.watch(mlp(), None, run)
    model = mlp()
    with deadneuron.watch(model, None, run, overwrite=True):
        model(batch())
    assert [w.rows for w in read_folder(run).windows] == [BATCH] * 2
    assert len(list(run.glob("rank*"))) == 1


def test_a_folder_of_somebody_else_is_never_touched(run):
    run.mkdir()
    (run / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunFolderError, match="no run of deadneuron"):
            deadneuron.watch(mlp(), None, run, overwrite=overwrite)
    assert [path.name for path in run.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_may_be_filled(run):
    run.mkdir()
    deadneuron.watch(mlp(), None, run).close()
    assert read_folder(run).info.model == "Sequential"


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_no_hook(tmp_path):
    (tmp_path / "file").write_text("")
    model = mlp()
    before = hooks_of(model)
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError):
            deadneuron.watch(model, None, place)
    assert hooks_of(model) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sampling]\nevry = 3\n", "unknown key: sampling.evry"),
        ("[sampling]\nevery = 0\n", "every must be at least 1"),
        ("[sampling]\nevery = 'often'\n", "sampling.every"),
        ("[sampling\n", "cannot read the profile"),
    ],
)
def test_a_wrong_profile_is_an_error_before_anything_is_written(text, message, run):
    profile = run.parent / "my.toml"
    profile.write_text(text)
    with pytest.raises(ProfileError, match=message):
        deadneuron.watch(mlp(), None, run, profile=profile)
    assert not run.exists()


def test_an_unknown_profile_is_an_error_that_names_the_known_ones(run):
    with pytest.raises(ProfileError, match="default"):
        deadneuron.watch(mlp(), None, run, profile="lenient")


def test_an_epsilon_that_leaves_no_gate_is_an_error_before_anything_is_written(run):
    profile = run.parent / "my.toml"
    profile.write_text("[sampling]\nepsilon = 0.2\n")
    model = nn.Sequential(nn.Linear(2, 3), nn.Hardsigmoid())
    with pytest.raises(UsageError, match="epsilon"):
        deadneuron.watch(model, None, run, profile=profile)
    assert not run.exists()


@pytest.mark.parametrize("options", [{"every": 0}, {"phases": ()}, {"phases": ("training",)}])
def test_impossible_options_are_errors(options, run):
    with pytest.raises(UsageError):
        deadneuron.watch(mlp(), None, run, **options)
    assert not run.exists()


def test_without_a_name_every_run_gets_a_folder_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monitors = [deadneuron.watch(mlp(), None) for _ in range(3)]
    for monitor in monitors:
        monitor.close()
    paths = [monitor.path for monitor in monitors]
    assert len(set(paths)) == 3
    assert all(read_folder(path).info.model == "Sequential" for path in paths)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [f"deadneuron: writing {path}" for path in paths]


def test_watching_changes_no_global_state_of_torch_or_python(run):
    before = (torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads(), os.getcwd())
    model = mlp()
    torch.set_rng_state(torch.tensor(before[0], dtype=torch.uint8))
    with deadneuron.watch(model, None, run):
        pass
    assert (torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.get_num_threads(), os.getcwd()) == before
