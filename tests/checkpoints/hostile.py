"""Files that were made to do harm: to run a command, to fill the memory, to lead astray, to hang.

`write_corpus` writes them all; each comes with words that its refusal must hold. What would run a command would make
the file `sentinel`.
"""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import torch
from checkpoints.opcodes import (
    archive,
    call,
    group,
    legacy,
    name,
    number,
    numbers,
    pickle,
    safetensors,
    storage,
    table,
    tensor,
    text,
)


def write_corpus(folder: Path, sentinel: Path) -> dict[str, str]:
    """Words that the refusal must hold, by the file's name."""
    said: dict[str, str] = {}
    parts = (_commands(sentinel), _hidden(sentinel), _large(), _tensors(), _archives(), _safetensors(), _others())
    for part in parts:
        for own, (raw, words) in part.items():
            assert own not in said
            (folder / own).write_bytes(raw)
            said[own] = words
    said |= _places(folder)
    return said


def _commands(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that run a command when they are loaded freely."""
    command = text(f"touch {sentinel}")
    code = text(f"open({str(sentinel)!r}, 'w').close()")
    system = call(name("posix", "system"), command)
    weights = table(weight=tensor())
    calls = {
        "posix.system": system,
        "nt.system": call(name("nt", "system"), command),
        "os.system": call(name("os", "system"), command),
        "builtins.eval": call(name("__builtin__", "eval"), code),
        "builtins.exec": call(name("builtins", "exec"), code),
        "builtins.getattr": call(name("__builtin__", "getattr"), name("os", "path"), text("os")),
        "builtins.__import__": call(name("__builtin__", "__import__"), text("os")),
        "subprocess.Popen": call(name("subprocess", "Popen"), group(text("touch"), text(str(sentinel)))),
        "runpy.run_path": call(name("runpy", "run_path"), text(str(sentinel))),
        "importlib.import_module": call(name("importlib", "import_module"), text("antigravity")),
        "operator.methodcaller": call(name("operator", "methodcaller"), text("system"), command),
        "torch.hub.load": call(name("torch.hub", "load"), text("someone/something"), text("model")),
        "torch.load": call(name("torch", "load"), text("other.pt")),
        "torch.utils.collect_env.run": call(name("torch.utils.collect_env", "run"), command),
        "torch._utils._import_dotted_name": call(name("torch._utils", "_import_dotted_name"), text("os.system")),
        "pickle.loads": call(name("pickle", "loads"), text("cos\nsystem\n.")),
        "webbrowser.open": call(name("webbrowser", "open"), text("http://localhost")),
    }
    files = {f"{named}.pt": (archive(table(model=weights, extra=body)), named) for named, body in calls.items()}
    lightning = table(state_dict=weights, hyper_parameters=table(act=system), global_step=number(7))
    optimizer = table(state=table(), param_groups=b"](" + table(lr=call(name("os", "popen"), command)) + b"e")
    files |= {
        "legacy.pt": (legacy(system, {}), "posix.system"),
        "legacy-in-machine.pt": (legacy(b"N", {}, little=system), "posix.system"),
        "legacy-optimizer.pt": (legacy(optimizer, {}), "os.popen"),
        "lightning.ckpt": (archive(lightning), "posix.system"),
        "optimizer.pt": (archive(optimizer), "os.popen"),
        "scheduler.bin": (archive(table(_last_lr=system)), "posix.system"),
        "bare.pkl": (pickle(system), "none that torch.save wrote"),
    }
    return files


def _hidden(sentinel: Path) -> dict[str, tuple[bytes, str]]:
    """The same with instructions or spellings that a scan for names may not see."""
    command = text(f"touch {sentinel}")
    later = b"\x8c\x05posix\x8c\x06system\x93" + command + b"\x85R"
    bodies = {
        "inst.pt": (b"(" + command + b"iposix\nsystem\n", "INST"),
        "obj.pt": (b"(" + name("posix", "system") + command + b"o", "OBJ"),
        "newobj-ex.pt": (name("subprocess", "Popen") + group(command) + b"}\x92", "subprocess.Popen"),
        "extension.pt": (b"\x82\x01" + command + b"\x85R", "EXT1"),
        "stack-global.pt": (later, "posix.system"),
        "escaped.pt": (b"cpo\\x73ix\nsystem\n" + command + b"\x85R", "odd"),
        "space.pt": (b"cposix \nsystem\n" + command + b"\x85R", "odd"),
        "long-name.pt": (name("posix", "system" * 200) + command + b"\x85R", "odd"),
        "no-ascii.pt": ("cрosix\nsystem\n".encode() + command + b"\x85R", "damaged"),
        "red.pt": (b"c\x1b[31mposix\nsystem\n" + command + b"\x85R", "odd"),
        "memo.pt": (name("posix", "system") + b"q\x01(" + b"h\x01" + command + b"\x85Rt", "posix.system"),
        "duplicate.pt": (name("posix", "system") + b"2" + command + b"\x85R", "DUP"),
        "popped.pt": (name("posix", "system") + command + b"\x85R0N", "POP"),
        "text-id.pt": (b"Pposix.system\n", "PERSID"),
        "hidden-reference.pt": (text("storage") + b"Q", "hidden"),
        "name-as-reference.pt": (group(name("posix", "system"), command) + b"Q", "posix.system"),
        "text-integer.pt": (b"I" + b"9" * 50 + b"\n", "INT"),
        "build-class.pt": (name("collections", "OrderedDict") + b"}" + text("a") + b"Nsb", "damaged"),
        "build-function.pt": (name("torch._utils", "_rebuild_tensor_v2") + b"}" + text("a") + b"Nsb", "damaged"),
        "call-function-of-theirs.pt": (
            call(name("torch._tensor", "_rebuild_from_type_v2"), name("posix", "system"), b"N", group(command), b"N"),
            "posix.system",
        ),
        "nothing-as-code.pt": (b"N" + command + b"\x85R", "no function"),
        "set-on-a-number.pt": (b"K\x01" + text("a") + b"Ns", "damaged"),
        "no-stack.pt": (b"u", "damaged"),
        "no-memo.pt": (b"h\x07", "damaged"),
    }
    files = {own: (archive(body), words) for own, (body, words) in bodies.items()}
    protocol = io.BytesIO()
    with zipfile.ZipFile(protocol, "w") as file:
        file.writestr("archive/data.pkl", pickle(later, 4))
    return {**files, "protocol-4.pt": (protocol.getvalue(), "protocol 4")}


def _large() -> dict[str, tuple[bytes, str]]:
    """Small files that would grow in memory, or take for ever."""
    laughs = b"](" + text("ha") * 10 + b"e" + b"q\x00"
    for level in range(30):
        laughs += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1])
    chance = random.Random(0)
    modulus = 2**61 - 1  # Python's integers of one remainder fall into one place of a dict
    colliding = b"}(" + b"".join(number(modulus * chance.getrandbits(80)) + b"N" for _ in range(20_000)) + b"u"
    doubled = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    ordered = name("collections", "OrderedDict")
    million = b"](" + b"N" * 1_000_000 + b"eq\x07"
    bodies = {
        "laughs-as-a-key.pt": (b"}" + doubled + b"Ns", "keys that no dict"),
        "laughs-as-a-function.pt": (laughs + b")R", "no function"),
        "laughs-as-a-class.pt": (laughs + b")\x81", "no function"),
        "laughs-as-pairs.pt": (call(ordered, b"](" + group(doubled, b"N") + b"e"), "damaged"),
        "laughs-as-state.pt": (call(ordered) + b"](" + group(doubled, b"N") + b"eb" + text("a") + doubled + b"s", ""),
        "laughs-in-a-set.pt": (call(name("builtins", "set"), b"](" + doubled + b"e") + b"}h\x3cNs\x86", "keys that no"),
        "deep-key.pt": (b"}N" + b"\x85" * 1_000_000 + b"Ns", "keys that no dict"),
        "deep-size-as-a-key.pt": (b"}" + call(name("torch", "Size"), b"N" + b"\x85" * 100_000) + b"Ns", "damaged"),
        "long-text-as-a-function.pt": (text("x" * 10_000_000) + b")R", "no function"),
        "many-arguments.pt": (b"](" + million + (ordered + b"h\x07R") * 100_000 + b"e", "odd arguments"),
        "copies.pt": (b"](" + million + (name("builtins", "list") + b"h\x07\x85R") * 20_000 + b"e", ""),
        "copies-of-bytes.pt": (_copies_of_bytes(), "damaged"),
        "colliding-tuples.pt": (b"}(" + b"".join(numbers((i, i)) + b"N" for i in range(6000)) + b"u", "keys that no"),
        "laughs.pt": (b"(" + laughs + b"t", "too large to be walked"),
        "deep.pt": (b"]" * 100_000 + b"a" * 99_999, "nested deeper than 100 levels"),
        "deep-tuples.pt": (b"N" + b"\x85" * 100_000, "nested deeper than 100 levels"),
        "holds-itself.pt": (b"]q\x00h\x00a", "holds itself"),
        "dict-holds-itself.pt": (b"}q\x00" + text("a") + b"h\x00s", "holds itself"),
        "bytearray.pt": (call(name("__builtin__", "bytearray"), number(10**12)), "builtins.bytearray"),
        "long4.pt": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01", "damaged"),
        "text-claims-4-GB.pt": (b"X" + struct.pack("<I", 2**32 - 1) + b"short", "damaged"),
        "bytes8.pt": (b"\x8e" + struct.pack("<Q", 2**62), "damaged"),
        "buffer.pt": (b"\x96" + struct.pack("<Q", 2**40), "damaged"),
        "marks.pt": (b"(" * 3_100_000, "nested like no checkpoint"),
        "dicts.pt": (b"](" + b"}" * 3_100_000 + b"e", "too many things"),
        "colliding.pt": (colliding, "too many things"),
        "names.pt": (b"](" + b"".join(name("a", f"n{i}") for i in range(1500)) + b"e", "too many things"),
        "bomb-of-a-codec.pt": (call(name("_codecs", "encode"), text("a" * 1000), text("punycode")), "damaged"),
    }
    return {own: (archive(body), words) for own, (body, words) in bodies.items()}


def _copies_of_bytes() -> bytes:
    encode = name("_codecs", "encode")
    first = call(encode, text("x" * 1_000_000) + b"q\x01", text("latin1") + b"q\x02")
    return b"](" + first + (encode + b"h\x01h\x02\x86R") * 20_000 + b"e"


def _tensors() -> dict[str, tuple[bytes, str]]:
    """Tensors that do not lie where they say."""
    beyond = "more numbers than"
    cases = {
        "enormous": (tensor((10**6, 10**6), (10**6, 1)), beyond),
        "enormous-without-storage": (tensor((10**12,), (0,)), beyond),
        "beyond-64-bits": (tensor((2**40, 2**40, 2**40), (1, 1, 1)), "a size that no tensor has"),
        "negative-shape": (tensor((-2, 3)), "negative"),
        "negative-stride": (tensor((2, 3), (3, -1), 2), "negative"),
        "negative-offset": (tensor(offset=-1), "negative"),
        "offset-beyond": (tensor(offset=1), beyond),
        "offset-far-beyond": (tensor(offset=2**63), "a size that no tensor has"),
        "stride-beyond": (tensor((2, 3), (2**40, 1)), beyond),
        "fewer-strides": (tensor((2, 3), (1,)), "differ in length"),
        "no-such-storage": (tensor(held=storage("7")), "missing"),
        "key-leads-out": (tensor(held=storage("../../../etc/passwd")), "missing"),
        "two-kinds": (group(tensor(), tensor(held=storage(kind=name("torch", "LongStorage")))), "damaged"),
    }
    files = {f"tensor-{own}.pt": (archive(table(weight=body)), words) for own, (body, words) in cases.items()}
    old = table(weight=tensor(legacy=True))
    return {
        **files,
        "tensor-short-storage.pt": (archive(table(weight=tensor()), {"0": bytes(23)}), beyond),
        "legacy-enormous.pt": (legacy(table(weight=tensor((10**12,), (1,), legacy=True))), beyond),
        "legacy-long.pt": (legacy(old, {"0": (2**61, bytes(24))}), "ends before"),
        "legacy-longest.pt": (legacy(old, {"0": (2**64 - 1, bytes(24))}), "ends before"),
        "legacy-short.pt": (legacy(old, {"0": (5, bytes(20))}), beyond),
        "legacy-other-keys.pt": (legacy(old, {"1": (6, bytes(24))}), "does not fit"),
        "legacy-no-keys.pt": (legacy(old, {}), "does not fit"),
        "legacy-big-endian.pt": (legacy(old, little=b"\x89"), "big-endian"),
        "legacy-truncated.pt": (legacy(old)[:-10], "ends before"),
        "legacy-half.pt": (legacy(old)[:120], "damaged"),
    }


def _archives() -> dict[str, tuple[bytes, str]]:
    """Zip archives that are none of torch.save's."""
    sound = archive(table(weight=tensor()))
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle(b"N") + bytes(50_000_000))
    model = name("torch.nn.modules.linear", "Linear") + b")\x81}b"
    return {
        "deflated.pt": (deflated.getvalue(), "compressed"),
        "encrypted.pt": (_patched(sound, b"PK\1\2", 8, b"\1\0"), "encrypted"),
        "overlapping.pt": (_overlapping(sound), "overlap"),
        "no-such-place.pt": (_patched(sound, b"PK\1\2", 42, struct.pack("<I", 2**31)), "beyond the end"),
        "large-claim.pt": (_patched(sound, b"PK\1\2", 20, struct.pack("<II", 2**31, 2**31)), "beyond the end"),
        "shrinks.pt": (_patched(sound, b"PK\1\2", 20, struct.pack("<I", 5)), "compressed"),
        "billion-members.pt": (_billion(sound), "directory cannot be read"),
        "far-directory.pt": (_patched(sound, b"PK\5\6", 12, struct.pack("<II", 2**31, 0)), "directory cannot be read"),
        "other-header.pt": (_patched(sound, b"PK\3\4", 30, b"evil"), "does not agree"),
        "twice.pt": (archive(b"N", more=[("archive/byteordex", "big")]).replace(b"ordex", b"order"), "one name"),
        "up.pt": (archive(b"N", more=[("archive/../../../tmp/evil", "x")]), "leads out"),
        "absolute.pt": (archive(b"N", more=[("/etc/evil", "x")]), "leads out"),
        "windows.pt": (archive(b"N", more=[("archive\\..\\evil", "x")]), "leads out"),
        "two-folders.pt": (archive(b"N", more=[("other/data.pkl", pickle(b"N"))]), "none that torch.save wrote"),
        "no-folder.pt": (archive(b"N", more=[("data.pkl", pickle(b"N"))]), "none that torch.save wrote"),
        "nested.pt": (_members({"archive/data.pkl": sound}), "damaged"),
        "no-pickle.pt": (_members({"archive/readme": b"hello"}), "none that torch.save wrote"),
        "long-pickle.pt": (_members({"archive/data.pkl": bytes(33 * 2**20)}), "longer than 32 MiB"),
        "torchscript.pt": (archive(b"N", more=[("archive/constants.pkl", pickle(b")"))]), "TorchScript"),
        "big-endian.pt": (archive(b"N").replace(b"little", b"bigbig"), "big-endian"),
        "model.pt": (archive(table(model=model)), "pickled model"),
        "truncated.pt": (sound[:-30], "directory cannot be read"),
        "head-alone.pt": (sound[:40], "directory cannot be read"),
    }


