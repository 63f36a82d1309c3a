"""What `deadneuron report` does where it is given checkpoints instead of a run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deadneuron.records import Diagnosis

_RUN_FILE = "run.json"
_DEEP = ("", "*/", "*/*/")


def is_run(paths: Sequence[str]) -> bool:
    """Whether what is given is a run folder, or a folder of such. Raises `UsageError` for several of them."""
    from deadneuron.errors import UsageError

    runs = [path for path in paths if "://" not in path and _holds_run(Path(path))]
    if runs and len(paths) > 1:
        raise UsageError("several things are given, and one is a run", where=runs[0], todo="give one run at a time")
    return bool(runs)


def _holds_run(path: Path) -> bool:
    return path.is_dir() and any(next(path.glob(f"{depth}{_RUN_FILE}"), None) for depth in _DEEP)


def scan(
    paths: Sequence[str],
    *,
    model: str | None,
    data: str | None,
    batches: int | None,
    allow: Sequence[str],
    profile: str,
    steps_per_epoch: int | None = None,
) -> Diagnosis:
    """The diagnosis of checkpoints, with a progress bar on stderr."""
    _check(paths, model, data)
    from contextlib import redirect_stdout

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    # By name: with torch loaded only here, a report on a run does not wait for it.
    found: dict[str, Any] = {}
    if model is not None or data is not None:
        found = _functions(model, data)
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with redirect_stdout(err.file), Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("looking for checkpoints", total=1.0)

        def show(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        scan_checkpoints = import_module("deadneuron.checkpoints.scan").scan_checkpoints
        diagnosis: Diagnosis = scan_checkpoints(
            list(paths),
            profile=profile,
            allow=tuple(allow),
            batches=batches,
            steps_per_epoch=steps_per_epoch,
            on_progress=show,
            **found,
        )
    return diagnosis


def _check(paths: Sequence[str], model: str | None, data: str | None) -> None:
    """Mistakes that can be told before torch is loaded."""
    from deadneuron.errors import CheckpointError, UsageError

    if (model is None) != (data is None):
        missing = "--data" if data is None else "--model"
        raise UsageError(f"{missing} is missing", todo="give both, to measure; or none of them")
    for path in paths:
        if "://" not in path and not any(sign in path for sign in "*?[") and not Path(path).exists():
            raise CheckpointError("there is no such file or folder", where=path, todo="check the path")


def _functions(model: str | None, data: str | None) -> dict[str, Any]:
    from deadneuron.errors import CheckpointError
    from deadneuron.userfunctions import load_function

    places = {"model": model, "data": data}
    return {
        name: load_function(place, f"--{name}", CheckpointError) for name, place in places.items() if place is not None
    }
