"""A sweep runs a script once a cell, goes on where it was stopped, keeps what failed apart, and compares the rest."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import scripts
from deadneuron.cli import app
from scripts import write_script
from sweeping import STEPS, plan_in, run, run_in_process, stamps
from typer.testing import CliRunner

from deadneuron.errors import ScriptError, UsageError
from deadneuron.experiments import scriptcell
from deadneuron.experiments.cells import RESULT
from deadneuron.experiments.processes import LOG, Ended
from deadneuron.experiments.sweep import plan_sweep, run_sweep
from deadneuron.experiments.sweeptables import write_sweep
from deadneuron.frames import read_run


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", run_in_process)


@pytest.fixture
def plan(tmp_path):
    """Plans a sweep of a script in the test's folder."""
    return partial(plan_in, tmp_path)


# ── in this process ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("in_process")
def test_every_cell_is_a_run_at_its_rate_with_its_seed(plan):
    made = plan()
    assert run(made) == ["lr0.1_seed0", "lr0.3_seed0", "lr0.1_seed1", "lr0.3_seed1"]
    assert made.unfinished() == ()
    first = {}
    for dial, result in made.results():
        read = read_run(made.folder / dial.name / "model")
        assert read.ticks["lr:SGD[0]"].tolist() == pytest.approx([dial.lr] * STEPS)
        assert (result["steps"], result["runs"], result["loss_known"]) == (STEPS, ["model"], True)
        first[dial.lr, dial.replicate] = read.ticks["loss"].iloc[0]
    # The first loss depends on the seed alone: seeds are matched over rates.
    assert first[0.1, 0] == first[0.3, 0] != first[0.1, 1] == first[0.3, 1]


@pytest.mark.usefixtures("in_process")
def test_finished_cells_are_not_run_again_and_new_ones_are(plan):
    made = plan()
    run(made)
    before = stamps(made.folder)
    assert run(plan()) == []
    assert run(plan(lrs=(0.1, 0.2, 0.3), seeds=3)) == [
        "lr0.2_seed0",
        "lr0.2_seed1",
        *(f"lr{lr}_seed2" for lr in (0.1, 0.2, 0.3)),
    ]
    assert before.items() <= stamps(made.folder).items()


