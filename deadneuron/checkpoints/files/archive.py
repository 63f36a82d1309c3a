"""The zip archive of a torch.save file, looked at before anything in it is used: every member lies plainly in the file.

torch writes members uncompressed, one after the other. Whatever is otherwise (compressed, encrypted, overlapping,
doubled, led astray by its name) is a trick or damage, and is refused; so nothing can unpack to more than lies on disk.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

from deadneuron.checkpoints.files.opened import OpenFile, Span
from deadneuron.errors import CheckpointError

_DIRECTORY = 16 * 2**20  # bytes: the longest directory that is read; about 150,000 tensors
_HEAD = struct.Struct("<4s5H3I2H")  # a member's local header
_ENCRYPTED = 0x1
AGAIN = "fetch or save it again"


def members(file: OpenFile) -> Mapping[str, Span]:
    """Members by their names without the archive's own folder ("data.pkl", "data/0").

    Raises `CheckpointError` where anything is not as torch.save writes it.
    """
    try:
        with zipfile.ZipFile(_Tail(file)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OverflowError):
        raise _damaged(file, "the archive's directory cannot be read") from None
    found: dict[str, Span] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        span = _plain_span(file, info)
        if info.header_offset < end:
            raise _damaged(file, "members of the archive overlap")
        end = span.start + span.length
        if info.filename in found:
            raise _damaged(file, "two members of the archive have one name")
        found[info.filename] = span
    return _without_folder(file, found)


class _Tail(io.RawIOBase):
    """The file as zipfile wants it, of which no more than a directory is ever read at once."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__()
        self._file, self._place = file, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self._place, self._file.size)[whence]
        if place < 0:
            raise ValueError("a place before the file")
        self._place = place
        return place

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._file.size - self._place, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length > _DIRECTORY:
            raise ValueError("the directory is too long")
        piece = self._file.read(self._place, length)
        self._place += length
        return piece


def _plain_span(file: OpenFile, info: zipfile.ZipInfo) -> Span:
    """Where the member's bytes lie; its local header must agree with the directory."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise _damaged(file, "a member of the archive is compressed, which torch.save never does")
    if info.flag_bits & _ENCRYPTED:
        raise _damaged(file, "a member of the archive is encrypted")
    start = info.header_offset
    if start < 0 or start + _HEAD.size > file.size:
        raise _damaged(file, "a member of the archive lies beyond the end of the file")
    mark, _, flags, method, _, _, _, _, _, name, extra = _HEAD.unpack(file.read(start, _HEAD.size))
    if mark != b"PK\3\4" or method != zipfile.ZIP_STORED or flags & _ENCRYPTED:
        raise _damaged(file, "a member's header does not agree with the archive's directory")
    data = start + _HEAD.size + name + extra
    if data + info.file_size > file.size:
        raise _damaged(file, "a member of the archive lies beyond the end of the file")
    written = file.read(start + _HEAD.size, name)
    if written.decode("utf-8" if flags & 0x800 else "cp437", "replace") != info.orig_filename:
        raise _damaged(file, "a member's header does not agree with the archive's directory")
    return Span(data, info.file_size)


def _without_folder(file: OpenFile, found: Mapping[str, Span]) -> Mapping[str, Span]:
    for name in found:
        if name.startswith("/") or "\\" in name or ".." in name.split("/") or ":" in name.partition("/")[0]:
            raise _damaged(file, "a member of the archive has a name that leads out of it")
    folders = {name.partition("/")[0] for name in found if "/" in name}
    if len(folders) != 1 or any("/" not in name for name in found):
        what = "this zip archive is none that torch.save wrote"
        raise CheckpointError(what, where=file.place, todo="give the checkpoint itself, unpacked if need be")
    return {name.partition("/")[2]: span for name, span in found.items()}


def _damaged(file: OpenFile, what: str) -> CheckpointError:
    return CheckpointError(what, where=file.place, todo=AGAIN)
