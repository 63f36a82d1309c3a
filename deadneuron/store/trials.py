"""Results of experiments on the learning rate, kept with the run that they tell of: trials/<kind>-<number>.json."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from deadneuron.causes import Trial
from deadneuron.errors import RunFolderError
from deadneuron.records import Gap
from deadneuron.store.layout import replace_file

TRIAL_FORMAT = 1
TRIALS = "trials"


def write_trial(run: Path, trial: Trial) -> Path:
    """Add a trial to a run folder, beside those that are there; gives its file.

    Raises `RunFolderError` where that cannot be written.
    """
    folder = run / TRIALS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = {path.stem for path in folder.glob(f"{trial.kind}-*.json")}
        number = next(n for n in range(1, len(taken) + 2) if f"{trial.kind}-{n}" not in taken)
        path = folder / f"{trial.kind}-{number}.json"
        document = {"format": TRIAL_FORMAT, **_adapter().dump_python(trial, mode="json")}
        replace_file(path, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        what = f"cannot write the trial: {error.strerror}"
        raise RunFolderError(what, where=str(folder), todo="give a run folder that you may write") from None
    return path


def read_trials(run: Path, gaps: list[Gap]) -> tuple[Trial, ...]:
    """All trials of a run in the order of their writing; one that cannot be read is added to `gaps`."""
    found = []
    for path in sorted((run / TRIALS).glob("*.json")):
        with suppress(FileNotFoundError):
            try:
                document = json.loads(path.read_text("utf-8"))
                if document.pop("format") != TRIAL_FORMAT:
                    raise ValueError("another deadneuron wrote it")
                found.append(_adapter().validate_python(document))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                damaged = isinstance(error, (ValidationError, json.JSONDecodeError))
                reason = "damaged" if damaged else str(error).partition("\n")[0][:120]
                gaps.append(Gap(str(path), f"this trial cannot be read ({reason})", 0))
    return tuple(sorted(found, key=lambda trial: trial.written))


@cache
def _adapter() -> TypeAdapter[Trial]:
    return TypeAdapter(Trial)
