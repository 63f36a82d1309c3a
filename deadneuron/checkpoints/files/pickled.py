"""A pickle, looked at without being run, and rewritten so that it can name nothing but stand-ins of ours.

The look lists every global that the pickle names, and refuses what torch's own restricted unpickler does not read and
what would hang it. The rewriting then replaces each global by a stand-in's name and each reference to a storage by a
call of a stand-in, so that what torch is given names nothing from outside this room, whatever the file said.
"""

from __future__ import annotations

import io
import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from dataclasses import dataclass

from deadneuron.checkpoints.files.opened import printable
from deadneuron.checkpoints.files.stackkinds import Kinds, UnfitError
from deadneuron.errors import CheckpointError

LONGEST = 32 * 2**20  # bytes: the longest pickle that is read; tensors lie outside of it
_MOST = 3_000_000  # opcodes: what one can build of so many fits into a few hundred MB
_SEEN = 2**20  # bytes that are looked through for the words of a refusal
_GLOBALS = 1000  # different names
_BIG = 10_000  # integers of more than 64 bits: they can be made to collide in dicts
# What torch's restricted unpickler reads: all of protocol 2 that its pickler writes …
_READ = """PROTO STOP MARK GLOBAL NEWOBJ REDUCE BUILD BINPERSID APPEND APPENDS SETITEM SETITEMS TUPLE TUPLE1 TUPLE2
TUPLE3 NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 LONG1 BINFLOAT
BINUNICODE SHORT_BINSTRING BINGET LONG_BINGET BINPUT LONG_BINPUT"""
# … and what only later protocols write.
_LATER = """FRAME MEMOIZE SHORT_BINUNICODE BINUNICODE8 STACK_GLOBAL BINBYTES SHORT_BINBYTES BINBYTES8 ADDITEMS FROZENSET
NEWOBJ_EX BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER"""
_READ_OPCODES, _LATER_OPCODES = frozenset(_READ.split()), frozenset(_LATER.split())
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_.<>]*")
STORAGE = "storage"  # the stand-in that is called with what refers to a storage
_DEFAULT = "save it again with torch.save and its default protocol"


@dataclass(frozen=True, slots=True)
class Look:
    """What a pickle names, and where."""

    raw: bytes
    start: int  # where it begins and ends in `raw`
    end: int
    globals: tuple[tuple[int, int, str], ...]  # (first byte, byte after the last, "module.name")
    storages: tuple[tuple[int, int], ...]  # (the mark before the reference's tuple, the opcode that uses it)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for _, _, name in self.globals))


def look(raw: bytes, place: str, start: int = 0) -> Look:
    """Looks at the pickle that begins at `start`.

    Raises `CheckpointError` for a pickle that is cut, too long, or holds what torch.save does not write.
    """
    stream = io.BytesIO(raw)
    stream.seek(start)
    found: list[tuple[int, int, str]] = []
    storages: list[tuple[int, int]] = []
    kinds = Kinds()
    names: set[str] = set()
    last_tuple = -1  # where the mark of the tuple on top of the stack lies
    count = big = 0
    try:
        for opcode, argument, position in pickletools.genops(stream):
            name, at = opcode.name, position or 0
            count += 1
            if name not in _READ_OPCODES or (name == "PROTO" and argument != 2):
                raise _refused(name, argument, _seen(raw, start), place)
            mark = kinds.follow(name, argument, at)
            if name == "GLOBAL":
                end, full = _read_global(raw, at, place)
                found.append((at, end, full))
                names.add(full)
            elif name == "BINPERSID":
                if last_tuple < 0:
                    raise CheckpointError("a reference to a tensor is hidden", where=place, todo=_DEFAULT)
                storages.append((last_tuple, at))
            elif name == "LONG1":
                big += raw[at + 1] > 8
            if count > _MOST or len(names) > _GLOBALS or big > _BIG:
                raise CheckpointError("its pickle holds too many things to be read safely", where=place, todo=_DEFAULT)
            if name not in ("BINPUT", "LONG_BINPUT"):
                last_tuple = mark
    except UnfitError as error:
        raise CheckpointError(f"its pickle {error}", where=place, todo="do not trust this file") from None
    except (ValueError, LookupError, OverflowError, MemoryError):  # ValueError: cut, an unknown opcode, no text
        what = "its pickle is damaged, or this is no checkpoint"
        raise CheckpointError(what, where=place, todo="fetch or save it again") from None
    return Look(raw, start, stream.tell(), tuple(found), tuple(storages))


