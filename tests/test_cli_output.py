"""`deadneuron report`: its formats, to stdout or to a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from visible import read_html, read_markdown

from deadneuron.report.as_json import parse_json

ENVIRONMENT = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
BEGINNINGS = {
    "text": "deadneuron · ",
    "json": "{\n",
    "markdown": "## ",
    "html": "<!doctype html>",
    "github": "::error title=deadneuron%3A stuck%2C layer1.act::",
}


def report(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deadneuron", "report", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


@pytest.fixture(scope="module")
def run(demo_runs) -> Path:
    return demo_runs / "lr0.2"


@pytest.mark.parametrize("format", BEGINNINGS)
def test_a_file_holds_what_stdout_would_show(format, run, tmp_path):
    path = tmp_path / "report"
    path.write_text("an older one, much longer than any report\n" * 10_000)
    shown = report(run, "--format", format)
    done = report(run, "--format", format, "-o", path, "--fail-on", "warning")
    assert (shown.returncode, done.returncode, shown.stderr, done.stdout) == (0, 1, "", "")
    assert path.read_text("utf-8") == shown.stdout
    assert shown.stdout.startswith(BEGINNINGS[format])
    assert done.stderr == f"deadneuron: wrote the report to {path}\n"


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.html", "html"), ("a.HTM", "html"), ("a.md", "markdown"), ("a.json", "json"), ("a.txt", "text"), ("a", "text")],
)
def test_a_files_name_tells_its_format(name, format, run, tmp_path):
    assert report(run, "--output", name, cwd=tmp_path).returncode == 0
    assert (tmp_path / name).read_text("utf-8").startswith(BEGINNINGS[format])


def test_a_format_that_is_asked_for_goes_before_the_files_name(run, tmp_path):
    assert report(run, "--format", "text", "-o", tmp_path / "a.html").returncode == 0
    assert (tmp_path / "a.html").read_text("utf-8").startswith(BEGINNINGS["text"])


def test_all_formats_tell_of_the_same_layers(run):
    diagnosis = parse_json(report(run, "--format", "json").stdout)
    names = [verdict.name for verdict in diagnosis.verdicts]
    assert len(names) == 3
    for seen in (
        read_markdown(report(run, "--format", "markdown").stdout),
        read_html(report(run, "--format", "html").stdout),
    ):
        assert [row[1] for row in seen.tables[0][1:]] == names


@pytest.mark.parametrize(("place", "said"), [("nowhere/a.html", "does not exist"), (".", "is a folder")])
def test_a_file_that_cannot_be_written_is_one_line_and_nothing_is_shown(place, said, run, tmp_path):
    done = report(run, "-o", place, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "[usage]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_full_is_one_line(run):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = report(run, "-o", "/dev/full")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot write the report: No space left on device" in done.stderr


def test_other_verbs_keep_to_text_and_json(tmp_path):
    command = [sys.executable, "-m", "deadneuron", "branch", "x", "--setup", "a:b", "--format", "html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 2
    assert "html" in done.stderr
