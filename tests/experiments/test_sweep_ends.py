"""Sweeps in processes: one that is killed, one that is interrupted, trainings that outlive their sweep."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import scripts
from deadneuron.cli import app
from scripts import write_script
from sweeping import QUICK, STEPS, plan_in, run, run_in_process, stamps
from typer.testing import CliRunner

from deadneuron.errors import ScriptError
from deadneuron.experiments import scriptcell
from deadneuron.experiments.processes import LOG


@pytest.fixture
def command(tmp_path):
    """Starts `deadneuron sweep` in a process of its own, in the test's folder."""
    (tmp_path / "quick.toml").write_text(QUICK)

    def start(*args: object) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "deadneuron", "sweep", *map(str, args), "--profile", "quick.toml"]
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(words, text=True, cwd=tmp_path, env=environment, **pipes)

    return start


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("own_group", [True, False])
def test_a_training_whose_sweep_was_killed_is_asked_to_end_and_then_ended(tmp_path, monkeypatch, own_group):
    """Whatever the script does with SIGTERM; with all processes that it started."""
    made, sent, parents = plan_in(tmp_path, seeds=1), [], iter([1, 1, *[2] * 11])
    pid = os.getpid()

    def run_script(*args, on_steps, **settings):
        for step in range(12):
            on_steps(step)
        raise ScriptError("over", where="here", todo="nothing")

    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", lambda *all: None)
    run(made)
    monkeypatch.setattr("deadneuron.integrations.script.run_script", run_script)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "getpgrp", lambda: pid if own_group else pid - 1)
    monkeypatch.setattr(os, "killpg", lambda *what: sent.append(("group", *what)))
    monkeypatch.setattr(os, "kill", lambda *what: sent.append(("process", *what)))
    scriptcell.main(made.folder / "lr0.1_seed0")
    whom = "group" if own_group else "process"
    assert sent == [(whom, pid, signal.SIGTERM), (whom, pid, signal.SIGKILL)]


def test_a_cell_that_kills_its_process_does_not_take_the_others_along(command, tmp_path):
    text = "import os, signal\n" + scripts.PLAIN.replace(
        "    optimizer.step()\n",
        "    optimizer.step()\n    print('step', step)\n"
        "    if model[0].weight.abs().max() > 1e3: os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    write_script(tmp_path, text, STEPS)
    out, err = (process := command("train.py", "--lr", "0.1,1e9", "--seeds", "1", "--parallel", "2")).communicate()
    assert process.returncode == 1, err
    assert "no result: lr1000000000.0_seed0 ended with signal 9: step" in err
    assert "AT THE SAME STEP" in out
    document = json.loads((tmp_path / "runs/sweep/train/sweep.json").read_text())
    assert [(cell["state"], cell["exit_code"]) for cell in document["cells"]] == [("finished", 0), ("failed", -9)]
    assert document["cells"][1]["log"][-1].startswith("step ")
    assert (tmp_path / "runs/sweep/train/lr0.1_seed0" / LOG).read_text().splitlines()[-1] == f"step {STEPS - 1}"


def test_ctrl_c_ends_the_trainings_and_the_same_command_goes_on(command, tmp_path, monkeypatch):
    """The first seed's training ends by itself; the second's waits to be interrupted."""
    text = "import time, pathlib\n" + scripts.PLAIN.replace(
        "    optimizer.step()\n",
        "    optimizer.step()\n    while torch.initial_seed() and not pathlib.Path('go').exists(): time.sleep(0.05)\n",
    )
    write_script(tmp_path, text, STEPS)
    folder = tmp_path / "runs" / "sweep" / "train"
    words = ("train.py", "--lr", "0.1", "--seeds", "2")
    first = command(*words)
    wait_for(lambda: len(stamps(folder)) == 1 and list(folder.glob("*_seed1/model/rank0-*")))
    (rank,) = folder.glob("*_seed1/model/rank0-*")
    pid = int(rank.name.split("-")[1])
    assert alive(pid)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    again = "deadneuron sweep train.py --lr 0.1 --seeds 2 --profile quick.toml"
    assert f"1 of 2 trainings are finished. Go on with: {again}\n" in err
    assert not alive(pid)
    before = stamps(folder)
    (tmp_path / "go").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deadneuron.experiments.sweep.run_commands", run_in_process)
    second = CliRunner().invoke(app, ["sweep", *words, "--profile", "quick.toml"])
    assert second.exit_code == 0, second.output
    assert "1 finished already" in second.stderr
    assert before.items() < stamps(folder).items()
    assert "AT THE SAME STEP" in second.stdout
