"""A run while it grows: what is looked at again, what is waited for, and a screen that fits any terminal."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from io import StringIO

import pytest
import torch
from diagnoses import KINDS
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows
from naming import HOSTILE, named
from rich.cells import cell_len
from rich.console import Console

import deadneuron
from deadneuron.analysis.diagnosis import diagnose
from deadneuron.errors import NewerFormatError, NotARunError
from deadneuron.report import glance as room
from deadneuron.report.glance import Glance, pause
from deadneuron.report.live import line, screen


def train(path, steps, *, dead=0, **options):
    """A real run folder: the first `dead` units of thirteen die in step 20."""
    model = torch.nn.Sequential(torch.nn.Linear(5, 13), torch.nn.ReLU(), torch.nn.Linear(13, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with deadneuron.watch(model, optimizer, run=str(path), **options):
        for step in range(steps):
            if step == 20:
                with torch.no_grad():
                    model[0].bias[:dead] = -100.0
            optimizer.zero_grad()
            model(torch.randn(31, 5)).square().mean().backward()
            optimizer.step()


def seen(path, run, name="runs/made"):
    """A glance at a run that is in memory."""
    glance = Glance(path)
    glance.run, glance.diagnosis = run, replace(diagnose(run), run=name)
    glance._first = {(one.code, one.where): (1, None) for one in glance.diagnosis.findings}
    return glance


def drawn(glance, width, height):
    out = StringIO()
    Console(file=out, width=width, height=height).print(screen(glance, width, height))
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def wide():
    """Seven layers, of which the last is the worst."""
    made, windows = [], []
    for number in range(7):
        site = make_site(number, 31, name=f"layers.{number}.act")
        silent = {unit: [(41 + unit, 306)] for unit in range(2 * number)}
        made.append(site)
        windows += make_windows(site, lives(31, 307, silent), ends_every(50, 307))
    return make_run(made, windows, make_ticks([0.1] * 307))


def test_a_narrow_screen_cuts_the_path_and_not_that_it_waits(tmp_path):
    glance = Glance(tmp_path / ("long" * 17) / "run")
    assert glance.look()
    for width in (41, 79):
        (only,) = drawn(glance, width, 23)
        assert only.startswith("waiting (there is no such folder): ")
        assert only.endswith("…")


def test_a_folder_that_is_not_there_is_waited_for_and_then_seen(run):
    glance = Glance(run)
    assert glance.look()
    assert line(glance) == f"waiting (there is no such folder): {run}"
    assert not glance.look()
    run.mkdir()
    assert glance.look()
    assert "no readable run.json" in line(glance)
    assert not glance.look()
    (run / "run.json").write_text('{"format": 1, "run"')
    assert glance.look()
    assert "run.json is not deadneuron's" in line(glance)
    shutil.rmtree(run)
    train(run, 41)
    assert glance.look()
    assert line(glance).startswith("step 40, ended: unknown, 0 of 13 units dead; ")
    assert not glance.look()


def test_it_is_judged_once_for_each_change(run, monkeypatch):
    train(run, 41)
    judged = []
    monkeypatch.setattr(room, "diagnose", lambda *args: judged.append(args) or diagnose(*args))
    glance = Glance(run)
    assert [glance.look() for _ in range(5)] == [True, False, False, False, False]
    (run / ".run.json.1.tmp").write_text("half")
    assert not glance.look()
    os.utime(run / "run.json", (1, 1))
    assert glance.look()
    assert len(judged) == 2


def test_looking_is_a_tenth_of_the_time():
    for took in (0.0, 0.01, 0.3, 7.0, 60.0):
        waits = pause(2.0, took)
        assert waits >= 2.0
        assert took <= 0.1 * (took + waits) + 1e-3
    assert pause(2.0, 0.2) == 2.0


def test_a_run_that_is_begun_anew_is_followed_and_its_findings_forgotten(run):
    train(run, 307, dead=11)
    glance = Glance(run)
    glance.look()
    ((first, step), *_) = glance.newest()
    assert (first.where, step) == ("1", None)
    train(run, 41, overwrite=True)
    assert glance.look()
    assert [one.code for one, _ in glance.newest()] == ["too-short"]
    assert all(step is None for _, step in glance.newest())


def test_a_folder_that_goes_while_it_is_read_is_looked_at_again(run, monkeypatch):
    train(run, 41)
    glance = Glance(run)
    glance.look()

    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(room, "read_run", gone)
        os.utime(run / "run.json", (1, 1))
        assert [glance.look() for _ in range(3)] == [True, False, False]
        assert line(glance) == f"waiting (No such file or directory): {run}"
    assert glance.look()
    assert line(glance).startswith("step 40, ended")


def test_a_finding_that_comes_up_under_our_eyes_comes_first_with_its_step(run, monkeypatch):
    train(run, 41)
    glance = Glance(run)
    glance.look()
    one = KINDS["dying"]()
    severe = KINDS["stuck"]().findings[0]
    for added, step in ((one.findings, 100), ((*one.findings, severe), 200), ((severe, *one.findings), 300)):
        monkeypatch.setattr(room, "diagnose", lambda *_, f=added, s=step: replace(one, findings=f, last_step=s))
        os.utime(run / "run.json", (step, step))
        assert glance.look()
    assert glance.newest() == [(severe, 200), *((finding, 100) for finding in one.findings)]
    assert any("new at step 200: " in text for text in drawn(glance, 80, 20))


@pytest.mark.parametrize("kind", ["file", "runs"])
def test_what_never_becomes_a_run_is_an_error(kind, tmp_path):
    if kind == "file":
        (tmp_path / "run").write_text("x")
    else:
        (tmp_path / "run" / "a").mkdir(parents=True)
        (tmp_path / "run" / "a" / "run.json").write_text("{}")
    with pytest.raises(NotARunError):
        Glance(tmp_path / "run").look()


def test_a_run_of_a_newer_format_is_an_error(run):
    train(run, 41)
    document = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(document | {"format": 1000}))
    with pytest.raises(NewerFormatError):
        Glance(run).look()


def test_the_screen_shows_layers_worst_first_their_curves_and_the_rate(wide, run):
    lines = drawn(seen(run, wide), 120, 30)
    assert lines[0].startswith("! warning  step 306, ended · runs/made")
    assert lines[1].startswith("rate  SGD[0] █")
    rows = [text for text in lines if "layers." in text and "ReLU" in text]
    assert [row.split()[1] for row in rows] == [f"layers.{number}.act" for number in reversed(range(7))]
    assert "▄" in rows[0]
    assert lines[-1].startswith("! layers.")


@pytest.mark.parametrize("height", [1, 2, 3, 5, 7, 11, 13, 53])
@pytest.mark.parametrize("width", [11, 23, 41, 79, 211])
def test_the_screen_fits_any_terminal(width, height, wide, run):
    lines = drawn(seen(run, wide), width, height)
    assert 1 <= len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith("! warning")
    if height >= 3:
        assert lines[-1].startswith("! ")
    if height >= 11 and width >= 41:
        assert any("layers.6.act" in text and "▄" in text for text in lines)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_drives_the_terminal(name, run):
    made = make_run([make_site(0, 7, name=name)], [], make_ticks([0.1] * 13), groups=(name,))
    glance = seen(run, made, name)
    glance.diagnosis = named(KINDS["dying"](), name)
    glance._first = {(one.code, one.where): (2, 7) for one in glance.diagnosis.findings}
    lines = drawn(glance, 79, 23)
    assert len(lines) <= 23
    assert all(char.isprintable() for text in [*lines, line(glance)] for char in text)


@pytest.mark.parametrize("width", [67, 97])
def test_a_long_path_keeps_the_end_that_tells_runs_apart(width, wide, run):
    head = drawn(seen(run, wide, name="/experiments" * 13 + "/lr0.03-seed7"), width, 30)[0]
    assert head.endswith("/lr0.03-seed7")
    assert "· …" in head
    assert cell_len(head) == width


def test_a_run_that_has_only_begun_is_not_said_to_have_seen_nothing(run):
    glance = seen(run, make_run(modules=("layers.0.act",)))
    begun = replace(glance.diagnosis, ended=None)
    assert "blind" in {finding.code for finding in begun.findings}
    for ended, told in ((None, False), (2.0, True)):
        glance.diagnosis = replace(begun, ended=ended)
        shown = "\n".join(drawn(glance, 97, 23))
        assert "no steps yet" in shown
        assert ("can be said" in shown, "can be said" in line(glance)) == (told, told)
