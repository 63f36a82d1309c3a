"""safetensors files: a header in JSON that says where each tensor lies, and nothing that could run."""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from deadneuron.checkpoints.contents import Opaque, Stored, Tree
from deadneuron.checkpoints.files.described import Rebuilt, Storage
from deadneuron.checkpoints.files.opened import OpenFile, Span, printable
from deadneuron.checkpoints.files.views import contiguous, stored
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap

_LONGEST = 32 * 2**20  # bytes: the longest header that is read; about 300,000 tensors
_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "BOOL": torch.bool},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "C64": torch.complex64},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu},
    **{"F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz},
}
_AGAIN = "fetch or save it again"


def read_safetensors(file: OpenFile, path: str) -> Tree:
    """The root is {"tensors": {name: Stored}, "metadata": {name: text}}. Raises `CheckpointError`."""
    place = file.place
    length = int.from_bytes(file.read(0, 8), "little") if file.size >= 8 else 0
    if length > file.size - 8:
        raise CheckpointError("its header is longer than the file", where=place, todo=_AGAIN)
    if length > _LONGEST:
        what = f"its header is longer than {_LONGEST // 2**20} MiB"
        raise CheckpointError(what, where=place, todo="save it in several files")
    header = _header(file.read(8, length), place)
    try:
        with safe_open(path, framework="pt"):
            pass  # the library's own check of the header: sizes, overlaps, holes
    except Exception as error:
        what = "its header does not fit what lies in the file"
        if isinstance(error, SafetensorError):
            what += f" ({printable(str(error))[:80]})"
        raise CheckpointError(what, where=place, todo=_AGAIN) from None
    tensors: dict[str, Any] = {}
    gaps: list[Gap] = []
    metadata = header.pop("__metadata__", {})
    for name, entry in header.items():
        tensors[name] = _entry(file, 8 + length, printable(name), entry, gaps)
    return Tree(place, "safetensors", {"tensors": tensors, "metadata": metadata}, tuple(gaps))


def _header(raw: bytes, place: str) -> dict[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise CheckpointError("its header is no JSON, or names one thing twice", where=place, todo=_AGAIN) from None
    if not isinstance(header, dict) or not all(isinstance(value, dict) for value in header.values()):
        raise CheckpointError("its header is no table of tensors", where=place, todo=_AGAIN)
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("one key twice")
    return table


def _entry(file: OpenFile, start: int, name: str, entry: dict[str, Any], gaps: list[Gap]) -> Stored | Opaque:
    try:
        first, last = entry["data_offsets"]
        kind, shape = entry["dtype"], tuple(entry["shape"])
        fits = all(type(number) is int for number in (first, last, *shape)) and 0 <= first <= last
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise CheckpointError(f"the header's entry for {name} is none", where=file.place, todo=_AGAIN)
    dtype = _DTYPES.get(kind)
    if dtype is None:
        shown = printable(str(kind))[:20]
        gaps.append(Gap(f"{file.place}: {name}", f"numbers of the kind {shown}: not read", 0))
        return Opaque(f"tensor of {shown}")
    rebuilt = Rebuilt(Storage("", dtype), dtype, 0, shape, contiguous(shape))
    return stored(rebuilt, file, Span(start + first, last - first), name)
