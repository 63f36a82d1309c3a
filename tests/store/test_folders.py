"""The folder of a new run: taken if free, never overwritten unasked."""

from __future__ import annotations

import pytest
from making import make_info

from deadneuron.errors import RunFolderError
from deadneuron.store import writer
from deadneuron.store.writer import Writer, claim_folder


def test_an_existing_run_is_never_overwritten_unasked(make_writer, tmp_path):
    made = make_writer()
    made.close()
    with pytest.raises(RunFolderError, match=r"exists already.*overwrite=True") as caught:
        claim_folder(made.path, "Net", overwrite=False)
    assert "\n" not in str(caught.value)
    assert (made.path / "run.json").exists()
    (made.path / "trials").mkdir()
    assert claim_folder(made.path, "Net", overwrite=True) == made.path
    assert [path.name for path in made.path.iterdir()] == ["trials"]


def test_a_folder_of_something_else_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunFolderError, match="no run of deadneuron's"):
        claim_folder(tmp_path, "Net", overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_an_empty_or_missing_folder_is_taken(tmp_path):
    assert claim_folder(tmp_path, "Net", overwrite=False) == tmp_path
    assert claim_folder(tmp_path / "a" / "b", "Net", overwrite=False) == tmp_path / "a" / "b"


def test_runs_without_a_name_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writer.time, "strftime", lambda _: "20240229-120000-")
    made = [claim_folder(None, "Net", overwrite=False) for _ in range(3)]
    assert [path.name for path in made] == [f"20240229-120000-Net{end}" for end in ("", "-2", "-3")]
    assert all(path.parent.name == "runs" for path in made)


@pytest.mark.parametrize("where", ["file", "file/run", "\0", "n" * 300, "long"])
def test_a_place_that_cannot_be_a_run_folder_is_told_in_one_line(tmp_path, where):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / where if where != "long" else tmp_path / "/".join(["deep"] * 1200)
    with pytest.raises(RunFolderError) as caught:
        Writer(claim_folder(path, "Net", overwrite=False), make_info(), fail=lambda *_: None)
    assert "\n" not in str(caught.value)


def test_runs_as_a_file_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write the run folder"):
        claim_folder(None, "Net", overwrite=False)
