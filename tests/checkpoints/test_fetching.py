"""Checkpoints elsewhere: fsspec's memory, files by address, a real server on this machine."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from pathlib import Path

import fsspec
import pytest
import torch

from deadneuron.checkpoints.contents import Progress
from deadneuron.checkpoints.files import fetching
from deadneuron.checkpoints.files.fetching import fetched, is_url, listed, shown
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError, MissingExtraError


@pytest.fixture
def memory():
    """fsspec's file system in memory, emptied afterwards."""
    system = fsspec.filesystem("memory")
    yield system
    for path in system.find("/"):
        system.rm(path)


@pytest.fixture
def server(tmp_path):
    """(folder that is served, its address)."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield folder, f"http://localhost:{serving.server_address[1]}"
    serving.shutdown()
    serving.server_close()


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        *[("a/b.pt", False), ("/a/b.pt", False), ("C:\\a\\b.pt", False), ("file:///a/b.pt", False), ("a:b.pt", False)],
        *[("s3://a/b", True), ("hf://a/b/c", True), ("https://a/b.pt", True), ("simplecache::s3://a/b", True)],
    ],
)
def test_addresses_and_paths(place, answer):
    assert is_url(place) is answer


def test_local_places_stay_where_they_are(tmp_path):
    path = tmp_path / "a file.pt"
    path.write_bytes(b"x")
    for place in (str(path), path.as_uri()):
        with fetched(place) as found:
            assert found == path
    assert path.exists()


def test_secrets_are_not_shown():
    assert shown("https://me:secret@host/a.pt?X-Signature=abc#part") == "https://host/a.pt"
    assert shown("s3://bucket/a.pt") == "s3://bucket/a.pt"


def test_a_file_in_memory(memory, tmp_path):
    torch.save({"weight": torch.arange(7.0)}, tmp_path / "file.pt")
    memory.pipe("/run/step-100.pt", (tmp_path / "file.pt").read_bytes())
    told = []
    with fetched("memory://run/step-100.pt", progress=Progress(lambda done, total: told.append((done, total)))) as path:
        assert path.name == "step-100.pt"
        weight = read_tree(path).root["weight"]
    assert not path.parent.exists()
    assert weight.whole().tolist() == list(range(7))  # the open file outlives its name
    size = (tmp_path / "file.pt").stat().st_size
    assert told == [(0, size), (size, size)]


def test_a_folder_in_memory(memory):
    files = {"step-1/model.safetensors": b"abc", "step-1/optimizer.pt": b"defgh", "step-2/model.safetensors": b"i"}
    for name, raw in files.items():
        memory.pipe(f"/run/{name}", raw)
    memory.pipe("/other/file", b"not ours")
    assert listed("memory://run") == {name: len(raw) for name, raw in files.items()}
    with fetched("memory://run", wanted=lambda name: name.endswith(".safetensors")) as folder:
        held = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert held == {name: raw for name, raw in files.items() if name.endswith(".safetensors")}
    assert not folder.exists()


def test_the_copy_is_removed_when_something_goes_wrong(memory):
    memory.pipe("/run/a.pt", b"abc")
    with pytest.raises(RuntimeError, match="mine"), fetched("memory://run/a.pt") as path:
        raise RuntimeError("mine")
    assert not path.exists()


def test_a_file_from_a_server(server):
    folder, address = server
    torch.save({"weight": torch.arange(11.0)}, folder / "a b.pt")
    with fetched(f"{address}/a%20b.pt?token=secret") as path:
        assert path.suffix == ".pt"
        assert read_tree(path).root["weight"].whole().tolist() == list(range(11))


def test_a_folder_from_a_server(server):
    folder, address = server
    (folder / "run").mkdir()
    (folder / "run" / "a.pt").write_bytes(b"abc")
    (folder / "run" / "b.pt").write_bytes(b"de")
    assert set(listed(f"{address}/run/")) == {"a.pt", "b.pt"}
    with fetched(f"{address}/run/") as found:
        assert {path.name: path.read_bytes() for path in found.iterdir()} == {"a.pt": b"abc", "b.pt": b"de"}


@pytest.mark.parametrize("place", ["memory://nowhere/a.pt", "memory://nowhere/"])
def test_nothing_there(memory, place):
    with pytest.raises(CheckpointError, match=r"no such file|there is nothing"), fetched(place):
        pass


def test_nothing_at_the_server(server):
    with pytest.raises(CheckpointError, match="no such file") as caught, fetched(f"{server[1]}/none.pt?token=secret"):
        pass
    assert "secret" not in str(caught.value)


def test_no_server():
    with pytest.raises(CheckpointError, match="cannot fetch") as caught, fetched("http://localhost:9/a.pt"):
        pass
    assert str(caught.value).isprintable()


def test_an_unknown_kind_of_address():
    with pytest.raises(CheckpointError, match="no such kind of address"), fetched("nope://a/b"):
        pass


def test_a_package_that_is_missing_is_named(monkeypatch):
    def fails(place):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fetching.fsspec.core, "url_to_fs", fails)
    with pytest.raises(MissingExtraError, match="pip install s3fs"), fetched("s3://bucket/key"):
        pass


def test_what_does_not_fit_is_not_begun(memory, monkeypatch):
    memory.pipe("/run/a.pt", bytes(1000))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage._replace(free=2**28 + 999))
    told = []
    with (
        pytest.raises(CheckpointError, match="do not fit"),
        fetched("memory://run/a.pt", progress=Progress(lambda *at: told.append(at))),
    ):
        pass
    assert told == []


class Lying:
    """A file system whose listing says what it is told to say."""

    def __init__(self, files, content=b"abc"):
        self.files, self.content = files, content

    def info(self, path):
        return {"type": "directory"}

    def find(self, root, **_):
        return {name: {"size": size} for name, size in self.files.items()}

    def open(self, path, mode):
        import io

        return io.BytesIO(self.content)


@pytest.mark.parametrize(
    "name",
    [
        *["run/../../evil", "run/..", "/etc/evil", "run/a/../../../evil", "run/\\..\\evil", "run/C:evil", "run/a\0b"],
        *["run/\x1b[31mred", "run/a\nb"],
    ],
)
def test_names_that_lead_out_are_refused(monkeypatch, name):
    monkeypatch.setattr(fetching.fsspec.core, "url_to_fs", lambda place: (Lying({"run/a.pt": 3, name: 3}), "run"))
    with pytest.raises(CheckpointError, match="leads elsewhere") as caught, fetched("memory://run"):
        pass
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("size", "words"), [(2, "more comes"), (4, "less comes")])
def test_another_size_than_promised(monkeypatch, size, words):
    monkeypatch.setattr(fetching.fsspec.core, "url_to_fs", lambda place: (Lying({"run/a.pt": size}), "run"))
    with pytest.raises(CheckpointError, match=words), fetched("memory://run"):
        pass


def test_a_size_that_nobody_tells(monkeypatch):
    monkeypatch.setattr(fetching.fsspec.core, "url_to_fs", lambda place: (Lying({"run/a.pt": None}), "run"))
    with fetched("memory://run") as folder:
        assert Path(folder, "a.pt").read_bytes() == b"abc"


def test_too_many_files(monkeypatch):
    many = {f"run/{number}": 1 for number in range(10_001)}
    monkeypatch.setattr(fetching.fsspec.core, "url_to_fs", lambda place: (Lying(many), "run"))
    with pytest.raises(CheckpointError, match="more than 10000 files"):
        listed("memory://run")
