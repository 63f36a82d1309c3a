"""A real training under `watch` is killed with -9, and its folder still tells all but the last flush."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.frames import read_run
from deadneuron.report.text import render_text

FLUSH = 0.2  # seconds
BATCH = 11
TRAINING = """
import sys, time, torch, deadneuron
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(5, 13), torch.nn.ReLU(), torch.nn.Linear(13, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with deadneuron.watch(model, optimizer, run=sys.argv[1], profile=sys.argv[2]):
    for step in range(100_000):
        model(torch.randn(11, 5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        print(step, time.time(), flush=True)
        time.sleep(0.004)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_training_loses_at_most_the_last_flush(tmp_path, seed):
    profile = tmp_path / "quick.toml"
    profile.write_text(f"[sampling]\nflush_seconds = {FLUSH}\nwindow = 23\n")
    path = tmp_path / "run"
    command = [sys.executable, "-W", "error::UserWarning", "-c", TRAINING, str(path), str(profile)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        lines = []
        # A pipe that nobody empties would stop the training.
        reading = threading.Thread(target=lambda: lines.extend(child.stdout))
        first = child.stdout.readline()
        reading.start()
        time.sleep(random.Random(seed).uniform(2.0, 3.0))
        killed = time.time()
        child.kill()
        reading.join()
        assert child.wait() == -signal.SIGKILL, child.stderr.read()
    log = [(int(step), float(at)) for step, at in (line.split() for line in [first, *lines] if line.count(" ") == 1)]
    done = log[-1][0]
    # The open window is copied at most FLUSH after the copy before, and written at most FLUSH later, by a thread that
    # has to wait for its turn on a busy machine.
    safe = max(step for step, at in log if at < killed - 2 * FLUSH - 0.6)
    assert safe > 23, "the training was killed before it could lose anything"

    run = read_run(path)
    windows = run.layers
    assert not run.gaps
    assert run.info.ended is None
    assert safe <= windows["last_step"].max() <= done + 1
    assert safe <= run.ticks["step"].max() <= done + 1
    assert run.ticks["step"].tolist() == list(range(len(run.ticks)))
    assert windows["first_step"].tolist() == [0, 1, *range(23, 23 * (len(windows) - 1), 23)]
    lengths = windows["last_step"] - windows["first_step"] + 1
    # The window that was still open may hold a pass more than it has steps: of the step that was under way.
    assert (windows["samples"] == BATCH * lengths)[:-1].all()
    assert windows["samples"].iloc[-1] in (BATCH * lengths.iloc[-1], BATCH * (lengths.iloc[-1] + 1))
    diagnosis = diagnose(run)
    assert diagnosis.coverage.seen == 1
    assert render_text(diagnosis)
