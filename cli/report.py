"""deadneuron report: judge a run folder."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .printing import check_output, format_of, publish

if TYPE_CHECKING:
    from deadneuron.store.reader import StoredRun


class Format(StrEnum):
    """How a report is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    html = "html"


class FailOn(StrEnum):
    """The level of a finding that makes the command fail."""

    warning = "warning"
    severe = "severe"


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, finished or still growing.", show_default=False)],
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="text for people, json for programs, markdown for pull requests, html for a page.",
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
            show_default="the one it was recorded with",
        ),
    ] = None,
    to: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="SINK FOLDER",
            help="Write the run there as well: tensorboard DIR. DIR must be new to TensorBoard.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Which layers are stuck, how many units are dead, since which step, at which learning rate.

    Every count stands beside its sample count n: a unit that was silent on n examples may still fire on up to 3/n of
    them. What was not seen is called unknown, never healthy.

    Exit code 0, or 1 with --fail-on if there is such a finding, or 2 if RUN cannot be read.
    """
    # Inside, so that --help does not wait for pandas.
    from deadneuron.analysis.diagnosis import diagnose, fails
    from deadneuron.frames import Run
    from deadneuron.store.reader import read_folder

    check_output(output)
    stored = read_folder(run)
    diagnosis = diagnose(Run(stored, str(run)), profile)
    if to is not None:
        _replay(stored, *to)
    publish(diagnosis, format_of(output) if format is None else format.value, output)
    if fail_on is not None and fails(diagnosis, fail_on.value):
        raise typer.Exit(1)


def _replay(stored: StoredRun, name: str, folder: Path) -> None:
    from deadneuron.sinks.replay import replay_to

    replay_to(stored, name, folder)
    spans = {(window.phase, window.first_step) for window in stored.windows}
    print(
        f"deadneuron: wrote {len(spans)} windows of {len(stored.info.sites)} sites to {folder}; "
        f"look at them with: tensorboard --logdir {folder}",
        file=sys.stderr,
    )
