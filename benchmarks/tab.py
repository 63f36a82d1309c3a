"""How fast the "Dead neurons" tab of TensorBoard answers, and what it takes in the browser.

A log folder is made by the real sink (or one that lies there is taken), a real TensorBoard loads it, and its routes are
asked. An answer is *cold* when TensorBoard has loaded the log folder and the tab reads the run for the first time: each
cold request asks as another experiment, for which nothing is kept. The browser's memory is the JavaScript heap of the
tab's page, with all of TensorBoard in it, after its first view; needs chromium and chromedriver.

    python benchmarks/tab.py [--sites 200] [--windows 2000] [--units 4096] [--logs FOLDER] [--slow] [--write]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np

from deadneuron.profiles import load_profile
from deadneuron.records import BINS, HISTOGRAM_EDGES, RunInfo, Site, Tick, Window
from deadneuron.sinks.tensorboard import TensorBoard

PROOF = Path(__file__).parents[1] / "docs" / "proof"
ASKED = 9  # times that each figure is taken; the median counts
STEPS = 50  # a window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=40)
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--units", type=int, default=4096)
    parser.add_argument("--logs", type=Path, help="a log folder with one run of that size, which lies there or is made")
    parser.add_argument("--slow", action="store_true", help="also with TensorBoard's slow loader")
    parser.add_argument("--write", action="store_true", help="write docs/proof/<date>-tab.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        logs = args.logs or Path(temporary) / "logs"
        if not logs.exists():
            make(logs / "run", args.sites, args.windows, args.units)
        lines = [
            f"{args.sites} layers x {args.windows:,} windows x {args.units:,} units: "
            f"{sum(file.stat().st_size for file in logs.rglob('events*')) / 1e6:.0f} MB of event files. Median of "
            f"{ASKED} answers (least, most), in seconds; load average when asked: see the table.",
            "",
            "| loader | answer | seconds | kB | load average |",
            "|---|---|---|---|---|",
        ]
        for loader in ("fast", "slow") if args.slow else ("fast",):
            lines += measure(logs, loader, args.windows * STEPS - 1)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.write:
        title = f"# What the tab takes, {date.today()}\n\n`python {' '.join(sys.argv)}`\n\n"
        (PROOF / f"{date.today()}-tab.md").write_text(title + text)


def make(folder: Path, sites: int, windows: int, units: int) -> None:
    """A run in which a third of all units die, one after the other."""
    profile = load_profile()
    made = [
        Site(i, f"encoder.layers.{i // 2}.act{i % 2}", f"m{i}", 0, "ReLU", "module", units, 1, "producer",
             (0.0, float("inf")), f"p{i}", (0,), tuple(np.maximum(HISTOGRAM_EDGES, 0).tolist()))
        for i in range(sites)
    ]  # fmt: skip
    info = RunInfo(1, "made", "2026-01-01T00:00:00+00:00", "Made", 0, 1, {}, "default", profile.sampling,
                   profile.thresholds, ("SGD[0]",), tuple(s.module for s in made), sites=tuple(made))  # fmt: skip
    sink = TensorBoard(folder)
    sink.open(info)
    random = np.random.default_rng(0)
    zero, nothing = np.zeros(units, dtype=np.int64), np.zeros(units)
    histogram = np.zeros(BINS, dtype=np.int64)
    histogram[40:44] = 100
    base = random.integers(1, 500, units)
    dies = [random.integers(1, windows * 3, units) for _ in made]
    for w in range(windows):
        a, b = w * STEPS, w * STEPS + STEPS - 1
        seen = []
        for site in made:
            alive = dies[site.number] > w
            active = (np.where(alive, base, 0), np.where(alive, a, -1), np.where(alive, b, -1))
            seen.append(Window(site.number, "train", 0, a, b, STEPS, 3200, 3200, *active, 320, zero, zero, zero - 1,
                               nothing, nothing, nothing + 1, None, histogram, None))  # fmt: skip
        sink.write(info, seen, [Tick(s, 1e9 + s, (0.1 * np.cos(s / windows / STEPS),)) for s in (a, b)])
    sink.close()


def measure(logs: Path, loader: str, last: int) -> list[str]:
    """Rows of the table for one of TensorBoard's loaders."""
    rows = []
    with serving(logs, loader) as address:
        loaded(address, last)
        for what, route, cold in (
            ("first view: overview, cold", "overview?run=run", True),
            ("overview again", "overview?run=run", False),
            ("units of one layer, cold", "site?run=run&place=3", True),
            ("units of one layer, after the overview", "site?run=run&place=3", False),
        ):
            taken = []
            for number in range(ASKED):
                where = f"{address}experiment/{loader}{time.time_ns()}{number}/" if cold else address
                taken.append(ask(f"{where}data/plugin/deadneuron/{route}"))
            seconds = [one for one, _ in taken]
            rows.append(
                f"| {loader} | {what} | {statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f}) | "
                f"{taken[0][1] / 1e3:.0f} | {os.getloadavg()[0]:.1f} |"
            )
        if shutil.which("chromium") and shutil.which("chromedriver"):
            until_drawn, heap = browse(address)
            rows.append(
                f"| {loader} | browser, from address to first view, TensorBoard's own start included | "
                f"{until_drawn:.1f}; JavaScript heap {heap:.0f} MB | | {os.getloadavg()[0]:.1f} |"
            )
    return rows


@contextmanager
def serving(logs: Path, loader: str) -> Iterator[str]:
    """The address of a TensorBoard server."""
    flags = ["--logdir", str(logs), "--port", "0", "--host", "127.0.0.1", f"--load_fast={loader == 'fast'}".lower()]
    with tempfile.TemporaryDirectory() as temporary:
        said = Path(temporary) / "said"
        with said.open("w") as out:
            process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *flags], stdout=out, stderr=out)
        try:
            while not (found := re.search(r" at (http://[0-9.]+:[0-9]+/)", said.read_text())):
                if process.poll() is not None:
                    raise SystemExit(said.read_text())
                time.sleep(0.2)
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def loaded(address: str, last: int) -> None:
    """Wait until TensorBoard has read all."""
    while f'"steps": [0, {last}]' not in (text := answer(f"{address}data/plugin/deadneuron/overview?run=run")):
        if "Traceback" in text:
            raise SystemExit(text)
        time.sleep(2)


def answer(url: str) -> str:
    """What a route says, errors as well."""
    try:
        with urllib.request.urlopen(url, timeout=600) as found:
            return str(found.read().decode())
    except urllib.error.HTTPError as error:
        return str(error)


def ask(url: str) -> tuple[float, int]:
    """(seconds, bytes) of one answer."""
    begun = time.perf_counter()
    with urllib.request.urlopen(url, timeout=600) as found:
        size = len(found.read())
    return time.perf_counter() - begun, size


def browse(address: str) -> tuple[float, float]:
    """(seconds until the tab is drawn, MB of its heap)."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    hosts = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", hosts):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        begun = time.perf_counter()
        driver.get(f"{address}#deadneuron")
        while not driver.find_elements("css selector", "iframe"):
            time.sleep(0.02)
        driver.switch_to.frame(driver.find_element("css selector", "iframe"))
        while not driver.find_elements("css selector", ".dn-heat"):
            time.sleep(0.02)
        taken = time.perf_counter() - begun
        time.sleep(3)
        return taken, driver.execute_script("return performance.memory.usedJSHeapSize") / 1e6
    finally:
        driver.quit()


if __name__ == "__main__":
    main()
