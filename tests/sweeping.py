"""Sweeps of the scripts of `scripts`, planned and run in tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import scripts
from scripts import write_script

from deadneuron.experiments import scriptcell
from deadneuron.experiments.cells import RESULT
from deadneuron.experiments.processes import LOG, Command, Ended
from deadneuron.experiments.sweep import plan_sweep, run_sweep

QUICK = "[sampling]\nwindow = 5\nevery = 3\n[thresholds]\npatience = 11\nsamples = 97\n"
STEPS = 47


def run_in_process(
    commands: Sequence[Command],
    parallel: int,
    environment: Mapping[str, str],
    on_end: Callable[[Ended], None],
    on_look: Callable[[Mapping[str, int]], None],
) -> None:
    """What `run_commands` does, one cell after the other and without a process: starting one takes seconds."""
    for command in commands:
        (command.path / LOG).write_text("")
        on_look({command.name: 0})
        with contextlib.chdir(Path.cwd()):  # a script may change it, of its own process
            code = scriptcell.main(command.path)
        on_end(Ended(command.name, code, 0.0))


def plan_in(place, text=scripts.PLAIN, lrs=(0.1, 0.3), seeds=2, steps=STEPS, **options):
    """Plan a sweep of a script in a folder."""
    (place / "quick.toml").write_text(QUICK)
    path = write_script(place, text, steps)
    options = {"folder": place / "sweep", "profile": place / "quick.toml"} | options
    return plan_sweep(path, options.pop("args", ()), lrs=lrs, seeds=seeds, **options)


def run(plan):
    ended = []
    run_sweep(plan, 1, ended.append, lambda steps: None)
    return [one.name for one in ended]


def stamps(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{RESULT}")}
