"""Pickles and files of torch.save put together by hand, byte by byte: what no library would write."""

from __future__ import annotations

import io
import struct
import zipfile

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, own: str) -> bytes:
    return b"c" + module.encode() + b"\n" + own.encode() + b"\n"


def group(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + group(*arguments) + b"R"


def table(**items: bytes) -> bytes:
    """A dict."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickle(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def numbers(values) -> bytes:
    return group(*(number(value) for value in values))


def storage(key: str = "0", elements: int = 6, kind: bytes = name("torch", "FloatStorage"), legacy=False) -> bytes:
    view = [b"N"] if legacy else []
    return group(text("storage"), kind, text(key), text("cpu"), number(elements), *view) + b"Q"


def tensor(shape=(2, 3), strides=(3, 1), offset: int = 0, held: bytes | None = None, legacy=False) -> bytes:
    hooks = name("collections", "OrderedDict") + b")R"
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    held = storage(legacy=legacy) if held is None else held
    return call(rebuild, held, number(offset), numbers(shape), numbers(strides), b"\x89", hooks)


def archive(body: bytes, storages=None, more=(), folder: str = "archive") -> bytes:
    """A file of torch.save as a zip archive; `body` is what its pickle holds."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr(f"{folder}/data.pkl", pickle(body))
        file.writestr(f"{folder}/byteorder", "little")
        for key, raw in (storages or {"0": bytes(24)}).items():
            file.writestr(f"{folder}/data/{key}", raw)
        for path, raw in more:
            file.writestr(path, raw)
        file.writestr(f"{folder}/version", "3\n")
    return held.getvalue()


def legacy(body: bytes, storages=None, little: bytes = b"\x88") -> bytes:
    """A file of torch.save as of old: `storages` holds (elements, bytes) by key."""
    storages = {"0": (6, bytes(24))} if storages is None else storages
    keys = b"](" + b"".join(text(key) for key in storages) + b"e"
    machine = table(protocol_version=number(1001), little_endian=little)
    parts = [LEGACY, pickle(machine), pickle(body), pickle(keys)]
    return b"".join([*parts, *(struct.pack("<Q", elements) + raw for elements, raw in storages.values())])


def safetensors(header: bytes | str, body: bytes = b"", length: int | None = None) -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body
