"""Checkpoint files of all formats with bits, lengths, instructions, names and numbers changed, by a seed each."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import pickletools
import random
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from checkpoints import opcodes
from checkpoints.hostile import write_corpus

SENTINEL = "sentinel"  # the file that a payload makes, in the folder where it runs
LENGTHS = [0, 1, 2, 7, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
OPCODES = b"(.0123BCFGIJKLMNPQRSTUVXabcdeghijlopqrstu})]\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x92\x93\x94\x95"
NAMES = [b"posix", b"system", b"builtins", b"eval", b"torch", b"_rebuild_tensor_v2", b"collections", b"OrderedDict"]


NAMED = """torch.FloatStorage torch._utils._rebuild_tensor_v2 torch._tensor._rebuild_from_type_v2 numpy.dtype
numpy.core.multiarray.scalar collections.OrderedDict collections.deque _codecs.encode builtins.bytearray posix.system"""
VALUES = [
    *[opcodes.number(value) for value in (-1, 0, 1, 7, 2**31, -(2**63), 2**64, 2**500)],
    *[opcodes.text(value) for value in ("storage", "0", "7", "x" * 70_000)],
    *[opcodes.numbers(value) for value in ((), (-1,), (10**12,), (2**62, 2**62), (1,) * 70)],
    *[opcodes.name(*full.rsplit(".", 1)) for full in NAMED.split()],
    *[opcodes.storage(), opcodes.tensor(), opcodes.tensor((0,), (0,)), opcodes.tensor((6, 10**9), (1, 0))],
    *[b"N", b"\x88", b"]", b"}", b")", b"\x8f"],
]


def sound_files() -> dict[str, bytes]:
    """One file of each kind that trainings write."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.BatchNorm1d(13), torch.nn.Linear(13, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model(torch.randn(11, 7)).sum().backward()
    optimizer.step()
    training = {
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": argparse.Namespace(lr=np.float64(0.01), act="relu", path=Path("data")),
        "global_step": 17,
        "loss": np.float32(0.25),
        "array": np.arange(5),
        "turned": torch.randn(5, 7).t(),
        "odd": [torch.eye(3).to_sparse(), torch.ones(6).to(torch.uint16), torch.nn.Parameter(torch.ones(3))],
    }
    files = {}
    for name, thing in {"state": model.state_dict(), "training": training, "optimizer": optimizer.state_dict()}.items():
        for form, as_zip in {"pt": True, "legacy.pt": False}.items():
            held = io.BytesIO()
            torch.save(thing, held, _use_new_zipfile_serialization=as_zip)
            files[f"{name}.{form}"] = held.getvalue()
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    kinds = {str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.float8_e4m3fn, torch.uint8)}
    files["model.safetensors"] = save_safetensors(weights, {"format": "pt"})
    files["kinds.safetensors"] = save_safetensors(kinds)
    return files


def seeds(folder: Path) -> dict[str, bytes]:
    """What is mutated: sound files, and small hostile ones."""
    folder.mkdir()
    hostile = write_corpus(folder, Path(SENTINEL))
    paths = {f"hostile {name}": folder / name for name in hostile}
    small = {n: p.read_bytes() for n, p in paths.items() if p.is_file() and not p.is_symlink() and _small(p)}
    return {**sound_files(), **small}


def _small(path: Path) -> bool:
    return 0 < path.stat().st_size < 100_000


def mutated(sources: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """(name, bytes) of the file of that seed: two of three come from a sound one."""
    chance = random.Random(seed)
    sound = [name for name in sources if not name.startswith("hostile")]
    name = chance.choice(sound if chance.random() < 2 / 3 else list(sources))
    raw = sources[name]
    # Mostly what lies within is mutated and packed soundly, so that the outer checks do not catch it.
    if chance.random() < 0.8:
        with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, KeyError, OSError):
            if raw.startswith(b"PK"):
                return name, _rezipped(raw, sources, chance)
            if raw[8:9] == b"{":
                return name, _reheaded(raw, sources, chance)
            if raw.startswith(b"\x80"):
                return name, _mutated_pickle(raw, sources, chance)
    return name, _mutated(raw, sources, chance)


