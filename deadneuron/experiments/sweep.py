"""A sweep: an unedited script at several learning rates and seeds, each under the monitor. Stops and goes on.

runs/sweep/<script>/<cell>/   model/ (a run folder; a second model's is model-2/), log.txt; result.json when finished
runs/sweep/<script>/          sweep.json, table.csv, summary.md
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deadneuron import __version__
from deadneuron.errors import ScriptError
from deadneuron.experiments.cells import RESULT, read_result, write_whole
from deadneuron.experiments.processes import LOG, Command, Ended, run_commands
from deadneuron.experiments.scriptcell import REFUSED, SETTINGS, STEPS, WRONG
from deadneuron.profiles import load_profile
from deadneuron.store.layout import RUN_FILE

_LINES = 5  # of a log that are told of a cell that failed
_TAIL, _WIDTH = 2**14, 500  # bytes at the log's end that they are looked for in, and characters of a line


@dataclass(frozen=True, slots=True)
class Dial:
    """One cell: the rate of the first parameter group, and which replicate."""

    lr: float
    replicate: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"lr{self.lr!r}_seed{self.replicate}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell without a result."""

    name: str
    exit_code: int
    lines: tuple[str, ...]  # the last ones of its log

    def __str__(self) -> str:
        how = f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit code {self.exit_code}"
        if not self.exit_code:
            how += ", but not as Python ends (os._exit?), so its run was not closed"
        return f"{self.name} ended with {how}" + (f": {self.lines[-1]}" if self.lines else "")


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What is to be run, and where."""

    script: Path
    args: tuple[str, ...]
    folder: Path
    python: str
    dials: tuple[tuple[Dial, dict[str, Any]], ...]  # each with its settings

    def results(self) -> list[tuple[Dial, dict[str, Any]]]:
        """The cells that are finished, each with its result."""
        read = ((dial, read_result(self.folder / dial.name, own)) for dial, own in self.dials)
        return [(dial, result) for dial, result in read if result is not None and self._has_runs(dial, result)]

    def unfinished(self) -> tuple[Dial, ...]:
        """The cells without a result, or with one of other settings."""
        done = {dial for dial, _ in self.results()}
        return tuple(dial for dial, _ in self.dials if dial not in done)

    def failures(self) -> tuple[Failure, ...]:
        """The cells that ended without a result when they were last run."""
        found = (read_failure(self.folder / dial.name) for dial in self.unfinished())
        return tuple(one for one in found if one is not None)

    def _has_runs(self, dial: Dial, result: dict[str, Any]) -> bool:
        return all((self.folder / dial.name / run / RUN_FILE).is_file() for run in result["runs"])


def plan_sweep(
    script: Path,
    args: tuple[str, ...],
    *,
    lrs: tuple[float, ...],
    seeds: int,
    folder: Path,
    seed: int = 0,
    profile: str | Path = "default",
    python: str = sys.executable,
) -> SweepPlan:
    """Every rate with every seed.

    Raises `ScriptError` for a script that is not there, or a folder that holds results of another script or of other
    arguments, and `ProfileError` for the profile.

    A cell's result holds for the text of the script, its arguments, rate, seed, the profile's numbers and the versions
    of the packages; files that the script reads or imports are not looked at.
    """
    try:
        text = script.read_bytes()
    except OSError as error:
        todo = "give the path of a Python file"
        raise ScriptError(f"cannot read the script: {error.strerror}", where=str(script), todo=todo) from None
    chosen = load_profile(profile)
    common = {
        "script": str(script),
        "sha256": hashlib.sha256(text).hexdigest(),
        "args": list(args),
        "seed": seed,
        "profile": {"name": chosen.name, "sampling": asdict(chosen.sampling), "thresholds": asdict(chosen.thresholds)},
        "versions": {**_versions(), "interpreter": python},
    }
    dials = [Dial(lr, replicate) for lr in lrs for replicate in range(seeds)]
    # Seed by seed, so that a sweep that is stopped has all rates at some seeds.
    dials.sort(key=lambda dial: dial.replicate)
    _refuse_another(folder, common)
    made = [(dial, json.loads(json.dumps({**common, "lr": dial.lr, "replicate": dial.replicate}))) for dial in dials]
    return SweepPlan(script, args, folder, python, tuple(made))


def _refuse_another(folder: Path, common: dict[str, Any]) -> None:
    """Results of another script, or of this one with other arguments, are not to be replaced."""
    for path in sorted(folder.glob("lr*_seed*")):
        if not (path / RESULT).is_file():
            continue
        try:
            settings = json.loads((path / SETTINGS).read_text("utf-8"))
            same = (settings["script"], settings["args"]) == (common["script"], common["args"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if not same:
            other = shlex.join([settings["script"], *settings["args"]])
            todo = "give another --folder"
            raise ScriptError(f"the folder holds a sweep of {other}", where=str(folder), todo=todo)


def run_sweep(
    plan: SweepPlan, parallel: int, on_end: Callable[[Ended], None], on_look: Callable[[Mapping[str, int]], None]
) -> None:
    """Run what is unfinished. Raises `ScriptError` where the script cannot be swept, or the folder not be written."""
    if shutil.which(plan.python) is None:
        todo = "give the path of a Python that has deadneuron"
        raise ScriptError("there is no such Python", where=plan.python, todo=todo)
    with _alone(plan.folder):
        missing = set(plan.unfinished())
        commands = []
        for dial, settings in plan.dials:
            if dial in missing:
                path = plan.folder / dial.name
                _make_way(path, settings)
                words = (plan.python, "-m", "deadneuron.experiments.scriptcell", str(path))
                commands.append(Command(dial.name, words, path))

        def note(ended: Ended) -> None:
            path = plan.folder / ended.name
            with writing(path):
                (path / STEPS).unlink(missing_ok=True)
                if ended.exit_code or not (path / RESULT).is_file():
                    _write_failure(path, ended)
            if ended.exit_code == WRONG and (path / REFUSED).is_file() and not plan.results():
                what, where, todo = json.loads((path / REFUSED).read_text("utf-8"))
                raise ScriptError(what, where=where, todo=todo)  # no other cell would fare better
            on_end(ended)

        run_commands(commands, parallel, _environment(parallel), note, on_look)


def _environment(parallel: int) -> dict[str, str]:
    """Of the trainings: several at a time share the cores; a single one has as many threads as without us."""
    shared = {}
    if parallel > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(max(1, cores // parallel)))
    return {**shared, **os.environ, "PYTHONUNBUFFERED": "1"}


def read_failure(path: Path) -> Failure | None:
    """How a cell ended that has no result; None if it never ran to an end."""
    try:
        document = json.loads((path / "failed.json").read_text("utf-8"))
        return Failure(path.name, int(document["exit_code"]), tuple(map(str, document["lines"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_failure(path: Path, ended: Ended) -> None:
    with (path / LOG).open("rb") as log:  # which may be very long
        log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
        text = log.read().decode("utf-8", errors="replace")
    lines = [line[-_WIDTH:] for line in text.rstrip().splitlines()[-_LINES:]]
    document = {"exit_code": ended.exit_code, "lines": lines, "seconds": round(ended.seconds, 3)}
    write_whole(path / "failed.json", json.dumps(document, indent=1) + "\n")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One sweep at a time in a folder: two would replace each other's runs. Not looked after where there is no flock.

    The system gives the lock back however the sweep ends; the trainings do not inherit it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        try:
            fcntl = import_module("fcntl")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            todo = "wait for its end, or give another --folder"
            raise ScriptError("another sweep is running in this folder", where=str(folder), todo=todo) from None
        except (ImportError, OSError):  # Windows; a network file system without locks
            pass
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise `ScriptError` where files of a sweep cannot be written: a full disk, no right to."""
    try:
        yield
    except OSError as error:
        what = f"cannot write the sweep's folder: {error.strerror}"
        raise ScriptError(what, where=str(path), todo="make room there, or give another --folder") from None


def _make_way(path: Path, settings: dict[str, Any]) -> None:
    """The result goes first: what is left of a killed run must not stand under an old one."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        for name in (RESULT, "failed.json", REFUSED, STEPS):
            (path / name).unlink(missing_ok=True)
        write_whole(path / SETTINGS, json.dumps(settings, indent=1) + "\n")


def _versions() -> dict[str, str]:
    versions = {"deadneuron": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # of another interpreter
            versions[package] = "unknown"
    return versions