@pytest.mark.usefixtures("in_process")
def test_results_of_another_script_or_other_arguments_are_not_replaced(plan, tmp_path):
    made = plan()
    run(made)
    before = stamps(made.folder)
    with pytest.raises(ScriptError, match=r"the folder holds a sweep of .*: give another --folder"):
        plan(args=("--epochs", "3 5"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(ScriptError, match="the folder holds a sweep of"):
        plan_sweep(write_script(elsewhere, scripts.PLAIN, STEPS), (), lrs=(0.1,), seeds=1, folder=made.folder)
    assert stamps(made.folder) == before
    assert run(plan()) == []


@pytest.mark.usefixtures("in_process")
def test_a_result_of_other_settings_is_none(plan):
    run(plan(seeds=1))
    assert plan(seeds=1).unfinished() == ()
    changed = [
        plan(seeds=1, seed=7),
        plan(seeds=1, profile="default"),
        plan(seeds=1, python="other"),
    ]
    assert [len(one.unfinished()) for one in changed] == [2] * 3
    assert len(plan(scripts.PLAIN + "\n# changed", seeds=1).unfinished()) == 2


@pytest.mark.usefixtures("in_process")
def test_a_script_that_is_edited_while_the_sweep_runs_gets_no_result_of_the_older_text(plan):
    made = plan(seeds=1)

    def edit(one):
        made.script.write_text(made.script.read_text() + "\n# edited\n")

    run_sweep(made, 1, edit, lambda steps: None)
    assert [dial.name for dial, _ in made.results()] == ["lr0.1_seed0"]
    (failure,) = made.failures()
    assert (failure.name, failure.exit_code) == ("lr0.3_seed0", scriptcell.WRONG)
    (made.folder / "lr0.1_seed0" / RESULT).unlink()
    with pytest.raises(ScriptError, match="edited while the sweep ran"):
        run(made)


@pytest.mark.usefixtures("in_process")
def test_a_script_may_change_the_working_directory(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made = plan("import os; os.chdir('elsewhere')\n" + scripts.PLAIN, lrs=(0.1,), seeds=1, folder=Path("sweep"))
    run(made)
    assert len(made.results()) == 1
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.usefixtures("in_process")
def test_a_result_whose_run_is_gone_is_none(plan):
    made = plan(seeds=1)
    run(made)
    (made.folder / "lr0.1_seed0" / "model" / "run.json").unlink()
    assert [dial.name for dial in made.unfinished()] == ["lr0.1_seed0"]


@pytest.mark.usefixtures("in_process")
def test_tables_agree_and_each_run_keeps_the_comparison_once(plan):
    made = plan(seeds=2)
    run(made)
    document, (comparison,) = write_sweep(made)
    assert json.loads((made.folder / "sweep.json").read_text()) == json.loads(json.dumps(document))
    assert [cell["state"] for cell in document["cells"]] == ["finished"] * 4
    with (made.folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    for dose in comparison.doses:
        at = "step" if dose.matching == "steps" else "rate_sum"
        own = [row for row in rows if float(row["lr"]) == dose.lr]
        assert [float(row[f"died_at_{at}"]) for row in own] == list(dose.died)
        assert [int(row[f"step_at_{at}"]) for row in own] == list(dose.steps)
        assert [float(row[f"loss_at_{at}"]) for row in own] == pytest.approx(list(dose.losses))
    assert {dose.steps for dose in comparison.doses if dose.matching == "steps"} == {(STEPS - 1 - 11,) * 2}
    assert "AT THE SAME STEP" in (made.folder / "summary.md").read_text()
    (trial,) = read_run(made.folder / "lr0.3_seed1" / "model").trials
    assert trial.kind == "sweep"
    assert trial.links[0].evidence == "sweep"
    write_sweep(made)
    (again,) = read_run(made.folder / "lr0.3_seed1" / "model").trials
    assert again == trial
    more = plan(seeds=3)
    run(more)
    write_sweep(more)
    (newer,) = read_run(made.folder / "lr0.3_seed1" / "model").trials
    assert len(newer.result["doses"][0]["died"]) == 3


@pytest.mark.usefixtures("in_process")
def test_replicates_that_cannot_differ_are_found_out(plan):
    """All that is random comes from a generator of the script's own."""
    text = scripts.PLAIN.replace("torch.manual_seed(0)", "g = torch.Generator().manual_seed(0)")
    text = text.replace("torch.randn(311, 7)", "torch.randn(311, 7, generator=g)")
    text = text.replace("torch.randint(3, (311,))", "torch.randint(3, (311,), generator=g)")
    text = text.replace("torch.randint(311, (19,))", "torch.randint(311, (19,), generator=g)")
    text = text.replace(
        "model = mlp()", "model = mlp()\nfor p in model.parameters(): p.data.uniform_(-0.4, 0.4, generator=g)"
    )
    made = plan(text)
    run(made)
    _, (comparison,) = write_sweep(made)
    assert {contrast.why for contrast in comparison.contrasts} == {"identical replicates"}
    assert "torch.Generator" in (made.folder / "summary.md").read_text()


@pytest.mark.usefixtures("in_process")
def test_a_gans_models_are_compared_apart(plan):
    made = plan(scripts.GAN, lrs=(0.004, 0.008))
    run(made)
    _, comparisons = write_sweep(made)
    assert {comparison.model: comparison.units for comparison in comparisons} == {"model": 13, "model-2": 17}
    assert {dose.highest for dose in comparisons[0].doses} == {0.001, 0.002}  # its own optimizer's, in proportion


@pytest.mark.usefixtures("in_process")
def test_a_script_without_an_optimizer_ends_the_sweep_at_once(plan):
    made = plan(scripts.NO_OPTIMIZER)
    with pytest.raises(ScriptError, match="made no optimizer"):
        run(made)
    assert not (made.folder / "lr0.3_seed0" / LOG).exists()


@pytest.mark.usefixtures("in_process")
def test_a_cell_that_fails_is_recorded_and_run_again(plan):
    text = scripts.PLAIN + "\nif not torch.isfinite(loss): raise SystemExit(7)\n"
    made = plan(text, lrs=(0.1, 1e20))
    assert len(run(made)) == 4
    assert [dial.lr for dial, _ in made.results()] == [0.1, 0.1]
    assert {(failure.name, failure.exit_code) for failure in made.failures()} == {
        ("lr1e+20_seed0", 7),
        ("lr1e+20_seed1", 7),
    }
    document, (comparison,) = write_sweep(made)
    assert [cell["state"] for cell in document["cells"]] == ["finished", "failed"] * 2
    assert [(dose.lr, len(dose.died), dose.failed) for dose in comparison.doses[:2]] == [(0.1, 2, 0), (1e20, 0, 2)]
    assert run(made) == ["lr1e+20_seed0", "lr1e+20_seed1"]


def test_a_long_logs_end_is_told_and_a_cell_that_leaves_no_result_too(plan, monkeypatch):
    """A script that ends its process itself (os._exit) leaves exit code 0 and no result."""

    def run_commands(commands, parallel, environment, on_end, on_look):
        for command, code in zip(commands, (1, 0), strict=True):
            (command.path / LOG).write_text("first\n" + "\r".join(["x" * 7919] * 31) + "\nlast " + "y" * 997)
            on_end(Ended(command.name, code, 0.0))

    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", run_commands)
    made = plan(seeds=1)
    run(made)
    failed, gone = made.failures()
    assert [len(line) for line in failed.lines] == [500] * len(failed.lines)
    assert set(failed.lines[-1]) == {"y"}
    assert "exit code 0, but not as Python ends" in str(gone)


@pytest.mark.usefixtures("in_process")
def test_a_training_that_ends_in_nan_is_counted_apart(plan):
    made = plan(lrs=(0.1, 1e20))
    run(made)
    _, (comparison,) = write_sweep(made)
    assert [dose.diverged for dose in comparison.doses if dose.matching == "steps"] == [0, 2]


def test_a_script_that_is_not_there(tmp_path):
    with pytest.raises(ScriptError, match="cannot read the script"):
        plan_sweep(tmp_path / "nothing.py", (), lrs=(0.1,), seeds=1, folder=tmp_path)


@pytest.mark.parametrize("set_by_user", [None, "3"])
def test_only_trainings_at_the_same_time_get_fewer_threads(plan, monkeypatch, set_by_user):
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_user)
    given = []
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(7)), raising=False)
    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", lambda *all: given.append(all[2]))
    for parallel in (1, 3):
        run_sweep(plan(), parallel, print, print)
    assert [one.get("MKL_NUM_THREADS") for one in given] == [None, "2"]
    assert [one.get("OMP_NUM_THREADS") for one in given] == [set_by_user, set_by_user or "2"]


def test_a_python_that_is_not_there(plan):
    with pytest.raises(ScriptError, match="no such Python"):
        run(plan(python="no-such-python"))


def test_a_folder_that_cannot_be_written(plan, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScriptError, match="cannot write the sweep's folder"):
        run(plan(folder=tmp_path / "file"))


@pytest.mark.usefixtures("in_process")
def test_a_second_sweep_in_the_same_folder_is_refused_while_the_first_one_runs(plan, monkeypatch):
    made, told = plan(seeds=1), []

    def run_another(commands, *rest):
        with pytest.raises(ScriptError, match="another sweep is running in this folder"):
            run(made)
        told.append(len(commands))

    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", run_another)
    run(made)
    run(made)  # the lock is free again
    assert told == [2, 2]


@pytest.mark.usefixtures("in_process")
def test_a_disk_that_fills_up_is_told(plan, monkeypatch):
    made = plan(scripts.PLAIN + "\nraise SystemExit(3)", seeds=1)

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deadneuron.experiments.sweeptables.write_whole", full)
    with pytest.raises(ScriptError, match="cannot write the sweep's folder: No space left"):
        write_sweep(made)
    monkeypatch.setattr("deadneuron.experiments.sweep._write_failure", full)
    with pytest.raises(ScriptError, match="cannot write the sweep's folder: No space left"):
        run(made)


# ── the verb ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", "fast", "0.1,,0.2", "0.1,0.1", "0,1", "-1", "nan", "inf"])
def test_rates_that_are_none_are_told(tmp_path, text):
    path = write_script(tmp_path, scripts.PLAIN)
    with pytest.raises(UsageError, match="--lr"):
        CliRunner().invoke(app, ["sweep", str(path), "--lr", text], catch_exceptions=False)


@pytest.mark.usefixtures("in_process")
def test_the_verb_shows_the_doses_and_json_is_the_file(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan(scripts.ARGUMENTS)
    words = ["sweep", "train.py", "--lr", "0.3,0.1", "--seeds", "2", "--profile", "quick.toml"]
    shown = CliRunner().invoke(app, [*words, "--", "--steps", "31"])
    assert shown.exit_code == 0, shown.output
    assert "AT THE SAME STEP   deaths by update 19, loss at step 30" in shown.stdout
    assert "NOW TRY\n  deadneuron report runs/sweep/train/lr0.3_seed0/model" in shown.stdout
    assert "2 rates × 2 seeds = 4 trainings" in shown.stderr
    again = CliRunner().invoke(app, [*words, "--format", "json", "--", "--steps", "31"])
    assert json.loads(again.stdout) == json.loads((tmp_path / "runs/sweep/train/sweep.json").read_text())
    assert "4 finished already" in again.stderr
    failed = CliRunner().invoke(app, [*words, "--folder", "other", "--", "--steps", "31", "--exit", "3"])
    assert failed.exit_code == 1
    assert "no result: lr0.1_seed0 ended with exit code 3" in failed.stderr
