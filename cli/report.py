"""deadneuron report: judge a run folder, or checkpoints."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .printing import check_output, format_of, publish
from .scanning import is_run, scan

if TYPE_CHECKING:
    from deadneuron.store.reader import StoredRun


CHECKPOINTS = "Of checkpoints"


class Format(StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    html = "html"
    github = "github"


class FailOn(StrEnum):
    """The level of a finding that makes the command fail."""

    warning = "warning"
    severe = "severe"


def report(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN-OR-CHECKPOINTS...",
            help="A run folder, finished or growing; or checkpoints of one training: files, folders, globs, URLs.",
            show_default=False,
        ),
    ],
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="text for people, json for programs, markdown for pull requests, html for a page with pictures, "
            "github for annotations of a workflow.",
            show_default="text, or by the ending of --output",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the report there.", show_default="stdout"),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(help="Exit with 1 if a finding has this level or a graver one.", show_default="never"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Judge by this profile: default, strict, or a TOML file.",
            show_default="the one a run was recorded with",
        ),
    ] = None,
    to: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="SINK FOLDER",
            help="Write a run there as well: tensorboard DIR. DIR must be new to TensorBoard.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Measure checkpoints: the function that makes the network, in a module or a file (train.py:net).",
            show_default=False,
            rich_help_panel=CHECKPOINTS,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="… and the function that gives batches: x, (x, y), or dicts of the network's arguments.",
            show_default=False,
            rich_help_panel=CHECKPOINTS,
        ),
    ] = None,
    batches: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of that data at most so many batches.", show_default="all", rich_help_panel=CHECKPOINTS
        ),
    ] = None,
    steps_per_epoch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="UPDATES",
            help="Gives a step to checkpoints that tell only their epoch.",
            show_default=False,
            rich_help_panel=CHECKPOINTS,
        ),
    ] = None,
    allow_global: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A class or function that a file mentions, and that is to be skipped: it is neither imported nor run. "
            "May be given several times.",
            show_default=False,
            rich_help_panel=CHECKPOINTS,
        ),
    ] = None,
) -> None:
    """Which layers are stuck, how many units are dead, since which step, at which learning rate.

    Of a RUN every count stands beside its sample count n: a unit that was
    silent on n examples may still fire on up to 3/n of them. What was not seen
    is called unknown, never healthy.

    Of CHECKPOINTS, without their code: which units got no gradient between them,
    told from weights and optimizer state (torch.save files, Lightning, Hugging
    Face Trainer and Accelerate folders, safetensors). Nothing that a file holds
    is run. With --model and --data each is measured on your examples.

    A page with pictures, and annotations of a workflow that fails on what is severe:

        deadneuron report runs/lr0.1 --format html -o report.html
        deadneuron report runs/lr0.1 --format github --fail-on severe

    Exit code 0, or 1 with --fail-on if there is such a finding, or 2 if nothing
    can be read. Next: deadneuron compare A B for what a change did, deadneuron live
    RUN while it trains.
    """
    # Inside, so that --help does not wait for pandas.
    from deadneuron.analysis.gravity import fails

    check_output(output)
    run: Run | None
    if is_run(paths):
        from deadneuron.analysis.diagnosis import diagnose
        from deadneuron.frames import Run
        from deadneuron.store.reader import read_folder

        _refuse(
            model=model,
            data=data,
            batches=batches,
            allow_global=allow_global,
            steps_per_epoch=steps_per_epoch,
            only="checkpoints",
        )
        stored = read_folder(paths[0])
        run = Run(stored, paths[0])
        diagnosis = diagnose(run, profile)
        if to is not None:
            _replay(stored, *to)
    else:
        _refuse(to=to, only="a run")
        run = None
        diagnosis = scan(
            paths,
            model=model,
            data=data,
            batches=batches,
            allow=allow_global or (),
            profile="default" if profile is None else profile,
            steps_per_epoch=steps_per_epoch,
        )
    publish(diagnosis, format_of(output) if format is None else format.value, output, run)
    if fail_on is not None and fails(diagnosis, fail_on.value):
        raise typer.Exit(1)


def _refuse(*, only: str, **options: object) -> None:
    """Options that make no sense for what is given."""
    from deadneuron.errors import UsageError

    for name, value in options.items():
        if value:
            raise UsageError(f"--{name.replace('_', '-')} is for {only} only", todo="leave it out")


def _replay(stored: StoredRun, name: str, folder: Path) -> None:
    from deadneuron.sinks.replay import replay_to

    replay_to(stored, name, folder)
    spans = {(window.phase, window.first_step) for window in stored.windows}
    print(
        f"deadneuron: wrote {len(spans)} windows of {len(stored.info.sites)} sites to {folder}; "
        f"look at them with: tensorboard --logdir {folder}",
        file=sys.stderr,
    )
