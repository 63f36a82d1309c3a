"""One cell of a sweep in a process of its own: `python -m deadneuron.experiments.scriptcell FOLDER`.

FOLDER holds settings.json. The result is written last: a cell without one is not finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadneuron.errors import DeadneuronError, ScriptError
from deadneuron.experiments.cells import RESULT, RESULT_FORMAT, write_whole

SETTINGS = "settings.json"
STEPS = ".steps"  # how far a running cell is
REFUSED = "refused.txt"  # why the script cannot be swept at all
WRONG = 2  # exit code then
_LOOKS = 10  # of half a second, from asking an orphaned training to end to ending it


def main(path: Path) -> int:
    """Run the cell; the exit code is the script's, or 2 where it cannot be watched."""
    path = path.absolute()  # the script may change the working directory
    settings: dict[str, Any] = json.loads((path / SETTINGS).read_text("utf-8"))
    from deadneuron.integrations.script import run_script
    from deadneuron.profiles import load_profile
    from deadneuron.records import Sampling, Thresholds

    parent, began = os.getppid(), time.monotonic()
    orphaned: list[int] = []  # how far the training was at each look since the sweep was killed

    def tell(steps: int) -> None:
        with suppress(OSError):  # a full disk, a folder that is gone: only the progress bar stands still
            (path / STEPS).write_text(str(steps), "utf-8")
        if os.getppid() != parent:  # the sweep was killed: nobody would read what this cell goes on to do
            orphaned.append(steps)
            if len(orphaned) == 1:
                _end_group(signal.SIGTERM)
            elif len(orphaned) > _LOOKS:  # the script does not heed it
                _end_group(getattr(signal, "SIGKILL", signal.SIGTERM))

    numbers = settings["profile"]
    sampling, thresholds = Sampling(**numbers["sampling"]), Thresholds(**numbers["thresholds"])
    profile = replace(load_profile(), name=numbers["name"], sampling=sampling, thresholds=thresholds)
    try:
        _check_unedited(settings)
        done = run_script(
            settings["script"],
            settings["args"],
            path,
            lr=settings["lr"],
            seed=settings["seed"],
            replicate=settings["replicate"],
            profile=profile,
            on_steps=tell,
        )
    except DeadneuronError as error:
        print(f"deadneuron: {error}", file=sys.stderr)
        if isinstance(error, ScriptError):
            write_whole(path / REFUSED, json.dumps([error.what, error.where, error.todo]))
        return WRONG
    if done.exit_code == 0:
        result = {
            "format": RESULT_FORMAT,
            "settings": settings,
            "seconds": round(time.monotonic() - began, 3),
            "steps": done.steps,
            "runs": [run.name for run in done.runs],
            "loss_known": done.loss_known,
        }
        write_whole(path / RESULT, json.dumps(result, indent=1) + "\n")
    return done.exit_code


def _check_unedited(settings: dict[str, Any]) -> None:
    """Raise `ScriptError` if the script is not the one that the sweep began with: its result would stand for that."""
    script = Path(settings["script"])
    if script.is_file() and hashlib.sha256(script.read_bytes()).hexdigest() != settings["sha256"]:
        what = "the script was edited while the sweep ran"
        raise ScriptError(what, where=str(script), todo="start the sweep again: all trainings are made anew")


def _end_group(number: int) -> None:
    """End this process, and what its script has started if they are a group of their own."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), number)
    else:
        os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
