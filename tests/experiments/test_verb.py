"""The verb `lab`, in real processes."""

from __future__ import annotations

import re

from deadneuron.cli import app
from typer.testing import CliRunner


def test_a_lab_says_its_time_trains_tells_and_then_has_nothing_left(tiny, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    words = ["lab", str(tiny(lr="[0.1, 0.2]", seed="3"))]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert re.match(r"tiny: 2 cells, 0 finished already, about \d+ s for 2 on 2 processes\n", done.stderr)
    assert "The claim: Something. (nowhere)" in done.stdout
    named = re.findall(r"runs/lab/tiny/table\.csv|runs/lab/tiny/\S+_seed3", done.stdout)
    assert len(named) == 2
    for file in named:
        assert (tmp_path / file).exists()
    again = CliRunner().invoke(app, words)
    assert "2 finished already, nothing left to train" in again.stderr
    assert again.stdout == done.stdout


def test_wrong_usage_is_one_line_and_exit_code_2(tiny, command):
    for words in (["nope"], [], [tiny(more="lrate = 1")], [tiny(more="norm = []")], [tiny(more='schedule = "x"')]):
        done = command(*words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("deadneuron: ")
        assert done.stderr.endswith("[lab]\n")
    assert command("high-rate", "--jobs", "0").returncode == 2


def test_a_failed_cell_is_told_and_exit_code_1(tiny, tmp_path, in_process):
    cell = tmp_path / "tiny/ReLU_lr0.1_constant_SGD+momentum_he_none_depth2_seed3"
    cell.mkdir(parents=True)
    (cell / "mine.txt").write_text("")
    done = CliRunner().invoke(app, ["lab", str(tiny(lr="0.1", seed="3")), "--folder", str(tmp_path)])
    assert done.exit_code == 1
    assert f"no result for {cell.name}: RunFolderError" in done.stderr


def test_the_list_tells_claims_and_times_without_torch(command):
    from deadneuron.experiments.labfiles import lab_names, load_lab

    done = command("--list")
    assert done.returncode == 0
    for name in lab_names():
        assert re.search(rf"^{name}: .*, about \d+ s$", done.stdout, re.MULTILINE)
        assert load_lab(name).lab.claim in done.stdout
