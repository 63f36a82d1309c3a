"""Tiny labs, and the verb that trains them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from tinylab import write_tiny

from deadneuron.errors import DeadneuronError
from deadneuron.experiments.cells import run_cell
from deadneuron.experiments.lab import plan_lab, run_lab
from deadneuron.experiments.labfiles import load_lab
from deadneuron.experiments.workers import Event, Job


@pytest.fixture
def tiny(tmp_path):
    """Writes a tiny lab into the test's folder and gives its path."""

    return partial(write_tiny, tmp_path)


def run_in_process(jobs: Sequence[Job], processes: int, on_event: Callable[[Event], None]) -> None:
    """What `run_jobs` does, one cell after the other and without a process: starting one takes seconds."""
    for job in jobs:
        failed = None
        try:
            run_cell(job.settings, job.path, lambda step: None)
        except DeadneuronError as error:
            failed = f"{type(error).__name__}: {error}"
        on_event(Event(job.name, job.settings["steps"], ended=True, failed=failed))


@pytest.fixture
def in_process(monkeypatch):
    """Labs of this test are trained without processes."""
    monkeypatch.setattr("deadneuron.experiments.lab.run_jobs", run_in_process)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A tiny lab of four cells, trained without processes: its file, its plan, the events."""
    folder = tmp_path_factory.mktemp("lab")
    config = write_tiny(folder)
    plan = plan_lab(load_lab(config), folder / "one")
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deadneuron.experiments.lab.run_jobs", run_in_process)
        assert run_lab(plan, 1, events.append) == {}
    return config, plan, events


@pytest.fixture
def command(tmp_path):
    """Runs `deadneuron lab` in a process of its own, in the test's folder."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "deadneuron", "lab", *map(str, args)]
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)

    return run
