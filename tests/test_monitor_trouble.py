"""What goes wrong before training is one clear error; what goes wrong later is a gap and one warning."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from loops import Thrower, batch, mlp, sgd
from torch import nn
from watching import added_up
from zoo import BATCH, INPUTS, UNITS, hooks_of, step_once

import deadneuron
from deadneuron.errors import DeadneuronWarning, NoSitesError, ProfileError, RunFolderError, UsageError
from deadneuron.measure import counters
from deadneuron.store.reader import read_folder

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
    stored = added_up(run)
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
    stored = added_up(run)
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
    assert [gap.where for gap in monitor.gaps] == ["torch.func"], "what is inside is not measured, and said so"
    for window in added_up(run).windows:
        assert window.rows == BATCH
        assert (window.active <= BATCH).all()


@pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated:DeprecationWarning")  # torch's own, where it derives twice
def test_counters_outlive_a_hessian_of_the_watched_model(run):
    model = mlp()
    optimizer = sgd(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadneuronWarning)
        with deadneuron.watch(model, optimizer, run) as monitor:
            for _ in range(3):
                torch.func.hessian(lambda x: model(x).sum())(batch()[0])
                step_once(model, optimizer, batch())
    assert [gap.where for gap in monitor.gaps] == ["torch.func"]
    assert {window.rows for window in added_up(run).windows} == {3 * BATCH}


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
    stored = added_up(run)
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
    stored = added_up(run)
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
    assert added_up(run).windows[0].samples == 5


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_without_an_activation_is_an_error_that_says_what_to_do(run):
    with pytest.raises(NoSitesError, match=r"no activation to watch \(Linear\)"):
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
    assert [w.rows for w in added_up(run).windows] == [BATCH] * 2
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


def test_a_model_is_not_watched_twice_by_one_run(run):
    model = mlp()
    with deadneuron.watch(model, None, run):
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=r"already watched by this run .*close\(\) the first monitor"):
                deadneuron.watch(model, None, run, overwrite=overwrite)
        deadneuron.watch(model, None, run.parent / "another").close()
    deadneuron.watch(model, None, run, overwrite=True).close()
