"""Writes a run folder from a background thread, so that training waits for no disk.

What arrives is a function that makes the records: it is called here, so that waiting for the device and unpacking
also happen off the training thread. A full disk or a lost mount is told to `fail`, once; the records are kept for
the next try up to a bound, and then the oldest are dropped.

The same thread then hands the same records to the sinks (see `deadneuron.store.sink`), whether or not the disk took
them.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deadneuron.errors import RunFolderError
from deadneuron.records import RunInfo
from deadneuron.store.layout import KINDS, OPEN, RUN_FILE, Kind, Record, info_to_json, replace_file, to_table
from deadneuron.store.parts import Parts, write_part
from deadneuron.store.sink import Outlets, Sink

Produce = Callable[[], Sequence[Record]]
_KEEP = 10_000  # batches of records that wait while the disk cannot be written
_MANY = 1_000  # waiting batches that wake the thread before its time


class Writer:
    """The one writer of one rank's folder inside a run folder."""

    def __init__(
        self, path: Path, info: RunInfo, *, fail: Callable[[str, str], None], sinks: Sequence[Sink] = ()
    ) -> None:
        self.path, self.fail = path, fail
        self._outlets = Outlets(sinks, fail)
        self._known = info  # what the sinks are told of the run
        self.folder = path / f"rank{info.rank}-{os.getpid()}-{secrets.token_hex(3)}"
        self.seconds = info.sampling.flush_seconds
        self._pid = os.getpid()
        self._info: RunInfo | None = info
        self._waiting: list[tuple[Kind, Produce]] = []
        self._open: Produce | None = None
        self._open_written = False
        self._lock = threading.Lock()  # guards the four above
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        try:
            self.folder.mkdir(parents=True)
            replace_file(path / RUN_FILE, info_to_json(info))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise _unusable(error, path) from None
        self._parts = {kind: Parts(self.folder, kind) for kind in KINDS}
        self._thread = threading.Thread(target=self._run, name=f"deadneuron-{path.name}", daemon=True)
        self._thread.start()

    def open_sinks(self) -> None:
        """Open the sinks now, on this thread, and not at the first flush: before training rather than in it."""
        self._outlets.start(self._known)

    def update(self, info: RunInfo) -> None:
        """Replace run.json at the next flush."""
        if self._forked():
            return
        with self._lock:
            self._info = self._known = info

    def add(self, kind: Kind, produce: Produce) -> None:
        """Queue records; `produce` is called on the writer's thread. A window closes the open one."""
        if self._forked():
            return
        with self._lock:
            self._waiting.append((kind, produce))
            many = len(self._waiting) == _MANY
            if kind == "windows":
                self._open = None
        if many:
            self._wake.set()

    def set_open(self, produce: Produce) -> None:
        """The window that is still open, as it stands: what a kill does not lose."""
        if self._forked():
            return
        with self._lock:
            self._open = produce

    def flush(self) -> None:
        """Write everything now, on this thread. Never raises."""
        if self._forked():
            return
        with self._flushing:
            try:
                self._write()
            except OSError as error:
                self.fail("run folder", f"cannot write {self.path}: {error.strerror or error}")
            except Exception as error:
                self.fail("run folder", f"{type(error).__name__} while writing: {error}")

    def close(self) -> None:
        """Write what is left, merge the parts, stop the thread."""
        if self._closed or self._forked():
            return
        self._closed = True
        self._wake.set()
        self._thread.join()
        self.flush()
        self._outlets.deliver(self._known)
        self._outlets.close()
        if self._waiting:  # that failed: once more, and with the gap that tells of it
            self.flush()
        with self._flushing:
            for parts in self._parts.values():
                self._merge(parts.merge_all)

    def _forked(self) -> bool:
        # A forked child has a copy of this object, but not of the thread, and perhaps a lock that nobody will release.
        return os.getpid() != self._pid

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self.seconds)
            self._wake.clear()
            if not self._closed:
                self.flush()
                self._outlets.deliver(self._known)

    def _write(self) -> None:
        with self._lock:
            info, waiting, opened = self._info, self._waiting, self._open
            self._info, self._waiting, self._open = None, [], None
        made: dict[Kind, list[Sequence[Record]]] = {kind: [] for kind in KINDS}
        try:
            while waiting:
                kind, produce = waiting[0]
                made[kind].append(self._made(kind, produce))
                del waiting[0]
                if not isinstance(produce, _Again):
                    self._outlets.take(made[kind][-1])
            if not self.folder.is_dir():  # moved away, or replaced by a run that was told to overwrite this one
                raise FileNotFoundError(errno.ENOENT, "the folder is gone, or another run has taken its place")
            if info is not None:
                replace_file(self.path / RUN_FILE, info_to_json(info))
                info = None
            # Windows before the removal of the open one: a reader may see both, and drops the open one then.
            closed_one = any(made["windows"])
            for kind in KINDS:
                self._append(kind, made[kind])
                made[kind] = []
            if opened is not None:
                table = to_table("windows", list(self._made("windows", opened)))
                write_part(self.folder / OPEN, table)
                self._open_written = True
            elif closed_one and self._open_written:
                (self.folder / OPEN).unlink(missing_ok=True)
                self._open_written = False
        finally:  # what could not be written, whatever the reason, waits for the next flush
            again = [(kind, _Again(batch)) for kind, batches in made.items() for batch in batches if batch]
            with self._lock:
                self._info = self._info or info
                failed = bool(again or waiting)
                kept = again + waiting + self._waiting
                # What arrived while a slow disk was written to is not dropped: the next flush takes it.
                self._waiting = kept[-_KEEP:] if failed else kept
            if failed and len(kept) > _KEEP:
                self.fail("run folder", "it could not be written for so long that records were dropped")

    def _made(self, kind: Kind, produce: Produce) -> Sequence[Record]:
        try:
            return produce()
        except Exception as error:  # one batch that cannot be made must not take the others along
            self.fail(kind, f"lost: {type(error).__name__} while reading the counters: {error}")
            return []

    def _append(self, kind: Kind, batches: Sequence[Sequence[Record]]) -> None:
        records = [record for batch in batches for record in batch]
        if not records:
            return
        try:
            self._parts[kind].append(records)
        except OSError:
            raise
        except Exception as error:  # no later try would do better
            self.fail(kind, f"lost: {type(error).__name__} while packing: {error}")
            return
        self._merge(self._parts[kind].merge_many)

    def _merge(self, merge: Callable[[], None]) -> None:
        try:
            merge()
        except Exception as error:  # the parts are still there, and readable
            self.fail("run folder", f"cannot merge parts in {self.path}: {error}")


