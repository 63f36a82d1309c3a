"""The command line, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def deadneuron(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deadneuron", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


def test_the_healthy_run_passes_and_the_high_rate_run_fails(demo_runs):
    assert deadneuron("report", demo_runs / "lr0.05", "--fail-on", "warning").returncode == 0
    assert deadneuron("report", demo_runs / "lr0.2-batchnorm", "--fail-on", "warning").returncode == 0
    assert deadneuron("report", demo_runs / "lr0.2", "--fail-on", "warning").returncode == 1
    assert deadneuron("report", demo_runs / "lr0.2").returncode == 0


def test_json_gives_the_dead_units_of_the_first_layer_with_steps_and_rates(demo_runs):
    done = deadneuron("report", demo_runs / "lr0.2", "--format", "json")
    diagnosis = json.loads(done.stdout)
    first = diagnosis["verdicts"][0]
    assert first["name"] == "layer1.act"
    dead = [e for e in diagnosis["episodes"] if e["site"] == first["site"] and e["last_step"] is None]
    assert len(dead) == first["dead"] >= 0.2 * first["units"]
    died = [e for e in dead if not e["born"]]
    assert len(died) == first["died"]
    assert all(0 <= e["first_step"] < 600 and e["rate"] == 0.2 and e["samples"] >= 300 for e in died)
    assert done.stderr == ""


def test_the_text_report_says_verdict_why_next_and_what_was_seen(demo_runs):
    lines = deadneuron("report", demo_runs / "lr0.2").stdout.splitlines()
    heads = [line.split()[0] for line in lines if line[:1].isalpha() and line[0].isupper()]
    assert heads == ["VERDICT", "WHY", "LEARNING", "NEXT", "SEEN"]
    assert "3 of 3 activation sites seen" in lines[-1]


def test_a_profile_of_ones_own_changes_the_judgement(demo_runs, tmp_path):
    lenient = tmp_path / "lenient.toml"
    lenient.write_text("[thresholds]\nwarning = 1.0\nsevere = 1.0\n")
    done = deadneuron("report", demo_runs / "lr0.2", "--profile", lenient, "--fail-on", "warning")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["report", "nowhere"], "checkpoint"),
        (["report", "."], "checkpoint"),
        (["report", "{run}", "--profile", "nope"], "profile"),
        (["report", "{run}", "--profile", "missing.toml"], "profile"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_exit_code_2(args, code, demo_runs, tmp_path):
    done = deadneuron(*(arg.format(run=demo_runs / "lr0.2") for arg in args), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("deadneuron: ")
    assert f"[{code}]" in done.stderr


def test_a_report_to_tensorboard_writes_every_window_and_still_reports(demo_runs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, folder = demo_runs / "lr0.2", tmp_path / "tb" / "lr0.2"
    done = deadneuron("report", run, "--to", "tensorboard", folder, "--fail-on", "warning")
    assert done.returncode == 1
    assert done.stdout == deadneuron("report", run).stdout
    assert done.stderr.count("\n") == 1
    assert "wrote 13 windows of 3 sites" in done.stderr
    assert f"tensorboard --logdir {folder}" in done.stderr
    dead = EventAccumulator(str(folder)).Reload().Scalars("deadneuron.dead/layer1.act")
    verdict = json.loads(deadneuron("report", run, "--format", "json").stdout)["verdicts"][0]
    assert len(dead) == 13
    assert dead[-1].value == pytest.approx(verdict["dead"] / verdict["units"])


def test_a_second_run_is_not_drawn_over_the_first(demo_runs, tmp_path):
    assert deadneuron("report", demo_runs / "lr0.2", "--to", "tensorboard", tmp_path).returncode == 0
    before = sorted(tmp_path.iterdir())
    done = deadneuron("report", demo_runs / "lr0.05", "--to", "tensorboard", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "give a new folder" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("to", [["nonsense", "folder"], ["tensorboard", "file"]])
def test_what_a_report_cannot_be_written_to_is_one_line(to, demo_runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = deadneuron("report", demo_runs / "lr0.2", "--to", *to, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "[usage]" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["report"],
        ["nonsense"],
        ["report", "x", "--format", "xml"],
        ["report", "x", "--no"],
        ["report", "x", "--to", "a"],
    ],
)
def test_wrong_usage_exits_with_2(args, tmp_path):
    done = deadneuron(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_verb_has_help_worth_reading():
    assert {"report", "demo", "lab"} <= set(deadneuron("--help").stdout.split())
    for verb in ("report", "demo", "lab"):
        done = deadneuron(verb, "--help")
        assert done.returncode == 0
        assert len(done.stdout.split()) > 40


def test_a_reader_that_goes_away_is_no_error(demo_runs):
    command = f"{sys.executable} -m deadneuron report {demo_runs / 'lr0.2'} --format json | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_the_verb_version_and_the_module_agree():
    import deadneuron as package

    assert deadneuron("--version").stdout.split() == ["deadneuron", package.__version__]


def test_a_terminal_without_unicode_gets_a_report_and_no_traceback(demo_runs):
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "deadneuron", "report", str(demo_runs / "lr0.2"), "--fail-on", "warning"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1
    assert "VERDICT" in done.stdout
    assert done.stderr == ""


def test_the_demos_help_names_its_extra():
    assert "deadneuron[demo]" in deadneuron("demo", "--help").stdout
