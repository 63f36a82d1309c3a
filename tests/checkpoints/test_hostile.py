"""Files that were made to do harm: none runs anything, none fills the memory, each gets one clear line."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints.hostile import write_corpus
from checkpoints.judging import judge
from checkpoints.opcodes import archive, call, name, table, tensor, text

from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError

SPARE = 700 * 2**20  # bytes of address space that reading may take
GROWN = 300 * 2**20  # bytes that may be resident at once


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """(words by file, outcomes by file, the report of the process that read them, the sentinel)."""
    folder = tmp_path_factory.mktemp("hostile")
    sentinel = folder / "sentinel"
    words = write_corpus(folder, sentinel)
    names = folder / "names.json"
    names.write_text(json.dumps(list(words)))
    judging = Path(__file__).with_name("judging.py")
    command = [sys.executable, str(judging), str(folder), str(names), str(SPARE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return words, json.loads(done.stdout), done, sentinel


def test_the_corpus_is_large(corpus):
    assert len(corpus[0]) >= 140


def test_every_file_is_refused_in_one_clear_line(corpus):
    words, report, _, _ = corpus
    for own, (outcome, line, _) in report["outcomes"].items():
        assert outcome == "refused", (own, line)
        assert words[own] in line, (own, line)
        assert line.endswith("[checkpoint]"), own
        assert line.isprintable(), own
        assert len(line) < 600, own
        assert "weights_only" not in line, own


def test_none_runs_anything(corpus):
    assert not corpus[3].exists()


def test_none_fills_the_memory_or_hangs(corpus):
    _, report, done, _ = corpus
    assert report["grown"] < GROWN
    assert max(seconds for _, _, seconds in report["outcomes"].values()) < 60  # a hang, not a measurement
    assert done.stderr == ""


def test_loaded_freely_they_would_run(tmp_path):
    """The payload is live: Python's own loader runs it (in a process of its own)."""
    sentinel = tmp_path / "sentinel"
    raw = b"\x80\x02" + call(name("posix", "system"), text(f"touch {sentinel}")) + b"."
    (tmp_path / "bare.pkl").write_bytes(raw)
    load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", load, str(tmp_path / "bare.pkl")], check=True)
    assert sentinel.exists()


@pytest.mark.parametrize(("module", "own"), [("posix", "system"), ("os", "system"), ("nt", "system"), ("sys", "exit")])
def test_some_names_cannot_be_allowed(tmp_path, module, own):
    path = tmp_path / "file.pt"
    path.write_bytes(archive(table(extra=call(name(module, own), text("true")))))
    with pytest.raises(CheckpointError, match=f"{module}.{own}"):
        read_tree(path, allow=[f"{module}.{own}"])


@pytest.mark.parametrize("named", ["subprocess.Popen", "builtins.eval", "runpy.run_path", "shutil.rmtree"])
def test_what_is_allowed_runs_nothing(tmp_path, named):
    module, _, own = named.rpartition(".")
    path, sentinel = tmp_path / "file.pt", tmp_path / "sentinel"
    body = call(name(module, own), text(f"open({str(sentinel)!r}, 'w')"))
    path.write_bytes(archive(table(extra=body, weight=tensor())))
    tree = read_tree(path, allow=[named])
    assert tree.root["extra"].name == named
    assert tree.root["weight"].shape == (2, 3)
    assert not sentinel.exists()


class Changing:
    """Pickles as a call of `open`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_one_name_is_found_among_thousands_of_objects(tmp_path):
    import torch

    path, sentinel = tmp_path / "file.pt", tmp_path / "sentinel"
    torch.save([{"weight": torch.ones(3)}] * 7 + [*range(2000), Changing(str(sentinel)), *range(2000)], path)
    outcome, line = judge(path)
    assert outcome == "refused"
    assert "_io.open" in line or "io.open" in line
    assert not sentinel.exists()
    assert pickle.dumps(Changing("x"))  # and it can be pickled at all
