"""A lab: every cell of a grid trained under the monitor, two at a time, and one table at the end. Stops and goes on.

runs/lab/<lab>/<cell>/            a run folder, and result.json once the cell is finished
runs/lab/<lab>/table.csv, .json   one row a cell and layer
runs/lab/<lab>/summary.md         the table that people read, and below it the comparison of rates over seeds
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadneuron.errors import LabError, UsageError
from deadneuron.experiments.cells import read_result, write_whole
from deadneuron.experiments.grid import Cell, Lab
from deadneuron.experiments.labdoses import LabDoses, compare_lab, doses_json, doses_text
from deadneuron.experiments.labfiles import settings
from deadneuron.experiments.tables import Summary, long_rows, summarise, to_csv, to_json, to_markdown
from deadneuron.experiments.workers import Event, Job, run_jobs


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done in which folder."""

    lab: Lab
    folder: Path
    cells: tuple[tuple[Cell, dict[str, Any]], ...]  # each with its settings

    def results(self) -> list[tuple[Cell, dict[str, Any]]]:
        """The cells that are finished, each with its result, in the grid's order."""
        read = ((cell, read_result(self.folder / cell.name, own)) for cell, own in self.cells)
        return [(cell, result) for cell, result in read if result is not None]

    def unfinished(self) -> tuple[Cell, ...]:
        """The cells without a result, or with one of other settings."""
        done = {cell for cell, _ in self.results()}
        return tuple(cell for cell, _ in self.cells if cell not in done)


def plan_lab(lab: Lab, folder: Path) -> Plan:
    """Check against torch and the digits what the lab file alone could not tell, before anything is trained.

    Raises `LabError` for an activation that cannot be watched or a batch that no epoch fills, `MissingExtraError`
    without scikit-learn.
    """
    import torch

    from deadneuron.experiments.digits import load_digits
    from deadneuron.experiments.nets import find_activation

    for grid in lab.grid:
        for name in grid.activation:
            try:
                find_activation(name)
            except UsageError as error:
                raise LabError(
                    f"grid.activation does not know {name!r}", where=f"lab {lab.name}", todo=error.todo
                ) from None
    images = len(load_digits(1, lab.data.scale, torch.Generator()).train_x) + 1
    if lab.training.batch > images - lab.data.test:
        what = f"training.batch and data.test need more than the {images} images"
        raise LabError(what, where=f"lab {lab.name}", todo="change the values")
    return Plan(lab, folder / lab.name, tuple((cell, settings(lab, cell)) for cell in lab.cells))


def run_lab(plan: Plan, jobs: int, on_event: Callable[[Event], None]) -> dict[str, str]:
    """Train what is unfinished and write the tables. Gives, for each cell that failed, why.

    Raises `LabError` where the folder cannot be written.
    """
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot write the lab's folder: {error.strerror}"
        raise LabError(what, where=str(plan.folder), todo="give another --folder") from None
    missing = set(plan.unfinished())
    failures: dict[str, str] = {}

    def note(event: Event) -> None:
        if event.failed is not None:
            failures[event.name] = event.failed
        on_event(event)

    # The longest first, so that none is left alone at the end.
    todo = sorted((pair for pair in plan.cells if pair[0] in missing), key=lambda pair: -_work(plan.lab, pair[0]))
    run_jobs([Job(cell.name, own, plan.folder / cell.name) for cell, own in todo], jobs, note)
    write_tables(plan)
    return failures


def write_tables(plan: Plan) -> tuple[Summary, tuple[LabDoses, ...]]:
    """Write the tables of the cells that are finished; gives the summary and the comparison of rates."""
    results = plan.results()
    rows = long_rows(results)
    summary, doses = summarise(plan.lab, rows), compare_lab(plan.lab, plan.folder, results)
    compared = f"\n```text\n{doses_text(doses)}```\n" if doses else ""
    for name, text in (
        ("table.csv", to_csv(rows)),
        ("table.json", to_json(plan.lab, rows, doses_json(doses))),
        ("summary.md", to_markdown(summary) + compared),
    ):
        write_whole(plan.folder / name, text)
    return summary, doses


def _work(lab: Lab, cell: Cell) -> float:
    return lab.seconds((cell,), 1)
