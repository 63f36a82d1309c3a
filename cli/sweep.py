"""deadneuron sweep: an unedited script at several learning rates and seeds."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deadneuron.analysis.comparison import Comparison
    from deadneuron.experiments.processes import Ended
    from deadneuron.experiments.sweep import SweepPlan


class Format(StrEnum):
    """How the result is printed."""

    text = "text"
    json = "json"


def sweep(
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="A training script, as it is.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="-- ARGS...", help="Its own arguments.")] = None,
    lr: Annotated[str, typer.Option(metavar="RATE,RATE...", help="Rates of the first parameter group.")] = "",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings at each rate; 4 can show p < .05.")] = 4,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="Trainings at a time; they share the cores.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Default: runs/sweep/<name of the script>.")] = None,
    profile: Annotated[str, typer.Option(help="How to measure and judge: a name or a TOML file.")] = "default",
    python: Annotated[str, typer.Option(help="Another Python that has deadneuron, to run the script with.")] = "",
    output: Annotated[Format, typer.Option("--format", help="Of what goes to stdout.")] = Format.text,
) -> None:
    """Train a script once for each rate and seed, and compare how many units die and revive.

    The script stays as it is: its models and optimizers are found while it runs, all its rates are multiplied by one
    factor while an optimizer steps (schedule and ratios between groups stay), and the seeds that it sets are moved.
    Runs are compared at the same step and at the same sum of rates, with an exact test over seeds. Trainings that are
    finished are not run again: a sweep that was stopped, or gets more rates or seeds, goes on.

    Exit code 0, or 1 if a training has no result, or 2 for a script that cannot be swept, or 130 after Ctrl-C.
    """
    # Inside and by name, so that --help waits neither for torch nor for pandas.
    from rich.console import Console

    experiment = import_module("deadneuron.experiments.sweep")
    tables = import_module("deadneuron.experiments.sweeptables")
    if args and "--" not in sys.argv and "sweep" in sys.argv:
        from deadneuron.errors import UsageError

        hint = "rates stand together, --lr 0.1,0.2; what is the script's stands behind --"
        raise UsageError("what is this argument?", where=args[0], todo=hint)
    rates = _rates(lr)
    where = folder or Path("runs/sweep") / script.stem
    plan: SweepPlan = experiment.plan_sweep(
        script,
        tuple(args or ()),
        lrs=rates,
        seeds=seeds,
        folder=where,
        profile=profile,
        python=python or sys.executable,
    )
    again = _again(plan, rates, seeds, parallel, folder, profile, python, output)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    total, todo = len(plan.dials), plan.unfinished()
    ready = f", {total - len(todo)} finished already" if len(todo) < total else ""
    err.print(
        f"{script}: {_many(len(rates), 'rate')} × {_many(seeds, 'seed')} = {_many(total, 'training')}{ready}; {where}",
        markup=False,
    )
    began = time.monotonic()
    try:
        if todo:
            _train(plan, parallel, err)
    except KeyboardInterrupt:
        done = total - len(plan.unfinished())
        err.print(
            f"deadneuron: interrupted; {done} of {total} trainings are finished. Go on with: {again}", markup=False
        )
        raise typer.Exit(130) from None
    if todo:
        err.print(f"{_many(len(todo), 'training')} in {time.monotonic() - began:.0f} s", markup=False)
    document, comparisons = tables.write_sweep(plan)
    failures = plan.failures()
    for failure in failures:
        err.print(f"deadneuron: no result: {failure}; see {where / failure.name / 'log.txt'}", markup=False)
    if output is Format.json:
        print(json.dumps(document, indent=1))
    else:
        _tell(plan, comparisons, again if failures else "")
    if plan.unfinished():
        raise typer.Exit(1)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _rates(text: str) -> tuple[float, ...]:
    from deadneuron.errors import UsageError

    todo = "give rates above 0, e.g. --lr 0.01,0.03,0.1"
    try:
        rates = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError("--lr is a list of numbers", where=text or "nothing", todo=todo) from None
    if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise UsageError("--lr needs rates above 0, each once", where=text, todo=todo)
    return tuple(sorted(rates))


def _again(
    plan: SweepPlan,
    rates: tuple[float, ...],
    seeds: int,
    parallel: int,
    folder: Path | None,
    profile: str,
    python: str,
    output: Format,
) -> str:
    """The command that goes on with this sweep."""
    words = ["deadneuron", "sweep", str(plan.script), "--lr", ",".join(f"{rate!r}" for rate in rates)]
    words += ["--seeds", str(seeds)] + ["--parallel", str(parallel)] * (parallel != 1)
    words += ["--folder", str(folder)] * (folder is not None) + ["--profile", profile] * (profile != "default")
    words += ["--python", python] * bool(python) + ["--format", output.value] * (output is not Format.text)
    words += ["--", *plan.args] if plan.args else []
    return shlex.join(words)


def _train(plan: SweepPlan, parallel: int, err: Console) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[ended]} of {task.total:.0f} trainings,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[running]}"),
    )
    todo = plan.unfinished()
    known = [result["steps"] for _, result in plan.results()]  # how long a training is, once one is finished
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task(plan.script.name, total=len(todo), ended=0, running="")
        ended = 0

        def end(one: Ended) -> None:
            nonlocal ended
            ended += 1
            if not err.is_terminal:
                how = "" if one.exit_code == 0 else f" failed with {one.exit_code}"
                err.print(f"{one.name}{how}: {one.seconds:.0f} s, {ended} of {len(todo)}", markup=False)
            known.extend(r["steps"] for dial, r in plan.results() if dial.name == one.name)

        def look(running: Mapping[str, int]) -> None:
            length = max(known, default=0)
            part = sum(min(steps / length, 1.0) for steps in running.values()) if length else 0.0
            now = ", ".join(f"{steps:,}" for steps in running.values()) + (f" of {length:,}" if length else "")
            progress.update(task, completed=ended + part, ended=ended, running=f"; at step {now}" if running else "")

        import_module("deadneuron.experiments.sweep").run_sweep(plan, parallel, end, look)


def _tell(plan: SweepPlan, comparisons: list[Comparison], again: str) -> None:
    """The dose-response, where everything is, and what to do next; on stdout."""
    from rich.console import Console

    from deadneuron.report.doses import render_comparison

    out = Console()
    width = out.width if out.is_terminal else 120
    for comparison in comparisons:
        head = f"{plan.script.name}" + (f", {comparison.model}" if len(comparisons) > 1 else "")
        print(f"\n{head}\n\n{render_comparison(comparison, width=width, narrow=out.is_terminal)}", end="")
    print("\nNOW TRY")
    if again:
        print(f"  {again}   # the trainings that failed, once more")
    results = plan.results()
    if results:
        dial, result = max(results, key=lambda pair: (pair[0].lr, -pair[0].replicate))
        run = shlex.quote(str(plan.folder / dial.name / result["runs"][0]))
        print(f"  deadneuron report {run}   # the highest rate, unit by unit")
    print(f"  {plan.folder}/table.csv   # one row a training; also sweep.json, and summary.md with the whole tables")