@dataclass(frozen=True, slots=True)
class _Again:
    """Records that were made, and handed to the sinks, but could not be written."""

    records: Sequence[Record]

    def __call__(self) -> Sequence[Record]:
        return self.records


def claim_folder(run: str | Path | None, name: str, *, overwrite: bool) -> Path:
    """The folder of a new run: the one that was asked for if it is free, else a new dated one under runs/.

    Raises `RunFolderError` where it exists; with `overwrite` an older run there is removed, and nothing but a run.
    """
    try:
        return _new_dated(name) if run is None else _claim(Path(run), overwrite)
    except (OSError, ValueError) as error:
        raise _unusable(error, run or "runs") from None


def _unusable(error: OSError | ValueError, where: str | Path) -> RunFolderError:
    reason = getattr(error, "strerror", None) or error
    todo = "give run= a folder that you may write"
    return RunFolderError(f"cannot write the run folder: {reason}", where=str(where), todo=todo)


def _new_dated(name: str) -> Path:
    stem = time.strftime("%Y%m%d-%H%M%S-") + name
    number = 1
    while True:
        path = Path("runs") / (stem + (f"-{number}" if number > 1 else ""))
        with suppress(FileExistsError):  # jobs of a sweep start in the same second
            path.mkdir(parents=True)
            return path
        number += 1


def _claim(path: Path, overwrite: bool) -> Path:
    if path.is_dir() and any(path.iterdir()):
        if not (path / RUN_FILE).is_file():
            todo = "give run= a new name"
            raise RunFolderError("the folder exists and is no run of deadneuron's", where=str(path), todo=todo)
        if not overwrite:
            todo = "give run= another name, leave it out for a dated one, or say overwrite=True"
            raise RunFolderError("the run exists already", where=str(path), todo=todo)
        for rank in path.glob("rank*-*"):
            shutil.rmtree(rank)
        (path / RUN_FILE).unlink()  # last: until then it is a run, and can be overwritten
    elif path.exists() and not path.is_dir():
        raise RunFolderError("a file stands where the run folder should be", where=str(path), todo="give another run=")
    return path