def rewritten(looked: Look, stand_ins: Mapping[str, str]) -> bytes:
    """The pickle with the stand-ins' names in place of its own, and calls of `STORAGE` in place of references.

    `stand_ins` gives for every name that it holds, and for `STORAGE`, the name that the new pickle holds.
    """
    edits: list[tuple[int, int, bytes]] = []
    for first, end, name in looked.globals:
        edits.append((first, end, _global(stand_ins[name])))
    for mark, use in looked.storages:
        edits.append((mark, mark, _global(stand_ins[STORAGE])))
        edits.append((use, use + 1, b"\x85R"))  # TUPLE1 and REDUCE: the stand-in is called with the reference
    edits.sort(key=lambda edit: edit[:2])
    pieces: list[bytes] = []
    place = looked.start
    for first, end, new in edits:
        pieces += [looked.raw[place:first], new]
        place = end
    pieces.append(looked.raw[place : looked.end])
    return b"".join(pieces)


def _global(name: str) -> bytes:
    module, _, own = name.rpartition(".")
    return b"c" + module.encode("ascii") + b"\n" + own.encode("ascii") + b"\n"


def _read_global(raw: bytes, at: int, place: str) -> tuple[int, str]:
    """The byte after the opcode, and the name that Python 3 gives it. Read from the bytes as torch reads them."""
    first = raw.index(b"\n", at)
    second = raw.index(b"\n", first + 1)
    module, name = raw[at + 1 : first], raw[first + 1 : second]
    if not _NAME.fullmatch(module) or not _NAME.fullmatch(name) or second - at > 500:
        shown = printable(raw[at + 1 : min(second, at + 100)].decode("utf-8", "replace"))
        raise CheckpointError(f"its pickle names something odd: {shown}", where=place, todo="do not trust this file")
    return second + 1, modern(module.decode("ascii"), name.decode("ascii"))


def modern(module: str, name: str) -> str:
    """The full name in Python 3 of what a pickle of protocol 2 names as Python 2 did ("__builtin__.set")."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _seen(raw: bytes, start: int) -> list[str]:
    """What a pickle of any protocol seems to name: for messages alone, since it may hide what it names."""
    found: list[str] = []
    texts = ["", ""]
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(raw[start : start + _SEEN])):
            if opcode.name in ("GLOBAL", "INST"):
                found.append(modern(*str(argument).split(" ", 1)))
            elif opcode.name == "STACK_GLOBAL":
                found.append(modern(*texts))
            elif isinstance(argument, str):
                texts = [texts[1], argument[:100]]
    except (ValueError, IndexError, OverflowError, TypeError, MemoryError):
        pass  # it is refused anyway
    needed = ("torch._utils._rebuild", "collections.OrderedDict", "torch.storage")
    odd = (name for name in dict.fromkeys(found) if not name.startswith(needed) and not name.endswith("Storage"))
    return [printable(name) for name in odd]


def _refused(name: str, argument: object, seen: list[str], place: str) -> CheckpointError:
    beside = f", and names {', '.join(seen[:5])}" if seen else ""
    if name == "PROTO" or name in _LATER_OPCODES:
        version = f"protocol {argument}" if name == "PROTO" else "a protocol later than 2"
        what = f"it is pickled with {version}, which torch does not read safely either{beside}"
        todo = f"do not trust this file, unless you wrote it: then {_DEFAULT}" if seen else _DEFAULT
        return CheckpointError(what, where=place, todo=todo)
    what = f"its pickle holds the instruction {name}, which torch.save does not write{beside}"
    return CheckpointError(what, where=place, todo="do not trust this file")
