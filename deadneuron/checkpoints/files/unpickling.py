"""A pickle becomes objects, by torch's weights-only unpickler, which is given stand-ins for everything it names."""

from __future__ import annotations

import io
import itertools
import threading
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deadneuron.checkpoints.files import standins
from deadneuron.checkpoints.files.described import Storages
from deadneuron.checkpoints.files.harmless import ENCODE, stand_ins
from deadneuron.checkpoints.files.pickled import STORAGE, Look, rewritten
from deadneuron.errors import CheckpointError

_LOCK = threading.Lock()  # torch keeps the list of safe globals for the whole process
_NUMBERS = itertools.count()
_ROOM = "deadneuron_stand_ins"  # no such module exists: torch looks the names up in its list
_ALWAYS = (standins.NumpyArray, standins.NumpyDtype, standins.Inert, standins.Items)


@dataclass(frozen=True, slots=True)
class Unpickled:
    """What a pickle describes."""

    root: Any  # containers, plain values and stand-ins
    storages: Mapping[str, torch.dtype]  # all that it refers to, by key


def unpickled(looked: Look, allow: Collection[str], place: str) -> Unpickled:
    """What the pickle describes.

    Raises `CheckpointError` for names that block it, and for whatever goes wrong while it is read.
    """
    storages = Storages()
    known = {**stand_ins(looked.names, allow, place), STORAGE: storages}
    if ENCODE in known:
        known[ENCODE] = standins.Encoder(most=len(looked.raw))
    with _LOCK:
        names = {name: f"{_ROOM}.n{next(_NUMBERS)}" for name in known}
        safe: list[Any] = [(known[name], names[name]) for name in known]
        safe += [(kind, f"{_ROOM}.n{next(_NUMBERS)}") for kind in _ALWAYS]
        try:
            with torch.serialization.safe_globals(safe):
                root = torch.load(_archive(rewritten(looked, names)), weights_only=True)
        except Exception as error:
            raise CheckpointError(_reason(error), where=place, todo="fetch or save it again") from None
    return Unpickled(root, storages.dtypes)


def _archive(pickle: bytes) -> io.BytesIO:
    """The smallest archive that torch.load takes: the pickle, and no tensor at all."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", pickle), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(zipfile.ZipInfo(f"checkpoint/{name}"), content)
    held.seek(0)
    return held


def _reason(error: Exception) -> str:
    """One plain line; torch's own messages tell how to load the file unsafely, and are not passed on."""
    if isinstance(error, (RecursionError, MemoryError, OverflowError)):
        return "its pickle is nested or sized like no checkpoint"
    return "its pickle is damaged: it describes nothing that can be built"
