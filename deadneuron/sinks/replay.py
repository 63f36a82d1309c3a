"""A finished run through a sink, as if it were being recorded."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from deadneuron.errors import UsageError
from deadneuron.sinks.tensorboard import TensorBoard
from deadneuron.store.reader import StoredRun
from deadneuron.store.sink import Sink


def _tensorboard(folder: Path) -> Sink:
    if any(folder.glob("events.out.tfevents.*")):
        what = "the log folder holds event files already; curves of two runs would be drawn as one"
        raise UsageError(what, where=str(folder), todo="give a new folder, one a run: tb/lr0.1, tb/lr0.2 …")
    return TensorBoard(folder)


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": _tensorboard}
"""Sinks that a run can be replayed to, by the name that the command line knows; each is given a folder."""


def replay_to(stored: StoredRun, name: str, folder: Path) -> None:
    """Write a stored run to the sink of that name, in that folder.

    Raises `UsageError` for an unknown name, a folder that would mix two runs, and one that cannot be written.
    """
    if name not in SINKS:
        raise UsageError("a run cannot be replayed to this", where=name, todo=f"one of: {', '.join(SINKS)}")
    try:
        replay(stored, SINKS[name](folder))
    except OSError as error:
        what = f"cannot write the log folder: {error.strerror or error}"
        raise UsageError(what, where=str(folder), todo="give a folder that you may write") from None


def replay(stored: StoredRun, sink: Sink) -> None:
    """Hand a stored run's windows and ticks to a sink, window by window; what the sink raises is raised."""
    windows = sorted(stored.windows, key=lambda w: (w.last_step, w.first_step, w.site))
    ticks = iter(stored.ticks)
    waiting = next(ticks, None)
    try:
        sink.open(stored.info)
        for last, group in groupby(windows, key=lambda w: w.last_step):
            due = []
            while waiting is not None and waiting.step <= last:
                due.append(waiting)
                waiting = next(ticks, None)
            sink.write(stored.info, list(group), due)
        if waiting is not None:  # of a killed run, steps after the last window
            sink.write(stored.info, [], [waiting, *ticks])
    finally:
        sink.close()
