"""Why deadneuron counts as it does: rows at or below zero for each unit, written in several ways.

python benchmarks/counting.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from deadneuron.measure.counters import Scratch, count_closed, histogram
from deadneuron.records import HISTOGRAM_EDGES

SHAPES = {
    "(256, 1024)": ((256, 1024), (0,)),
    "(16, 64, 32, 32)": ((16, 64, 32, 32), (0, 2, 3)),
    "(16, 128, 1024)": ((16, 128, 1024), (0, 1)),
}


def main() -> None:
    scratch = Scratch()
    edges = torch.tensor(HISTOGRAM_EDGES, dtype=torch.float32)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; µs, median of 200\n")
    print("| shape | x.relu() | (x <= 0).sum | count_closed | bucketize + bincount | histogram |")
    print("|---|---|---|---|---|---|")
    for name, (shape, dims) in SHAPES.items():
        x = torch.randn(shape)
        ways: list[Callable[[], Tensor | None]] = [
            lambda x=x: x.relu(),
            lambda x=x, dims=dims: (x <= 0).sum(dims),
            lambda x=x, dims=dims: count_closed(x, dims, (0.0, float("inf")), None, scratch),
            lambda x=x: torch.bincount(torch.bucketize(x.flatten(), edges), minlength=len(edges) + 1),
            lambda x=x: histogram(x, scratch),
        ]
        print(f"| {name} | " + " | ".join(f"{_median(way):,.0f}" for way in ways) + " |")


def _median(act: Callable[[], object], times: int = 200) -> float:
    for _ in range(10):
        act()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


if __name__ == "__main__":
    main()
