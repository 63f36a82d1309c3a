"""`deadneuron live` in a real process and pseudo terminal, on a training that grows, is killed and begins anew."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from fcntl import ioctl

import pytest

TRAINING = """
import sys, time, torch, deadneuron
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(5, 13), torch.nn.ReLU(), torch.nn.Linear(13, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[3]))
with deadneuron.watch(model, optimizer, run=sys.argv[1], profile=sys.argv[2], overwrite=True):
    for step in range(int(sys.argv[4])):
        optimizer.zero_grad()
        model(torch.randn(11, 5)).square().mean().backward()
        optimizer.step()
        time.sleep(0.01)
"""
PATIENCE = 150  # seconds, on a busy machine


class Terminal:
    """What a pseudo terminal was sent by a process."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process, self.end, self.sent = process, end, b""

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.sent.decode("utf-8", "replace"))

    def read(self, seconds: float) -> None:
        """Everything that comes within some time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self.end], [], [], left)[0]:
            try:
                self.sent += os.read(self.end, 65536)
            except OSError:  # the other end is closed
                return

    def wait_for(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            assert time.monotonic() < until, f"{pattern!r} never came:\n{self.text[-2000:]}"
            self.read(0.2)
        return found

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        until = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < until:
            self.read(0.2)
        self.read(0.2)
        return self.process.wait(1)


@contextmanager
def live(*args, rows=23, columns=79, **environment):
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [sys.executable, "-m", "deadneuron", "live", *map(str, args)]
    kept |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=kept)
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@contextmanager
def training(run, profile, rate, steps):
    command = [sys.executable, "-c", TRAINING, str(run), str(profile), str(rate), str(steps)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text("[sampling]\nflush_seconds = 0.2\nwindow = 11\n")
    return path


def test_it_waits_follows_survives_a_kill_and_a_new_beginning_and_ends_with_one_line(run, profile):
    run = run.parent / ("long-name-" * 11) / run.name  # wider than the terminal
    with live(run, "--every", "0.2") as terminal:
        terminal.wait_for("waiting")
        with training(run, profile, 0.125, 100_000) as first:
            terminal.wait_for(r"step \d+ · written .*\s+rate  SGD\[0\] █+ 0\.125")
            first.kill()
        terminal.read(1.0)
        quiet = len(terminal.sent)
        terminal.read(1.5)
        assert len(terminal.sent) == quiet, "nothing changed, and yet it drew"
        with training(run, profile, 0.0625, 41) as second:
            terminal.wait_for(r"step 40, ended")
            assert second.wait(PATIENCE) == 0
        assert "0.0625" in terminal.text
        assert terminal.process.poll() is None, "it must outlive the run"
        assert terminal.stop() == 0
    assert terminal.text.rstrip().splitlines()[-1] == f"deadneuron: stopped looking; next: deadneuron report {run}"
    assert "Traceback" not in terminal.text
    assert terminal.sent.rfind(b"\x1b[?25h") > terminal.sent.rfind(b"\x1b[?25l") >= 0, "the cursor is shown again"
    assert b"\x1b[?1049h" not in terminal.sent, "no other screen: what was seen stays in the scrollback"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("rows", "columns"), [(5, 19), (53, 211)])
def test_any_terminal_and_no_colour(number, rows, columns, demo_runs):
    with live(demo_runs / "lr0.2", rows=rows, columns=columns, NO_COLOR="1") as terminal:
        terminal.wait_for(r"✗ severe[^\n]*\n[\s\S]*✗ layer1\.a")
        assert terminal.stop(number) == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-7]|38;|9[0-7])[0-9;]*m", terminal.sent)
    drawn = terminal.text.partition("deadneuron: stopped")[0]
    assert max(map(len, re.split(r"[\r\n]", drawn))) <= columns


def test_a_dumb_terminal_gets_lines(demo_runs):
    with live(demo_runs / "lr0.05", TERM="dumb") as terminal:
        terminal.wait_for(r"step 599, ended: healthy, \d+ of 384 units dead[^\r\n]*\r\n")
        assert terminal.stop() == 0
    assert b"\x1b" not in terminal.sent


def test_not_a_terminal_a_line_a_change(run, profile):
    command = [sys.executable, "-m", "deadneuron", "live", str(run), "--every", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline()]
            with training(run, profile, 0.125, 41):
                while "step 40, ended" not in lines[-1]:
                    lines.append(process.stdout.readline())
                    assert lines[-1], process.stderr.read()
        finally:
            process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert lines[0] == f"waiting (there is no such folder): {run}\n"
    assert len(set(lines)) == len(lines)
    assert rest == ""
    assert error == f"deadneuron: stopped looking; next: deadneuron report {run}\n"


@pytest.mark.parametrize("once", [True, False])
def test_what_cannot_be_read_is_one_line(once, run):
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"format": 1000}))
    with live(run, *(["--once"] if once else []), columns=200) as terminal:
        terminal.wait_for("newer-format")
        assert terminal.process.wait(PATIENCE) == 2
        terminal.read(0.2)
    assert "Traceback" not in terminal.text
    assert len([text for text in terminal.text.splitlines() if text.strip()]) == 1


def test_once_is_one_line(demo_runs):
    command = [sys.executable, "-m", "deadneuron", "live", str(demo_runs / "lr0.05"), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    assert done.stdout.startswith("step 599, ended: healthy, ")
