"""What a TensorBoard sink costs a watched training.

The effect lies far below what rounds of training can tell apart on a shared machine. So it is measured directly: the
CPU time, of all threads, that writing one window of a real run takes, as a share of that window's training. Others on
the machine make steps slower and would flatter the share: a step counts as the fastest one of this run, or as what
`make bench` measured if that was less. The training thread cannot lose more than that to the sink, since all that they
share is the interpreter's lock and the cores; and the sink's calls on the training thread are counted. With --rounds,
watched loops with and without the sink take turns as well, as in overhead.py, in turns of a whole window.

    python benchmarks/sinks.py [--rounds 0] [--threads 2] [--write]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from models import WORKLOADS, Workload
from overhead import Arms, measure, rows_of

import deadneuron
from deadneuron.profiles import load_profile
from deadneuron.records import RunInfo, Tick, Window
from deadneuron.sinks.tensorboard import TensorBoard

PROOF = Path(__file__).parents[1] / "docs" / "proof"
REPEATS = 200  # windows that are written for one figure …
WARM = 20  # … after this many that do not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=0, help="of loops side by side; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", action="store_true", help="write docs/proof/<date>-sinks.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    profile = load_profile("default")
    steps = profile.sampling.window
    # In turns of one window, what is written belongs to the loop whose turn it is.
    quick = replace(profile, sampling=replace(profile.sampling, flush_seconds=0.5))
    arms: Arms = {
        "watched": lambda folder: {"profile": quick},
        "watched again (noise floor)": lambda folder: {"profile": quick},
        "watched, with TensorBoard": lambda folder: {"profile": quick, "sinks": [TensorBoard(folder / "tb")]},
    }
    lines = [
        f"torch {torch.__version__}, CPU, {args.threads} threads. CPU time of all threads to write one window of "
        f"{steps} steps of a real run (mean of {REPEATS} windows), as a share of {steps} steps: "
        "the fastest of this run, or those of the newest *-overhead.md where they were faster.",
        "",
        "| model | sites | ms a step | rate | CPU ms a window | share | sink calls on the training thread |",
        "|---|---|---|---|---|---|---|",
    ]
    _show(lines)
    for workload in WORKLOADS:
        lines += _show(_direct(workload, steps))
    if args.rounds:
        head = [
            "",
            f"Side by side: {args.rounds} rounds of {steps} steps an arm, flushed every 0.5 s; median over rounds of "
            "the ratio to the watched loop in the same round, less 1. This shows that nothing larger hides; it cannot "
            "resolve the shares above.",
            "",
            "| model | ms a step | loop | cost | 95 % of the median |",
            "|---|---|---|---|---|",
        ]
        lines += _show(head)
        for workload in WORKLOADS:
            lines += _show(rows_of(workload.name, measure(workload, arms, args.rounds, steps), steps))
    if args.write:
        path = PROOF / f"{date.today()}-sinks.md"
        path.write_text("# What a TensorBoard sink costs (`make bench-sinks`)\n\n" + "\n".join(lines) + "\n", "utf-8")


class Recorder:
    """A sink that keeps the records, and counts its calls by thread while training."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.ticks: list[Tick] = []
        self.training, self.calls_here = threading.current_thread(), 0
        self.in_training = False
        self.info: RunInfo | None = None

    def open(self, info: RunInfo) -> None:
        pass

    def write(self, info: RunInfo, windows: Sequence[Window], ticks: Sequence[Tick]) -> None:
        self.info = info
        self.windows += windows
        self.ticks += ticks
        self.calls_here += self.in_training and threading.current_thread() is self.training

    def close(self) -> None:
        pass


def _direct(workload: Workload, steps: int) -> list[str]:
    recorder, fastest = _train(workload, steps)
    seconds = min(fastest, _benched(workload))
    assert recorder.info is not None
    last = max(window.last_step for window in recorder.windows)
    windows = [window for window in recorder.windows if window.last_step == last]
    ticks = [tick for tick in recorder.ticks if tick.step > last - steps]
    restless = [replace(tick, rates=tuple(rate * (1 + tick.step % 2) for rate in tick.rates)) for tick in ticks]
    rows = []
    for rate, used in (("constant", ticks), ("another at every step", restless)):
        cpu = _cpu(recorder.info, windows, used, steps)
        rows.append(
            f"| {workload.name} | {len(windows)} | {1000 * seconds:.1f} | {rate} | {1000 * cpu:.2f} | "
            f"{cpu / (steps * seconds):.3%} | {recorder.calls_here} |"
        )
    return rows


def _benched(workload: Workload) -> float:
    """Seconds of the unwatched step in the newest table of `make bench`."""
    *_, newest = sorted(PROOF.glob("*-overhead.md"))
    rows = [line.split("|") for line in newest.read_text("utf-8").splitlines() if line.startswith("|")]
    return next(float(row[2]) / 1000 for row in rows if row[1].strip() == workload.name)


def _train(workload: Workload, steps: int) -> tuple[Recorder, float]:
    """The records of a watched training, and its fastest step in seconds."""
    torch.manual_seed(0)
    model, x = workload.build(), workload.batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    times, recorder = [], Recorder()
    with (
        tempfile.TemporaryDirectory() as folder,
        deadneuron.watch(model, optimizer, run=Path(folder) / "run", sinks=[recorder]),
    ):
        recorder.in_training = True
        for _ in range(steps):
            began = time.perf_counter()
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            times.append(time.perf_counter() - began)
        recorder.in_training = False
    return recorder, min(times)


def _cpu(info: RunInfo, windows: Sequence[Window], ticks: Sequence[Tick], steps: int) -> float:
    """CPU seconds a window, the writing thread of torch's SummaryWriter included."""
    batches = [
        (
            [replace(w, first_step=w.first_step + i * steps, last_step=w.last_step + i * steps) for w in windows],
            [replace(tick, step=tick.step + i * steps) for tick in ticks],
        )
        for i in range(WARM + REPEATS)
    ]
    with tempfile.TemporaryDirectory() as folder:
        sink = TensorBoard(folder)
        sink.open(info)
        for batch in batches[:WARM]:
            sink.write(info, *batch)
        began = time.process_time()
        for batch in batches[WARM:]:
            sink.write(info, *batch)
        spent = time.process_time() - began
        sink.close()
    return spent / REPEATS


def _show(lines: list[str]) -> list[str]:
    print("\n".join(lines), flush=True)
    return lines


if __name__ == "__main__":
    main()
