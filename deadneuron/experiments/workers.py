"""Cells in processes of their own: each with one thread, each cell's failure its own, none left behind.

A worker hears of cells and tells of steps through one pipe. When either side dies the other finds the pipe closed: a
dead worker is one failed cell, and the workers of a lab that was killed stop when they would tell of a step.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

_TELL_EVERY = 10  # steps


@dataclass(frozen=True, slots=True)
class Job:
    """One cell that is to be trained."""

    name: str
    settings: dict[str, Any]
    path: Path


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker did: some steps, or the end of its cell; then `failed` is None or says why there is no result."""

    name: str
    steps: int
    ended: bool = False
    failed: str | None = None


def run_jobs(jobs: Sequence[Job], processes: int, on_event: Callable[[Event], None]) -> None:
    """Run all jobs. Leaves no process behind, also on an exception or Ctrl-C."""
    waiting = deque(jobs)
    workers = {w.pipe: w for w in (_Worker() for _ in range(min(processes, len(jobs))))}
    try:
        for worker in workers.values():
            worker.give(waiting)
        while workers:
            for pipe in wait(list(workers)):
                assert isinstance(pipe, Connection)
                worker = workers[pipe]
                try:
                    event = pipe.recv()
                except (EOFError, OSError):
                    del workers[pipe]
                    name = worker.name
                    reason = worker.stop()
                    if name is not None:
                        on_event(Event(name, 0, ended=True, failed=reason))
                        if waiting:  # go on with a fresh one
                            worker = _Worker()
                            workers[worker.pipe] = worker
                            worker.give(waiting)
                    continue
                on_event(event)
                if event.ended and not worker.give(waiting):
                    del workers[pipe]
                    worker.stop()
    finally:
        for worker in workers.values():
            worker.stop(at_once=True)


class _Worker:
    """The lab's side of one process."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.name: str | None = None  # of the cell that it is working on
        self._process: SpawnProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        with _deaf_to_ctrl_c():
            self._process.start()
        theirs.close()

    def give(self, waiting: deque[Job]) -> bool:
        """Hand over the next job; False where none is left."""
        self.name = None
        if not waiting:
            return False
        job = waiting.popleft()
        self.name = job.name
        with suppress(OSError):  # dead already: its pipe will say so
            self.pipe.send(job)
        return True

    def stop(self, *, at_once: bool = False) -> str:
        """End the process and say how it ended."""
        if at_once:
            self._process.terminate()
        self.pipe.close()
        self._process.join(timeout=10)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        code = self._process.exitcode
        self._process.close()
        return f"its process ended with exit code {code}"


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """A process started here does not hear Ctrl-C, which a terminal sends to all: the lab ends its workers itself.

    Blocked, not ignored: a Ctrl-C meanwhile is still heard by the lab afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection) -> None:
    """A worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from deadneuron.experiments.cells import run_cell

    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the lab is gone: so are we
        while True:
            job: Job = pipe.recv()
            told = 0

            def tell(step: int, job: Job = job) -> None:
                nonlocal told
                if (step + 1) % _TELL_EVERY == 0:
                    pipe.send(Event(job.name, step + 1 - told))
                    told = step + 1

            try:
                run_cell(job.settings, job.path, tell)
                failed = None
            except Exception as error:  # one cell's trouble is not another's; of a lab that is gone `send` tells below
                failed = f"{type(error).__name__}: {error}"
            pipe.send(Event(job.name, job.settings["steps"] - told, ended=True, failed=failed))