def _rezipped(raw: bytes, sources: dict[str, bytes], chance: random.Random) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(held, "w") as new:
        for info in old.infolist():
            content = old.read(info) if info.file_size < 100_000 else b""
            if info.filename.endswith("data.pkl"):
                content = _mutated_pickle(content, sources, chance)
            new.writestr(zipfile.ZipInfo(info.filename), content)
    return held.getvalue()


def _reheaded(raw: bytes, sources: dict[str, bytes], chance: random.Random) -> bytes:
    length = int.from_bytes(raw[:8], "little")
    header = _mutated(raw[8 : 8 + length], sources, chance)
    return len(header).to_bytes(8, "little") + header + raw[8 + length :]


def _mutated_pickle(raw: bytes, sources: dict[str, bytes], chance: random.Random) -> bytes:
    """Mostly whole instructions are dropped, doubled, exchanged or replaced by others."""
    if chance.random() < 0.3:
        return _mutated(raw, sources, chance)
    places = _instructions(raw)
    pieces = [raw[first:last] for first, last in itertools.pairwise([*places, len(raw)])]
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        one, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
        kind = chance.randrange(6)
        if kind == 0:
            pieces[one] = b""
        elif kind == 1:
            pieces[one] = pieces[one] * 2
        elif kind == 2:
            pieces[one], pieces[other] = pieces[other], pieces[one]
        elif kind == 3:
            pieces[one] = pieces[other]
        elif kind == 4:  # another number, text or name
            pieces[one] = chance.choice(VALUES)
        else:
            pieces.insert(one, chance.choice(VALUES) if chance.random() < 0.5 else pieces[other])
    return b"".join(pieces)


def _instructions(raw: bytes) -> list[int]:
    """Where the instructions of the pickles in `raw` begin, as far as they can be told apart."""
    places: list[int] = []
    stream = io.BytesIO(raw)
    try:
        while stream.tell() < len(raw):
            places += [place or 0 for _, _, place in pickletools.genops(stream)]
    except ValueError:
        pass  # storages of a legacy file, or a hostile pickle
    return places or [0]


def _mutated(raw: bytes, sources: dict[str, bytes], chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        raw = _mutated_once(raw, sources, chance)
    return raw


def _mutated_once(data: bytes, sources: dict[str, bytes], chance: random.Random) -> bytes:
    raw = bytearray(data or b"\0")
    place = chance.randrange(len(raw))
    kind = chance.randrange(9)
    if kind == 0:  # bits
        for _ in range(chance.randint(1, 8)):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    elif kind == 1:  # cut
        del raw[place:]
    elif kind == 2:  # a piece of another file
        other = chance.choice(list(sources.values()))
        start = chance.randrange(len(other))
        piece = other[start : start + chance.randint(1, 200)]
        raw[place : place + chance.choice((0, len(piece)))] = piece
    elif kind == 3:  # a length
        size = chance.choice((1, 2, 4, 8))
        number = chance.choice(LENGTHS) % 2 ** (8 * size)
        raw[place : place + size] = number.to_bytes(size, chance.choice(("little", "big")))
    elif kind == 4:  # an opcode in place of another
        places = [at for at, byte in enumerate(raw) if byte in OPCODES]
        raw[chance.choice(places or [place])] = chance.choice(OPCODES)
    elif kind == 5:  # opcodes more, often many
        raw[place:place] = bytes([chance.choice(OPCODES)]) * chance.choice((1, 2, 100, 5000, 300_000))
    elif kind == 6:  # a piece doubled or dropped
        piece = raw[place : place + chance.randint(1, 100)]
        raw[place : place + len(piece)] = piece * chance.choice((0, 2, 3))
    elif kind == 7:  # a name
        found = [match.span() for match in re.finditer(rb"[A-Za-z_][A-Za-z0-9_.]{2,}", raw)]
        first, last = chance.choice(found or [(place, place)])
        raw[first:last] = chance.choice(NAMES)
    else:  # a number in the JSON, or bytes that look like one
        found = [match.span() for match in re.finditer(rb"-?[0-9]+", raw)]
        first, last = chance.choice(found or [(place, place)])
        raw[first:last] = str(chance.choice([-1, -(2**63), 10**30, *LENGTHS])).encode()
    return bytes(raw)
