"""What watching costs: watched loops beside an unwatched one, and a second unwatched one as the noise floor.

All loops of a workload live in one process and take turns in random order, a few steps at a time; each turn is compared
with the unwatched loop's turn of the same round. Absolute times would mostly tell what else the machine was doing.

    python benchmarks/overhead.py [--rounds 60] [--threads 2] [--further]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import FURTHER, WORKLOADS, Workload

import deadneuron

Arms = dict[str, Callable[[Path], dict[str, Any]] | None]
"""Loops by name; the first is what the others are compared with. None: unwatched; else arguments of `watch`, made of
the loop's own folder."""

ARMS: Arms = {
    "unwatched": None,
    "unwatched again (noise floor)": None,
    "watched, default": lambda folder: {},
    "watched, full statistics at every step": lambda folder: {"every": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10, help="steps in one turn; 10 hold one of full statistics")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--further", action="store_true", help="functional activations and compiled models instead")
    parser.add_argument("--write", action="store_true", help="write docs/proof/<date>-overhead.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lines = [
        f"torch {torch.__version__}, CPU, {args.threads} threads, {args.rounds} rounds of {args.steps} steps an arm; "
        "AdamW; median over rounds of the ratio to the unwatched loop in the same round, less 1.",
        "",
        "| model | ms a step | loop | cost | 95 % of the median |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for workload in FURTHER if args.further else WORKLOADS:
        rows = rows_of(workload.name, measure(workload, ARMS, args.rounds, args.steps), args.steps)
        print("\n".join(rows), flush=True)
        lines += rows
    if args.write:
        kind, target = ("further", "bench-further") if args.further else ("overhead", "bench")
        path = Path(__file__).parents[1] / "docs" / "proof" / f"{date.today()}-{kind}.md"
        path.write_text(f"# What watching costs (`make {target}`)\n\n" + "\n".join(lines) + "\n", "utf-8")


def measure(workload: Workload, arms: Arms, rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of each turn, by arm."""
    order = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        turns = {
            name: _loop(workload, options, Path(folder) / str(i), stack)
            for i, (name, options) in enumerate(arms.items())
        }
        for turn in turns.values():
            turn(steps)  # warm-up: sites are found, memory is got
        times: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(rounds):
            names = list(turns)
            order.shuffle(names)
            for name in names:
                began = time.perf_counter()
                turns[name](steps)
                times[name].append(time.perf_counter() - began)
        return times


def _loop(
    workload: Workload, options: Callable[[Path], dict[str, Any]] | None, folder: Path, stack: ExitStack
) -> Callable[[int], None]:
    torch.manual_seed(0)
    model, x = workload.build(), workload.batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    if options is not None:
        stack.enter_context(deadneuron.watch(model, optimizer, run=folder, **options(folder)))

    called = torch.compile(model, backend=workload.backend) if workload.backend else model

    def turn(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            called(x).square().mean().backward()
            optimizer.step()

    return turn


def rows_of(name: str, times: dict[str, list[float]], steps: int) -> list[str]:
    """A line of the table for each arm but the first."""
    first, *_ = times
    base = np.array(times[first])
    milliseconds = 1000 * float(np.median(base)) / steps
    rows = []
    for arm, seconds in times.items():
        if arm != first:
            ratios = np.array(seconds) / base - 1
            low, high = _interval(ratios)
            cost = f"{np.median(ratios):+.1%} | {low:+.1%} to {high:+.1%}"
            rows.append(f"| {name} | {milliseconds:.1f} | {arm} | {cost} |")
    return rows


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the median."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
