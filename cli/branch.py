"""deadneuron branch: how many units would die at which learning rate, from a checkpoint on."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from deadneuron.experiments.curve import Branch
    from deadneuron.experiments.setups import Setup


class Format(StrEnum):
    """How the result is printed."""

    text = "text"
    json = "json"


_DEFAULT = "0.25,0.5,1,2,4,8"


def branch(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Given to the setup function as it stands.", show_default=False)
    ],
    setup: Annotated[
        str,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="The function that loads the training: a module of this folder or an installed one, or a file "
            "(train.py:setup).",
            show_default=False,
        ),
    ],
    multipliers: Annotated[
        str | None,
        typer.Option(help="Of the rate that the training now has, with commas between.", show_default=_DEFAULT),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps at each rate. 20 forecast 200 to a few percent.")] = 20,
    run: Annotated[Path | None, typer.Option(help="The run folder that keeps the result.", show_default="none")] = None,
    format: Annotated[Format, typer.Option("--format", help="text for people, json for programs.")] = Format.text,
    profile: Annotated[str, typer.Option(help="Judge by this profile: default, strict, or a TOML file.")] = "default",
    offload: Annotated[bool, typer.Option("--offload", help="Keep the copy of the training in host memory.")] = False,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Exit with 1 unless this learning rate is safe: not above the largest that was found safe.",
            show_default="never",
        ),
    ] = None,
) -> None:
    """From a checkpoint: how many units would die at which learning rate, by trying each for a few steps.

    Write a function that takes the checkpoint's path and gives the training as it stands there, as a dict:

        def setup(checkpoint):
            state = torch.load(checkpoint)
            model.load_state_dict(state["model"]); optimizer.load_state_dict(state["optimizer"])
            def step(batch):          # one whole step, without the scheduler's
                ...
                return loss
            return dict(model=model, optimizer=optimizer, step_fn=step, batches=loader)

    It may give probe, scaler, extra, forward and multipliers too. Each multiple of
    the rate gets a few steps from that state; then those units are counted that had
    fired before and are silent now. Nothing is written but the result, with --run.
    What your code prints goes to stderr.

    Exit code 0, or 1 with --fail-above, or 2 for wrong usage or a step that cannot
    be probed, or 130 after Ctrl-C.
    """
    # Inside and by name, so that --help waits neither for torch nor for pandas.
    setups = import_module("deadneuron.experiments.setups")
    wanted = None if multipliers is None else _numbers(multipliers)
    with redirect_stdout(sys.stderr):
        loaded: Setup = setups.call_setup(setups.load_setup(setup), checkpoint)
        given = wanted or list(loaded.multipliers or _numbers(_DEFAULT))
        arguments = loaded.arguments() | {"multipliers": given, "steps": steps, "run": run, "profile": profile}
        result = _probe(arguments | {"offload": offload}, len(set(given)) * steps)
    if format is Format.json:
        print(result.to_json())
    else:
        sys.stdout.write(f"{result}\n")
        _tell_next(result, run)
    if fail_above is not None and (result.safe is None or fail_above > result.safe):
        largest = "none was found safe" if result.safe is None else f"safe is up to {result.safe:g}"
        print(f"deadneuron: {fail_above:g} is not safe: {largest}", file=sys.stderr)
        raise typer.Exit(1)


def _probe(arguments: dict[str, Any], total: int) -> Branch:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from deadneuron.errors import BranchError, DeadneuronError
    from deadneuron.userfunctions import own_line

    err = Console(stderr=True)
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=total)

        reached = ""

        def show(multiplier: float, step: int) -> None:
            nonlocal reached
            reached = f" behind step {step + 1} at ×{multiplier:g}"
            progress.update(task, description=f"×{multiplier:g}", advance=1)

        try:
            probe = import_module("deadneuron.experiments.branch").probe_learning_rates
            result: Branch = probe(**arguments, on_step=show)
        except DeadneuronError:
            raise
        except KeyboardInterrupt:
            err.print("deadneuron: interrupted; the training is as it was, and nothing was kept", markup=False)
            raise typer.Exit(130) from None
        except Exception as error:
            line = own_line(error)
            what = f"the training raised {type(error).__name__}{reached}: {error}" + (f" at {line}" if line else "")
            raise BranchError(what, todo="mend it, or leave out the multipliers at which it breaks") from error
    return result


def _numbers(text: str) -> list[float]:
    from deadneuron.errors import UsageError

    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        todo = f"numbers with commas between, such as {_DEFAULT}"
        raise UsageError("multipliers must be numbers", where=f"--multipliers {text}", todo=todo) from None


def _tell_next(result: Branch, run: Path | None) -> None:
    lines = ["", "NOW TRY"]
    if result.over is not None and result.safe is not None:
        lines.append("  finer multipliers between the two:  --multipliers " + _between(result))
    if run is None:
        lines.append("  keep the result with a run:         --run runs/NAME")
    else:
        lines.append(f"  deadneuron report {run}   # tells of this probe too")
    sys.stdout.write("\n".join(lines) + "\n")


def _between(result: Branch) -> str:
    """Four multipliers from the highest that is under the threshold to the next, evenly on a log scale."""
    low, high = result.under[-1].multiplier, result.points[len(result.under)].multiplier
    return ",".join(f"{low * (high / low) ** (part / 3):.3g}" for part in range(4))
