"""A lab trains each cell once, goes on where it was stopped or killed, and gives the same table every way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.errors import LabError
from deadneuron.experiments.cells import RESULT, read_result, run_cell
from deadneuron.experiments.lab import plan_lab, run_lab
from deadneuron.experiments.labfiles import load_lab, settings
from deadneuron.experiments.schedules import parse_schedule
from deadneuron.frames import read_run

TABLES = ("table.csv", "table.json", "summary.md")


def tables(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def stamps(folder):
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{RESULT}")}


def pids_in(folder):
    """The processes that wrote the runs in a lab's folder: a rank's folder bears the number of its process."""
    return {int(path.name.split("-")[1]) for path in folder.glob("*/rank0-*")}


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_cell_is_a_run_folder_with_a_result(finished):
    _, plan, events = finished
    assert len(plan.cells) == 4
    assert plan.unfinished() == ()
    for cell, own in plan.cells:
        result = json.loads((plan.folder / cell.name / RESULT).read_text())
        assert result["settings"] == own
        run = read_run(plan.folder / cell.name)
        assert result["cell"]["steps"] == len(run.ticks)
        diagnosis = diagnose(run)
        assert [layer["dead"] for layer in result["layers"]] == [verdict.dead for verdict in diagnosis.verdicts]
    assert sorted(event.name for event in events if event.ended) == sorted(cell.name for cell, _ in plan.cells)
    assert sum(event.steps for event in events) == 4 * 29


def test_two_processes_give_the_table_of_one(finished, tmp_path):
    config, plan, _ = finished
    other = plan_lab(load_lab(config), tmp_path)
    run_lab(other, 2, lambda event: None)
    assert len(pids_in(other.folder)) == 2
    assert tables(other.folder) == tables(plan.folder)


def test_the_csv_the_json_and_the_markdown_agree(finished):
    _, plan, _ = finished
    rows = json.loads((plan.folder / "table.json").read_text())["rows"]
    with (plan.folder / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(rows) == len(lines) == 4 * 2
    for row, line in zip(rows, lines, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line
    summary = (plan.folder / "summary.md").read_text()
    header, _, *body = [line for line in summary.splitlines() if line.startswith("|")]
    assert header.split(" | ")[:3] == ["| lr", "layer", "≤ 0 in step 0"]
    assert [line.split(" | ")[:2] for line in body] == [
        [f"| {lr}", layer] for lr in (0.1, 3.1) for layer in ("1", "2", "all")
    ]
    shares = sorted(row["dead"] / row["units"] for row in rows if row["lr"] == 0.1 and row["layer"] == 1)
    middle = f"{50 * sum(shares):.{1 if shares[1] < 0.1 else 0}f} %"  # of two: their mean
    assert body[0].split(" | ")[3].startswith(middle)


def test_what_is_finished_is_skipped_and_what_was_changed_is_trained_again(tiny, tmp_path, in_process):
    plan = plan_lab(load_lab(tiny(lr="0.1", seed="[0, 1]")), tmp_path)
    run_lab(plan, 2, lambda event: None)
    before = stamps(plan.folder)
    more = plan_lab(load_lab(tiny(lr="0.1", seed="[0, 1, 2]")), tmp_path)
    assert [cell.seed for cell in more.unfinished()] == [2]
    run_lab(more, 2, lambda event: None)
    after = stamps(more.folder)
    assert len(after) == 3
    assert before.items() <= after.items()
    changed = plan_lab(load_lab(tiny(lr="0.1", seed="[0, 1, 2]", steps=31)), tmp_path)
    assert len(changed.unfinished()) == 3
    result = more.folder / more.cells[0][0].name / RESULT
    result.write_text(result.read_text()[:-20])
    assert more.unfinished() == (more.cells[0][0],), "a torn result is none"


def test_a_cell_that_diverges_is_a_result(tiny, tmp_path, in_process):
    lab = load_lab(tiny(lr="1e30", seed="3"))
    result = run_cell(settings(lab, lab.cells[0]), tmp_path / "cell", lambda step: None)
    assert result["cell"]["diverged"] is True
    assert result["cell"]["loss"] is None
    assert result["cell"]["steps"] < 29
    plan = plan_lab(load_lab(tiny(lr="[0.1, 1e30]", seed="3")), tmp_path)
    assert run_lab(plan, 2, lambda event: None) == {}
    summary = (plan.folder / "summary.md").read_text().splitlines()
    assert summary[2].endswith(" | 0 of 1 |")
    assert summary[-1].endswith(" | – | – | – | – | – | 1 of 1 |")


def test_a_cell_that_fails_and_a_worker_that_dies_are_told_and_the_others_go_on(tiny, tmp_path):
    plan = plan_lab(load_lab(tiny(lr="0.1", seed="[0, 1, 2]", steps=997)), tmp_path)
    bad, killed, sound = (plan.folder / cell.name for cell, _ in plan.cells)
    bad.mkdir(parents=True)
    (bad / "mine.txt").write_text("not a run")
    pids = []

    def kill_once(event):
        if event.name == killed.name and not pids:
            pids.extend(pids_in(plan.folder))
            os.kill(*pids, signal.SIGKILL)

    failures = run_lab(plan, 1, kill_once)
    assert set(failures) == {bad.name, killed.name}
    assert failures[bad.name].startswith("RunFolderError")
    assert "-9" in failures[killed.name]
    assert plan.unfinished() == tuple(cell for cell, _ in plan.cells if cell.name != sound.name)
    assert len((plan.folder / "table.csv").read_text().splitlines()) == 1 + 2
    assert (bad / "mine.txt").read_text() == "not a run"


def test_a_folder_that_cannot_be_written_is_told(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write the lab's folder"):
        run_lab(plan_lab(load_lab(tiny()), tmp_path / "file"), 1, lambda event: None)


def test_a_schedule_gives_the_rates_that_the_run_noted(tiny, tmp_path):
    lab = load_lab(tiny(lr="0.3", seed="3", more='schedule = "warmup:7+cosine"'))
    run_cell(settings(lab, lab.cells[0]), tmp_path / "cell", lambda step: None)
    ticks = read_run(tmp_path / "cell").ticks
    factor = parse_schedule("warmup:7+cosine", 29)
    assert ticks["lr:SGD[0]"].tolist() == pytest.approx([0.3 * factor(step) for step in range(29)])
    assert ticks["lr:SGD[0]"].nunique() > 20


def test_the_same_seed_gives_the_same_result_whatever_the_callers_random_numbers(tiny, tmp_path):
    lab = load_lab(tiny(lr="0.1", seed="[3, 5]", more='activation = "RReLU"'))
    results = []
    for number, cell in enumerate((lab.cells[0], lab.cells[0], lab.cells[1])):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        results.append(run_cell(settings(lab, cell), tmp_path / str(number), lambda step: None))
        assert torch.equal(torch.get_rng_state(), state)
    assert (results[0]["cell"], results[0]["layers"]) == (results[1]["cell"], results[1]["layers"])
    assert results[0]["cell"]["loss"] != results[2]["cell"]["loss"]


def start(config, cwd, *more):
    command = [sys.executable, "-m", "deadneuron", "lab", str(config), "--folder", "killed", *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=cwd, text=True, start_new_session=True, **pipes)


def wait_for_a_result(folder, cells):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = len(stamps(folder))
        if done:
            assert done < cells, "too late to stop anything"
            return
        time.sleep(0.01)
    raise AssertionError("no cell was finished in a minute")


def wait_for_the_end_of(pids):
    end = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_lab_that_was_stopped_goes_on_and_gives_the_same_table(how, tiny, tmp_path, in_process):
    config = tiny(lr="[0.1, 0.3]", seed="[0, 1, 2]", steps=211)
    whole = plan_lab(load_lab(config), tmp_path / "whole")
    run_lab(whole, 2, lambda event: None)
    folder = tmp_path / "killed" / "tiny"
    child = start(config, tmp_path)
    try:
        wait_for_a_result(folder, 6)
    finally:
        if how is signal.SIGINT:
            os.killpg(child.pid, how)  # as a terminal does: the workers get it too
        else:
            child.send_signal(how)
        told = child.communicate(timeout=30)[1]
    wait_for_the_end_of(pids_in(folder))
    before = stamps(folder)
    assert 0 < len(before) < 6
    assert not (folder / "table.csv").exists()
    if how is signal.SIGINT:
        assert child.returncode == 130
        assert f"{len(before)} of 6 cells are finished" in told
        assert f"deadneuron lab {config} --folder killed" in told
        assert "Traceback" not in told
        run_lab(plan_lab(load_lab(config), tmp_path / "killed"), 2, lambda event: None)
    else:
        again = start(config, tmp_path, "--jobs", "1")
        out, told = again.communicate(timeout=120)
        assert again.returncode == 0, told
        assert f"6 cells, {len(before)} finished already" in told
        assert "NOW TRY" in out
    assert before.items() <= stamps(folder).items()
    assert tables(folder) == tables(whole.folder)


def test_a_result_of_another_format_is_none(finished, tmp_path):
    _, plan, _ = finished
    cell, own = plan.cells[0]
    assert read_result(plan.folder / cell.name, own) is not None
    result = json.loads((plan.folder / cell.name / RESULT).read_text())
    (tmp_path / RESULT).write_text(json.dumps({**result, "format": 0}))
    assert read_result(tmp_path, own) is None
    (tmp_path / RESULT).write_text("[]")
    assert read_result(tmp_path, own) is None
