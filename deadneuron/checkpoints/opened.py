"""One file, opened once: regular, of a known length, read at any place by any thread, closed when it is dropped."""

from __future__ import annotations

import os
import stat
import threading
import weakref
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
        try:
            _refuse_irregular(os.stat(path).st_mode, self.place)
            # O_NONBLOCK: what became a FIFO meanwhile must not hang; O_BINARY is Windows'.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            self._number = os.open(path, flags)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            reason = (error.strerror if isinstance(error, OSError) else "") or "no such path"
            raise CheckpointError(
                f"cannot open the file: {reason.lower()}", where=self.place, todo="check the path"
            ) from None
        weakref.finalize(self, os.close, self._number)
        status = os.fstat(self._number)
        _refuse_irregular(status.st_mode, self.place)
        self.size = status.st_size
        self._written = status.st_mtime_ns
        self._lock = threading.Lock()

    def read(self, start: int, length: int) -> bytes:
        """Bytes [start, start + length). Raises `CheckpointError` where the file has changed or ends before."""
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def read_into(self, target: memoryview, start: int) -> None:
        """Fills `target` (bytes) with what lies from `start` on. Raises `CheckpointError` like `read`."""
        try:
            status = os.fstat(self._number)
            if status.st_size != self.size or status.st_mtime_ns != self._written:
                raise CheckpointError("the file has changed while it was read", where=self.place, todo=_SAME)
            done = 0
            while done < len(target):
                got = self._read_some(target[done:], start + done)
                if got == 0:
                    raise CheckpointError("the file ends too early", where=self.place, todo="fetch or save it again")
                done += got
        except OSError as error:
            what = f"cannot read the file: {(error.strerror or 'unknown trouble').lower()}"
            raise CheckpointError(what, where=self.place, todo="check the disk") from None

    def _read_some(self, target: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._number, [target], start)
        with self._lock:  # Windows: one position for all threads
            os.lseek(self._number, start, os.SEEK_SET)
            some = os.read(self._number, len(target))
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
