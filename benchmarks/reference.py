"""What a reference batch costs: the share of a run's time that its passes take, as the report states it.

python benchmarks/reference.py [--write]      (about 2 minutes)
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from datetime import date
from pathlib import Path

import torch
from models import WORKLOADS, Workload
from rich.progress import track

import deadneuron

OUT = Path(__file__).parents[1] / "docs" / "proof" / f"{date.today()}-reference.md"
STEPS = 101  # three drains: after steps 0, 49 and 99


def measured(workload: Workload, times: int, folder: Path) -> list[str]:
    """One row: a reference batch of so many training batches."""
    torch.manual_seed(0)
    model, x = workload.build(), workload.batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    frozen = torch.cat([workload.batch() for _ in range(times)])
    with deadneuron.watch(model, optimizer, folder, reference=frozen):
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    cost = deadneuron.diagnose(deadneuron.read_run(folder)).reference
    assert cost is not None
    share, one = cost.seconds / cost.of_seconds, 1000 * cost.seconds / cost.passes
    return [workload.name, f"{cost.examples:,}", str(cost.passes), f"{one:.0f}", f"{share:.1%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/proof/<date>-reference.md")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    rows = [["model", "reference examples", "passes", "ms a pass", "share of the run's time"], ["---"] * 5]
    cells = [(workload, times) for workload in WORKLOADS for times in (1, 4)]
    with tempfile.TemporaryDirectory() as folder:
        for number, (workload, times) in enumerate(track(cells, "reference")):
            rows.append(measured(workload, times, Path(folder) / str(number)))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    made = f"`python benchmarks/reference.py`, torch {torch.__version__}, CPU, {torch.get_num_threads()} threads"
    how = f"{made}, {STEPS} steps, windows of 50 steps; the reference batch is one training batch, or four."
    text = f"# What a reference batch costs\n\n{how}\n\n{table}\n"
    if asked.write:
        OUT.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
