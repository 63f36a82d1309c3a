"""deadneuron demo: see neurons die, and be told."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deadneuron.experiments.demo import Outcome


def demo(
    folder: Annotated[Path, typer.Option(help="Where the runs go; runs of an older demo there are replaced.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Train three small nets on real scans of digits under the monitor, and tell what happened to their neurons.

    The same net at a fair learning rate, at four times that rate, and at that rate with batch norm. Takes under a
    minute on two cores; needs scikit-learn (pip install 'deadneuron\\[demo]').
    """
    # Inside and by name, so that --help waits neither for torch nor for pandas.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deadneuron.report.text import render_text

    experiment = import_module("deadneuron.experiments.demo")
    config = experiment.demo_config()
    steps = config["training"]["steps"]
    err = Console(stderr=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        tasks = {cell["name"]: progress.add_task(cell["name"], total=steps) for cell in config["cells"]}
        trained = experiment.run_demo(folder, config, lambda name, step: progress.advance(tasks[name]))
        outcomes: list[Outcome] = list(trained)
    out = Console()
    width = out.width if out.is_terminal else 120
    worst = max(outcomes, key=lambda outcome: max(outcome.never))
    sys.stdout.write(render_text(worst.diagnosis, width=width, color=out.is_terminal and not out.no_color))
    sys.stdout.write(_story(outcomes, worst))


def _story(outcomes: list[Outcome], worst: Outcome) -> str:
    lines = ["", "THE STORY"]
    for outcome in outcomes:
        first = outcome.diagnosis.verdicts[0]
        dead = f"{first.dead:>3} of {first.units} units of layer 1 dead"
        lines.append(f"  {outcome.name:<16} {outcome.diagnosis.status:<8} {dead}, test accuracy {outcome.accuracy:.2f}")
        lines.append(f"  {'':<16} {outcome.story}")
    never = f"{worst.never[0]:.0%} of layer 1 of {worst.name}"
    lines += [
        f"  Measured apart from the monitor: {never} is positive on no training",
        f"  image at all, while its test accuracy reads {worst.accuracy:.2f}. A loss curve does not show dead units.",
        "",
        "NOW TRY",
    ]
    lines += [f"  deadneuron report {outcome.path}" for outcome in outcomes]
    lines.append(f"  deadneuron report {worst.path} --format json --fail-on warning   # exit code 1")
    return "\n".join(lines) + "\n"
