"""Runs the shipped labs from scratch and writes their measured tables into docs/lab.md; what is said of them stays.

make labs      (a few minutes on two cores)
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import tempfile
import time
from pathlib import Path

import torch
from rich.progress import track

from deadneuron.experiments.columns import COLUMNS
from deadneuron.experiments.grid import Lab
from deadneuron.experiments.lab import plan_lab, run_lab
from deadneuron.experiments.labfiles import lab_names, load_lab

PAGE = Path(__file__).parents[1] / "docs" / "lab.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", nargs="*", default=lab_names(), help="all, if none is named")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    total = 0.0
    write("columns", measures())
    with tempfile.TemporaryDirectory() as folder:
        for name in track(args.labs, "labs"):
            lab = load_lab(name)
            plan = plan_lab(lab, Path(folder))
            began = time.monotonic()
            failures = run_lab(plan, args.jobs, lambda event: None)
            if failures:
                raise SystemExit(f"{name}: {failures}")
            took = time.monotonic() - began
            total += took
            write(name, block(lab, len(plan.cells), took, args.jobs, (plan.folder / "summary.md").read_text("utf-8")))
    if set(args.labs) == set(lab_names()):
        write(
            "total",
            f"All {len(args.labs)} together: {total:.0f} s with {args.jobs} processes on a machine with "
            f"{os.cpu_count()} cores ({platform.machine()}, torch {torch.__version__}).\n",
        )


def block(lab: Lab, cells: int, took: float, jobs: int, table: str) -> str:
    """What is generated of one lab: the claim, the command, the time, the table."""
    seeds = len({cell.seed for cell in lab.cells})
    return (
        f"The claim: {lab.lab.claim} ({lab.lab.source})\n\n"
        f"`deadneuron lab {lab.name}`: {cells} cells, {took:.0f} s on {jobs} processes; "
        f"median of {seeds} seeds (least–most).\n\n{table}"
    )


def measures() -> str:
    """The table of measures."""
    of = {"monitor": "the monitor", "set": "the training set", "cell": "the net"}
    lines = ["| measure | of | meaning |", "|---|---|---|"]
    for column in COLUMNS.values():
        whole = f"; shown as a part of `{column.whole}`" if column.whole else ""
        lines.append(f"| `{column.name}` | {of[column.by]} | {column.meaning}{whole} |")
    return "\n".join(lines) + "\n"


def write(part: str, text: str) -> None:
    """Put the text between the marks of that part, or append the part to the page."""
    page = PAGE.read_text("utf-8")
    pattern = re.compile(rf"(<!-- {part}:begin -->\n).*?(<!-- {part}:end -->)", re.DOTALL)
    if not pattern.search(page):
        page += f"\n## {part}\n\n<!-- {part}:begin -->\n<!-- {part}:end -->\n"
    PAGE.write_text(pattern.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", page), "utf-8")


if __name__ == "__main__":
    main()
