"""Cells of a sweep as processes, some at a time. A script may be anything: each gets a process group of its own, which
is ended as a whole, by its number."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deadneuron.experiments.scriptcell import STEPS

LOG = "log.txt"
_LOOK = 0.2  # seconds between two looks at the processes
_GRACE = 5.0  # seconds from asking a process to end to ending it


@dataclass(frozen=True, slots=True)
class Command:
    """How one cell is run."""

    name: str
    words: tuple[str, ...]
    path: Path  # the cell's folder; gets the log


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that is over."""

    name: str
    exit_code: int  # negative: the signal that ended it
    seconds: float


def run_commands(
    commands: Sequence[Command],
    parallel: int,
    environment: Mapping[str, str],
    on_end: Callable[[Ended], None],
    on_look: Callable[[Mapping[str, int]], None],
) -> None:
    """Run all, `parallel` at a time; `on_look` is told now and then how many steps each running one has made.

    Leaves no process behind, also on an exception of `on_end` or Ctrl-C.
    """
    waiting, running = deque(commands), list[_Running]()
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running.append(_Running(waiting.popleft(), environment))
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                one.end()  # what its script started and left running
                on_end(Ended(one.command.name, one.process.returncode, time.monotonic() - one.began))
            on_look({one.command.name: one.steps() for one in running})
            if running:
                time.sleep(_LOOK)
    finally:
        for one in running:
            one.ask_to_end()
        for one in running:
            one.end()


class _Running:
    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        self.command, self.began = command, time.monotonic()
        with (command.path / LOG).open("wb") as log:
            # A session of its own: a terminal's Ctrl-C does not reach it, and the sweep can end all that it started.
            self.process = subprocess.Popen(
                command.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def steps(self) -> int:
        with suppress(OSError, ValueError):
            return int((self.command.path / STEPS).read_text("utf-8"))
        return 0

    def ask_to_end(self) -> None:
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self.process.wait()

    def _signal(self, number: int) -> None:
        # The group's number is the process's own. It stays taken as long as anything in the group runs.
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)
            else:
                self.process.terminate()