def _members(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for path, raw in members.items():
            file.writestr(path, raw)
    return held.getvalue()


def _patched(raw: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    place = raw.index(mark) + at
    return raw[:place] + new + raw[place + len(new) :]


def _overlapping(raw: bytes) -> bytes:
    """One member lies within another: its local header is among the other's bytes."""
    start = raw.index(b"PK\3\4", raw.index(b"archive/data/0"))  # of the member after it
    end = raw.index(b"PK\1\2")
    holder = archive(table(weight=tensor()), {"0": bytes(24), "1": raw[start:end]})
    inside = holder.index(raw[start:end])
    own = holder.rindex(b"PK\1\2")
    return holder[: own + 42] + struct.pack("<I", inside) + holder[own + 46 :]


def _billion(raw: bytes) -> bytes:
    """A zip64 ending that claims a directory of 10^9 members, of which nothing is there."""
    end = raw.index(b"PK\5\6")
    long = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**9, 10**9, 10**11, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    full = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return raw[:end] + long + locator + full


def _safetensors() -> dict[str, tuple[bytes, str]]:
    entry = '"a":{"dtype":"F32","shape":[%s],"data_offsets":[%s]}'
    body = bytes(24)
    headers = {
        "far-shape": ("{" + entry % ("1000000,1000000", "0,24") + "}", ""),
        "negative-shape": ("{" + entry % ("-2,-3", "0,24") + "}", ""),
        "negative-offsets": ("{" + entry % ("2,3", "-24,0") + "}", ""),
        "backwards": ("{" + entry % ("2,3", "24,0") + "}", ""),
        "beyond": ("{" + entry % ("2,3", "24,48") + "}", ""),
        "huge-offsets": ("{" + entry % ("2,3", f"{2**63},{2**63 + 24}") + "}", ""),
        "fractions": ("{" + entry % ("2.0,3.0", "0.0,24.0") + "}", ""),
        "overlapping": ("{" + entry % ("2,3", "0,24") + "," + (entry % ("2,3", "0,24")).replace("a", "b", 1) + "}", ""),
        "twice": ("{" + entry % ("2,3", "0,24") + "," + entry % ("2,3", "0,24") + "}", "one thing twice"),
        "no-json": ("{never closed", "no JSON"),
        "deep": ("{" + '"a":{' * 100_000, "no JSON"),
        "lists": ("{" + '"a":' + "[" * 100_000, "no JSON"),
        "no-table": ('{"a":1}', "no table"),
        "no-entry": ('{"a":{"dtype":"F32"}}', ""),
        "no-text": (b'{"\xff\xfe":{}}', "no JSON"),
        "infinite": ('{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,24]}}', ""),
        "unknown-kind": ('{"a":{"dtype":"X9","shape":[6],"data_offsets":[0,24]}}', ""),
    }
    files = {f"{own}.safetensors": (safetensors(head, body), words) for own, (head, words) in headers.items()}
    sound = "{" + entry % ("2,3", "0,24") + "}"
    return {
        **files,
        "long.safetensors": (safetensors(sound, body, 2**40), "longer than the file"),
        "longest.safetensors": (safetensors(sound, body, 2**63), "longer than the file"),
        "all-ones.safetensors": (safetensors(sound, body, 2**64 - 1), "longer than the file"),
        "large-header.safetensors": (safetensors(sound + " " * (33 * 2**20), body), "longer than 32 MiB"),
        "cut.safetensors": (safetensors(sound, body)[:-1], "does not fit"),
        "tiny.safetensors": (b"abc", ""),
        "pickle.safetensors": (pickle(b"N") + bytes(40), "longer than the file"),
        "trailing.safetensors": (safetensors(sound, body + b"more"), "does not fit"),
    }


def _others() -> dict[str, tuple[bytes, str]]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    script = io.BytesIO()
    torch.save(numbers, script)
    return {
        "empty.pt": (b"", "empty"),
        "nothing-known.pt": (b"hello, this is no checkpoint", "like no file of"),
        "tar.pt": (tar.getvalue(), "tar archive"),
        "gguf.pt": (b"GGUF" + bytes(40), "GGUF"),
        "git-lfs.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        "function.pt": (script.getvalue(), "checkpoints.opcodes.numbers"),
    }


def _places(folder: Path) -> dict[str, str]:
    (folder / "password.pt").symlink_to("/etc/passwd")
    (folder / "zero.pt").symlink_to("/dev/zero")
    (folder / "loop.pt").symlink_to("loop.pt")
    (folder / "nowhere.pt").symlink_to("no-such-file")
    (folder / "folder.pt").mkdir()
    os.mkfifo(folder / "pipe.pt")
    return {
        "password.pt": "like no file of",
        "zero.pt": "a device",
        "loop.pt": "cannot open",
        "nowhere.pt": "no such file",
        "folder.pt": "a folder",
        "pipe.pt": "a pipe",
        "not-there.pt": "no such file",
    }
