"""deadneuron lab: train a grid of small nets and measure what became of their neurons."""

from __future__ import annotations

import shlex
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deadneuron.experiments.grid import Lab
    from deadneuron.experiments.lab import Plan
    from deadneuron.experiments.labdoses import LabDoses
    from deadneuron.experiments.tables import Summary
    from deadneuron.experiments.workers import Event


def lab(
    configs: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONFIG...", help="Names of shipped labs, all of them (all), or TOML files."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Cells trained at a time, one thread each.")] = 2,
    folder: Annotated[Path, typer.Option(help="Each lab gets a folder of its name in here.")] = Path("runs/lab"),
    list_labs: Annotated[bool, typer.Option("--list", help="Show the shipped labs and what each measures.")] = False,
) -> None:
    """Train every cell of a grid (activation × rate × schedule × optimizer × init × norm × depth × seed) on digits.

    Each cell is a run folder of its own that deadneuron report can read; at the end there is one table, also as CSV,
    JSON and Markdown. Cells that are finished are not trained again: a lab that was stopped, killed or changed goes on
    where it must. Needs scikit-learn (pip install 'deadneuron\\[demo]').

    Exit code 0, or 1 if a cell has no result, or 2 for a lab that cannot be read, or 130 after Ctrl-C.
    """
    # Inside and by name, so that --help waits neither for torch nor for pandas.
    from deadneuron.errors import LabError
    from deadneuron.experiments.labfiles import lab_names, load_lab

    if list_labs:
        _show([load_lab(name) for name in lab_names()], jobs)
        return
    if not configs:
        todo = f"give one of {', '.join(lab_names())}, all, or a TOML file; --list tells what they measure"
        raise LabError("no lab was named", todo=todo)
    named = lab_names() if configs == ["all"] else configs
    labs = [load_lab(name) for name in named]  # all are checked before the first is trained
    plans = [import_module("deadneuron.experiments.lab").plan_lab(one, folder) for one in labs]
    again = ["deadneuron", "lab", *configs]
    again += ["--jobs", str(jobs)] * (jobs != 2) + ["--folder", str(folder)] * (folder != Path("runs/lab"))
    sound = [_run(plan, jobs, shlex.join(again)) for plan in plans]
    if not all(sound):
        raise typer.Exit(1)


def _run(plan: Plan, jobs: int, again: str) -> bool:
    """One lab, from its first line to its last; whether every cell has a result."""
    from rich.console import Console

    experiment = import_module("deadneuron.experiments.lab")
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    lab, total = plan.lab, len(plan.cells)
    todo = plan.unfinished()
    expected = _time(lab.seconds(todo, _busy(jobs)))
    left = f"about {expected} for {len(todo)} on {jobs} processes" if todo else "nothing left to train"
    err.print(f"{lab.name}: {total} cells, {total - len(todo)} finished already, {left}", markup=False)
    began = time.monotonic()
    try:
        failures = _train(plan, jobs, err)
    except KeyboardInterrupt:
        done = total - len(plan.unfinished())
        err.print(f"deadneuron: interrupted; {done} of {total} cells are finished. Go on with: {again}", markup=False)
        raise typer.Exit(130) from None
    for name, why in failures.items():
        err.print(f"deadneuron: no result for {name}: {why}", markup=False)
    if todo:
        err.print(f"{lab.name}: {_time(time.monotonic() - began)}", markup=False)
    _tell(plan, *experiment.write_tables(plan))
    return not failures


def _train(plan: Plan, jobs: int, err: Console) -> dict[str, str]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    experiment = import_module("deadneuron.experiments.lab")
    todo = plan.unfinished()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[cells]} of {task.fields[all]} cells"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        steps = sum(plan.lab.steps(cell) for cell in todo)
        task = progress.add_task(plan.lab.name, total=steps, cells=0, all=len(todo))
        ended = 0

        def show(event: Event) -> None:
            nonlocal ended
            ended += event.ended
            progress.update(task, advance=event.steps, cells=ended)

        failures: dict[str, str] = experiment.run_lab(plan, jobs, show)
        return failures


def _tell(plan: Plan, summary: Summary, doses: tuple[LabDoses, ...]) -> None:
    """The claim, the table, where everything is, and what to do next; on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lab = plan.lab
    out = Console(highlight=False) if sys.stdout.isatty() else Console(width=400, highlight=False)
    out.print(Text(f"\n{lab.lab.title}", style="bold"))
    out.print(Text(f"The claim: {lab.lab.claim} ({lab.lab.source})\n"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, header in enumerate(summary.header):
        table.add_column(header, justify="left" if number <= len(lab.varying) else "right")
    for row in summary.rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)
    seeds = len({cell.seed for cell, _ in plan.cells})
    out.print(Text(f"\nMedian of {seeds} seeds (least–most); cells that diverged are only counted."))
    if doses:
        out.print(Text("\n" + import_module("deadneuron.experiments.labdoses").doses_text(doses).rstrip()))
    out.print(Text("\nNOW TRY"))
    worst = max(plan.results(), key=lambda pair: max(layer["dead"] for layer in pair[1]["layers"]), default=None)
    if worst is not None:
        out.print(Text(f"  deadneuron report {plan.folder / worst[0].name}   # the most dead units"), soft_wrap=True)
    out.print(
        Text(f"  {plan.folder}/table.csv   # one row a cell and layer; also table.json, summary.md"), soft_wrap=True
    )
    out.print(Text("  deadneuron lab --list   # what the shipped labs measure"))


def _show(labs: list[Lab], jobs: int) -> None:
    for one in labs:
        seconds = _time(one.seconds(one.cells, _busy(jobs)))
        print(f"{one.name}: {one.lab.title}; {len(one.cells)} cells, about {seconds}")
        print(f"    {one.lab.claim} ({one.lab.source})")
    total = _time(sum(one.seconds(one.cells, _busy(jobs)) for one in labs))
    print(f"\nNOW TRY\n  deadneuron lab {labs[0].name}\n  deadneuron lab all   # about {total}")


def _busy(jobs: int) -> int:
    import os

    return min(jobs, os.cpu_count() or 1)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
