"""The verb `branch`: a user's setup function, its result, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from deadneuron.cli import app
from typer.testing import CliRunner

import deadneuron
from deadneuron.errors import BranchError, DeadneuronError, NotARunError, UsageError
from deadneuron.store.trials import read_trials

TRAINING = """
import torch
from torch import nn

def setup(checkpoint, **more):
    print("loading", checkpoint)
    model = nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1, bias=False))
    model[0].weight.data.zero_()
    model[0].weight.requires_grad_(False)
    model[0].bias.data = torch.tensor([1 / 16, 3 / 16, 5 / 16, 7 / 16, 30.0])
    model[2].weight.data.fill_(1.0)
    model[2].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 1 / 64)

    def step(batch):
        optimizer.zero_grad()
        loss = model(batch).mean()
        loss.backward()
        optimizer.step()
        return loss

    batches = [torch.ones(1, 1)] * 8
    return {"model": model, "optimizer": optimizer, "step_fn": step, "batches": batches, **more}

class Given:
    def __init__(self, values):
        vars(self).update(values)

def as_object(checkpoint):
    return Given(setup(checkpoint, multipliers=[2]))

def with_unknown(checkpoint):
    return setup(checkpoint, batch=3)

def without_step(checkpoint):
    return setup(checkpoint, step_fn=None)

def nothing(checkpoint):
    return None

def no_function(checkpoint):
    return setup(checkpoint, step_fn=3)

def raising(checkpoint):
    return {}["weights"]

def raising_step(checkpoint):
    def step(batch):
        raise ValueError("my own")
    return setup(checkpoint, step_fn=step)

def two_steps(checkpoint):
    made = setup(checkpoint)
    return made | {"step_fn": lambda batch: (made["step_fn"](batch), made["step_fn"](batch))[0]}

def slow(checkpoint):
    import time
    made = setup(checkpoint)
    def step(batch):
        print("step", flush=True)
        time.sleep(0.2)
        return made["step_fn"](batch)
    return made | {"step_fn": step}
"""


@pytest.fixture
def training(tmp_path, monkeypatch):
    """A module of the test's own in the current folder; its name."""
    name = f"training_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(TRAINING)
    (tmp_path / "broken.py").write_text("import torch\nimport nothing_like_it\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return name


def run(*words):
    done = CliRunner().invoke(app, ["branch", "step-3.pt", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("where", ["{}", "{}.py", "./{}.py"])
def test_a_module_or_a_file_and_the_result_on_stdout(training, where):
    done = run("--setup", where.format(training) + ":setup", "--steps", 4, "--multipliers", "1,4")
    assert done.exit_code == 0
    assert done.stdout.startswith("LEARNING-RATE PROBE   4 steps")
    assert "safe up to" not in done.stdout  # 20 % at ×1
    assert "already lr 0.01562 (×1) loses 20.0% of the units that fired in 4 steps" in done.stdout
    assert "NOW TRY" in done.stdout
    assert done.stderr == "loading step-3.pt\n"


def test_json_and_an_object_with_its_own_multipliers(training, tmp_path):
    (tmp_path / "own.toml").write_text("[thresholds]\nbranch = 0.5\n")
    done = run(
        "--setup", f"{training}:as_object", "--steps", 4, "--format", "json", "--profile", "own.toml", "--offload"
    )
    document = json.loads(done.stdout)
    assert [point["multiplier"] for point in document["points"]] == [2]
    assert (document["safe"], document["over"], document["threshold"]) == (1 / 32, None, 0.5)


@pytest.mark.parametrize(("rate", "code"), [(1 / 64, 0), (1 / 32, 0), (1 / 31, 1)])
def test_fail_above(training, tmp_path, rate, code):
    (tmp_path / "own.toml").write_text("[thresholds]\nbranch = 0.3\n")
    words = ["--steps", 4, "--multipliers", "1,2,4", "--profile", "own.toml", "--fail-above", rate]
    done = run("--setup", f"{training}:setup", *words)
    assert done.exit_code == code
    assert "--multipliers 2,2.52,3.17,4" in done.stdout
    nothing_is_safe = run("--setup", f"{training}:setup", "--steps", 4, "--multipliers", "4", "--fail-above", 1e-9)
    assert nothing_is_safe.exit_code == 1


def test_the_result_is_kept_with_a_run(training, tmp_path):
    import torch

    with deadneuron.watch(torch.nn.Sequential(torch.nn.ReLU()), None, tmp_path / "run"):
        pass
    done = run("--setup", f"{training}:setup", "--steps", 4, "--multipliers", "1,4", "--run", "run")
    (trial,) = read_trials(tmp_path / "run", [])
    assert trial.over == 1 / 64
    assert "deadneuron report run" in done.stdout
    with pytest.raises(NotARunError):
        run("--setup", f"{training}:setup", "--run", "nothing")


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ("{}", "no function is named"),
        (":setup", "no function is named"),
        ("nothing_there:setup", r"there is no such module \(nothing_there\)"),
        ("nothing.py:setup", r"there is no such file \(nothing\.py\)"),
        ("broken:setup", r"importing it failed: ModuleNotFoundError.*broken\.py:2: import nothing_like_it"),
        ("{}:nope", "no function 'nope'.*it has setup, Given"),
        ("{}:raising", r"setup raised: KeyError: 'weights' at .*\.py:\d+: return \{\}\[\"weights\"\]"),
        ("{}:nothing", r"what setup gave \(NoneType\) lacks model, optimizer, step_fn, batches"),
        ("{}:without_step", r"what setup gave \(dict\) lacks step_fn \(without_step\): return a dict with model"),
        ("{}:with_unknown", "setup gave an unknown 'batch'"),
        ("{}:no_function", "step_fn is no function"),
        ("{}:raising_step", r"the training raised ValueError: my own at .*\.py:\d+: raise ValueError\(\"my own\"\)"),
        ("{}:two_steps", "step_fn made 2 optimizer steps"),
    ],
)
def test_what_may_go_wrong_is_told_in_one_line(training, setup, words):
    with pytest.raises(BranchError, match=words) as caught:
        run("--setup", setup.format(training))
    assert "\n" not in str(caught.value)


def test_wrong_multipliers(training):
    with pytest.raises(UsageError, match="multipliers must be numbers"):
        run("--setup", f"{training}:setup", "--multipliers", "1,x")
    with pytest.raises(DeadneuronError, match="positive"):
        run("--setup", f"{training}:setup", "--multipliers", "0")


def test_ctrl_c_ends_with_130_and_nothing_written(training, tmp_path):
    import torch

    with deadneuron.watch(torch.nn.Sequential(torch.nn.ReLU()), None, tmp_path / "run"):
        pass
    words = ["branch", "x", "--setup", f"{training}:slow", "--run", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deadneuron", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line == "step\n":
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    assert not (tmp_path / "run" / "trials").exists()
