"""One file: regular, of a known length, read at any place by any thread, closed when it is dropped.

A long series has more files than a process may have open: those that were not read for a while are closed, and opened
again when they are needed. A file that is not the same then has changed.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from deadneuron.errors import CheckpointError

_SAME = "read it when nothing writes it"


@dataclass(frozen=True, slots=True)
class Span:
    """Where bytes lie in a file."""

    start: int
    length: int


class OpenFile:
    """Reads bytes from places of one regular file.

    Pages are copied into the reader's own memory, never mapped: mapped pages of a large file would count as ours, and
    a file that is cut short while it is mapped kills the process.
    """

    def __init__(self, path: Path) -> None:
        """Raises `CheckpointError` for whatever is no readable regular file; symlinks are followed."""
        self.place = printable(str(path))
        self._path = path
        self._lock = threading.RLock()
        self._held = _Held()
        weakref.finalize(self, self._held.close)
        status = os.fstat(self._open())
        self.size = status.st_size
        self._identity = _identity(status)

    def _open(self) -> int:
        """The file's descriptor; the caller holds the lock, or is alone."""
        if self._held.number is None:
            try:
                _refuse_irregular(os.stat(self._path).st_mode, self.place)
                # O_NONBLOCK: what became a FIFO meanwhile must not hang; O_BINARY is Windows'.
                flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
                self._held.number = os.open(self._path, flags)
            except (OSError, ValueError) as error:  # ValueError: a path with a NUL
                reason = (error.strerror if isinstance(error, OSError) else "") or "no such path"
                what = f"cannot open the file: {reason.lower()}"
                raise CheckpointError(what, where=self.place, todo="check the path") from None
            _refuse_irregular(os.fstat(self._held.number).st_mode, self.place)
        _close_others(self)
        return self._held.number

    def rest(self) -> bool:
        """Close the file until it is read again; False if it is being read now."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._held.close()
        finally:
            self._lock.release()
        return True

    def read(self, start: int, length: int) -> bytes:
        """Bytes [start, start + length). Raises `CheckpointError` where the file has changed or ends before."""
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def read_into(self, target: memoryview, start: int) -> None:
        """Fills `target` (bytes) with what lies from `start` on. Raises `CheckpointError` like `read`."""
        try:
            with self._lock:
                number = self._open()
                if _identity(os.fstat(number)) != self._identity:
                    raise CheckpointError("the file has changed while it was read", where=self.place, todo=_SAME)
                done = 0
                while done < len(target):
                    got = _read_some(number, target[done:], start + done)
                    if got == 0:
                        todo = "fetch or save it again"
                        raise CheckpointError("the file ends too early", where=self.place, todo=todo)
                    done += got
        except OSError as error:
            what = f"cannot read the file: {(error.strerror or 'unknown trouble').lower()}"
            raise CheckpointError(what, where=self.place, todo="check the disk") from None


class _Held:
    """A descriptor, or None; apart from its file, so that it can be closed when the file is dropped."""

    def __init__(self) -> None:
        self.number: int | None = None

    def close(self) -> None:
        number, self.number = self.number, None
        if number is not None:
            os.close(number)


_MOST = 64  # files that are open at once; a process may often have 256
_open_files: OrderedDict[int, weakref.ref[OpenFile]] = OrderedDict()  # the one that was read last is at the end
_opening = threading.Lock()


def _close_others(file: OpenFile) -> None:
    """Note that a file is read now, and close those that were not for the longest time."""
    with _opening:
        known = _open_files.get(id(file))
        if known is None or known() is not file:  # an id is given again once its file is gone
            _open_files[id(file)] = weakref.ref(file)
        _open_files.move_to_end(id(file))
        if len(_open_files) <= _MOST:  # nearly always, and this is asked at every read
            return
        for number in list(_open_files)[: len(_open_files) - _MOST]:
            other = _open_files[number]()
            if other is None or other.rest():
                del _open_files[number]


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read_some(number: int, target: memoryview, start: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(number, [target], start)
    os.lseek(number, start, os.SEEK_SET)  # Windows: one position, and one reader, for the caller holds the lock
    some = os.read(number, len(target))
    target[: len(some)] = some
    return len(some)


def printable(text: str) -> str:
    """The text on one line and without control codes: names of files and of their members are others' words."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def _refuse_irregular(mode: int, place: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    raise CheckpointError(f"this is {kind}, no file", where=place, todo="give a checkpoint file")
