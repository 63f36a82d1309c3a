"""What a sink is: one more place that a run's records go to while it is recorded.

A sink sees what the run folder gets, no more and no less: closed windows and ticks, each once, in order. It never
sees the window that is still open, nor a record twice because a disk was full. docs/tensorboard.md shows how to write
one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from deadneuron.errors import UsageError
from deadneuron.records import RunInfo, Tick, Window


class Sink(Protocol):
    """Eats the records of one run. Whatever it raises ends it, and neither the training nor another sink.

    Then `close` is called one last time, the run gets one gap, and the user one warning.
    """

    def open(self, info: RunInfo) -> None:
        """Begin. Called once, by `watch()` on the caller's thread, before training; `info` has no sites yet."""

    def write(self, info: RunInfo, windows: Sequence[Window], ticks: Sequence[Tick]) -> None:
        """Take what was recorded since the last call; either may be empty.

        Called every few seconds on the run's background thread, never from two threads at once, and one last time on
        the thread that closes the monitor. `info` lists every site and parameter group that the records name. Windows
        of a site come in order of steps, and so do ticks; a tick may come one call later than the window that ends
        with its step. The records are shared: do not change their arrays.
        """

    def close(self) -> None:
        """Finish: nothing follows. Called once, also after an error, and on the thread that closes the monitor."""


def as_sinks(sinks: object) -> tuple[Sink, ...]:
    """The sinks that a user named. Raises `UsageError` for an object that is none, before anything is watched."""
    if isinstance(sinks, str) or not isinstance(sinks, Sequence):
        raise UsageError("sinks is a list", where=f"sinks={sinks!r}", todo='e.g. sinks=[deadneuron.TensorBoard("tb")]')
    for sink in sinks:
        if isinstance(sink, type) or not all(
            callable(getattr(sink, name, None)) for name in ("open", "write", "close")
        ):
            todo = "a sink has the methods open, write and close, as deadneuron.TensorBoard has"
            raise UsageError("this is no sink", where=repr(sink), todo=todo)
    return tuple(sinks)


class Outlets:
    """The sinks of one run, and the records that wait for their next turn."""

    def __init__(self, sinks: Sequence[Sink], fail: Callable[[str, str], None]) -> None:
        self.fail = fail
        self._unopened, self._open = list(sinks), list[Sink]()
        self._windows: list[Window] = []
        self._ticks: list[Tick] = []
        self._lock = threading.Lock()  # guards the two lists above

    def start(self, info: RunInfo) -> None:
        """Open the sinks, once."""
        sinks, self._unopened = self._unopened, []
        self._open = [sink for sink in sinks if self._guard(sink, lambda sink=sink: sink.open(info))]  # type: ignore[misc]

    def take(self, records: Sequence[object]) -> None:
        """Keep records for the next `deliver`; kinds that no sink wants are left out."""
        if self._open or self._unopened:
            with self._lock:
                self._windows += [record for record in records if isinstance(record, Window)]
                self._ticks += [record for record in records if isinstance(record, Tick)]

    def deliver(self, info: RunInfo) -> None:
        """Hand what waits to each sink in turn. Never raises."""
        if self._unopened:
            self.start(info)
        with self._lock:
            windows, ticks = self._windows, self._ticks
            self._windows, self._ticks = [], []
        if windows or ticks:
            self._open = [
                sink
                for sink in self._open
                if self._guard(sink, lambda sink=sink: sink.write(info, windows, ticks))  # type: ignore[misc]
            ]

    def close(self) -> None:
        """Close the sinks. Never raises."""
        sinks, self._open = self._open, []
        for sink in sinks:
            self._guard(sink, sink.close)

    def _guard(self, sink: Sink, act: Callable[[], None]) -> bool:
        try:
            act()
        except Exception as error:
            if act != sink.close:
                with suppress(Exception):
                    sink.close()
            reason = f"it was stopped by {type(error).__name__}: {error}; the run folder is written all the same"
            self.fail(type(sink).__name__, reason)
            return False
        return True
