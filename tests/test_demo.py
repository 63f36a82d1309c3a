"""The demo is measured, not told: its figures against an independent measurement."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import deadneuron
from deadneuron.frames import read_run

README = Path(__file__).parents[1] / "README.md"


def test_the_monitor_agrees_with_the_whole_training_set(demo_outcomes):
    """A unit that is dead for the monitor (silent on the batches it saw) is positive on no training image."""
    for outcome in demo_outcomes:
        for verdict, never in zip(outcome.diagnosis.verdicts, outcome.never, strict=True):
            # Every image comes by in 22 steps, the patience is 100; deep layers still flicker in the last steps.
            near = 0.03 if verdict.name == "layer1.act" else 0.06
            assert abs(verdict.dead / verdict.units - never) <= near, (outcome.name, verdict.name)


def test_the_story_is_true(demo_outcomes):
    fair, high, normed = demo_outcomes
    assert fair.diagnosis.status == normed.diagnosis.status == "healthy"
    assert high.diagnosis.status == "severe"
    assert high.never[0] > 0.5, "the margin is for processors that round otherwise"
    assert fair.never[0] < 0.1
    assert normed.never == (0.0, 0.0, 0.0)
    assert min(outcome.accuracy for outcome in demo_outcomes) > 0.93


def test_each_death_is_dated_by_what_the_unit_did(demo_runs):
    """Every dead unit of the high-rate run was last active in the step that its episode names."""
    run = read_run(demo_runs / "lr0.2")
    diagnosis = deadneuron.diagnose(run)
    last = run.units.set_index(["site", "unit"])["last_active"]
    for episode in diagnosis.episodes:
        if episode.last_step is None and not episode.born:
            assert last[episode.site, episode.unit] >= episode.first_step
            assert last[episode.site, episode.unit] <= diagnosis.last_step - diagnosis.thresholds.patience


def test_the_verb_demo_tells_the_story_and_names_the_next_commands(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "deadneuron", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "THE STORY" in done.stdout
    for command in re.findall(r"^  deadneuron (report runs/demo/\S+)$", done.stdout, re.MULTILINE):
        words = [sys.executable, "-m", "deadneuron", *command.split()]
        assert subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60).returncode == 0
    assert {p.name for p in (tmp_path / "runs/demo").iterdir()} == {"lr0.05", "lr0.2", "lr0.2-batchnorm"}


def test_the_readme_runs(tmp_path, monkeypatch):
    """The README's Python, from top to bottom in one process, and then its report command."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    program = tmp_path / "readme.py"
    program.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    commands = re.findall(r"^\$ deadneuron (.*)$", README.read_text(), re.MULTILINE)
    assert commands == ["report runs/first"]
    words = [sys.executable, "-m", "deadneuron", *commands[0].split()]
    assert "VERDICT" in subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout
