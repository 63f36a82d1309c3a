"""A real TensorBoard server shows what the sink wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlencode

import pytest
from making import make_info, make_site, make_ticks, make_windows

from deadneuron.records import HISTOGRAM_EDGES
from deadneuron.sinks.replay import replay
from deadneuron.sinks.tensorboard import TensorBoard
from deadneuron.store.reader import StoredRun

STEPS = 131
SITE = make_site(0, 7, name="act@body.0.bias", outputs=tuple(max(edge, 0.0) for edge in HISTOGRAM_EDGES))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    for name, rate in (("slow", 0.01), ("fast", 0.5)):
        fired = [[0 if unit == 4 and rate == 0.5 else 3 for unit in range(7)] for _ in range(STEPS)]
        windows, ticks = make_windows(SITE, fired, [0, 49, 99, STEPS - 1]), make_ticks([rate] * STEPS)
        replay(StoredRun(make_info([SITE]), tuple(windows), tuple(ticks), ()), TensorBoard(folder / name))
    return folder


@pytest.fixture(scope="module")
def ask(logs, tmp_path_factory):
    """Ask the server for a path and give its JSON."""
    said = tmp_path_factory.mktemp("server") / "stderr"
    options = ["--logdir", str(logs), "--port", "0", "--host", "127.0.0.1", "--load_fast=false"]
    with said.open("w") as stderr:
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options], stdout=stderr, stderr=stderr)
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r" at (http://[0-9.]+:[0-9]+/)", said.read_text())):
            assert server.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)

        def get(path, **query):
            with urllib.request.urlopen(f"{found[1]}data/{path}?{urlencode(query)}", timeout=60) as answer:
                return json.load(answer)

        while set(get("runs")) != {"slow", "fast"} or len(get("plugin/scalars/tags")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield get
    finally:
        server.terminate()
        server.wait(60)


def test_scalars_of_every_run_are_listed_and_drawn(ask):
    tags = ask("plugin/scalars/tags")
    assert set(tags) == {"slow", "fast"}
    assert {"deadneuron.dead/act@body.0.bias", "deadneuron.lr/SGD[0]"} <= set(tags["fast"])
    points = ask("plugin/scalars/scalars", run="fast", tag="deadneuron.dead/act@body.0.bias")
    assert [(step, value) for _, step, value in points] == [
        (0, 0.0),
        (49, 0.0),
        (99, pytest.approx(1 / 7)),
        (STEPS - 1, pytest.approx(1 / 7)),
    ]


def test_histograms_have_no_bucket_without_width_and_all_counts(ask):
    tag = "deadneuron.outputs/act@body.0.bias"
    assert tag in ask("plugin/histograms/tags")["slow"]
    shown = ask("plugin/histograms/histograms", run="slow", tag=tag)
    assert [step for _, step, _ in shown] == [0, 49, 99, STEPS - 1]
    for (_, _, buckets), steps in zip(shown, (1, 49, 50, 31), strict=True):
        below = 7 * 11 * steps * 4 // 10  # made windows have so many values at or below zero
        assert [count for _, _, count in buckets if count] == [below, 7 * 11 * steps - below]
        assert all(left < right for left, right, _ in buckets)
        assert buckets[0][1] == 0.0


def test_the_page_draws_dead_units_and_learning_rates_of_every_run(ask):
    (page,) = ask("plugin/custom_scalars/layout")["category"]
    assert page["title"] == "Dead neurons"
    dead, rate = page["chart"][:2]
    for run, share, lr in (("fast", 1 / 7, 0.5), ("slow", 0.0, 0.01)):
        for chart, name, last in ((dead, "deadneuron.dead/act@body.0.bias", share), (rate, "deadneuron.lr/SGD[0]", lr)):
            (rule,) = chart["multiline"]["tag"]
            answer = ask("plugin/custom_scalars/scalars", run=run, tag=rule)
            assert answer["regex_valid"]
            assert set(answer["tag_to_events"]) == {name}
            assert answer["tag_to_events"][name][-1][1:] == [STEPS - 1, pytest.approx(last)]
