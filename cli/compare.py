"""deadneuron compare: what got better and what got worse between two runs."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .comparing import is_report, judged, known_findings, write_known
from .printing import check_output, deliver, format_of, width_of
from .report import FailOn

if TYPE_CHECKING:
    from deadneuron.analysis.difference import Difference


class Format(StrEnum):
    """How a comparison is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    github = "github"


def compare(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A run folder, a report of --format json, or checkpoints of one training.",
            show_default=False,
        ),
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="What is held against it.", show_default=False)],
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 if B has a new finding of this level or a graver one.")
    ] = FailOn.warning,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Findings that are known: they are not new. See --write-baseline.", show_default="none"
        ),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all findings of B there, as known from now on.", show_default=False),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Judge both by this profile: default, strict, or a TOML file. A report was judged already.",
            show_default="those they were recorded with",
        ),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="text for people, json for programs, markdown for pull requests, github for annotations of a "
            "workflow: one for each new finding.",
            show_default="text, or by the ending of --output",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the comparison there.", show_default="stdout"),
    ] = None,
) -> None:
    """What got better and what got worse from A to B: each layer, and each finding.

    A finding is new if A has none of the same code at the same layer, and graver
    if A has a lighter one. Layers are matched by name; one of which nothing is
    known on either side is neither better nor worse.

    In a pull request, hold a run against that of the main branch:

        deadneuron compare main.json runs/new --format github

    A finding that is to stay goes into a baseline, a small file beside the code:

        deadneuron compare main.json runs/new --write-baseline known.json
        deadneuron compare main.json runs/new --baseline known.json

    Exit code 0, or 1 if there is a new or a graver finding (--fail-on), or 2 if
    one of the two cannot be read. Next: deadneuron report B.
    """
    # Inside, so that --help does not wait for pandas.
    from deadneuron.analysis.difference import baseline_of, worsened
    from deadneuron.analysis.difference import compare as compare_them

    check_output(output)
    written = _format(format, output)
    if profile is not None and is_report(before) and is_report(after):
        from deadneuron.errors import UsageError

        raise UsageError("--profile is for runs and checkpoints: a report was judged already", todo="leave it out")
    known = known_findings(baseline)
    first, second = judged(before, profile), judged(after, profile)
    found = compare_them(first, second, known)
    if write_baseline is not None:
        write_known(write_baseline, baseline_of(second))
    then = [f"deadneuron report {shlex.quote(after)} --format html -o report.html"] if not is_report(after) else []
    if found.new or found.graver:
        then.append(f"deadneuron compare {shlex.quote(before)} {shlex.quote(after)} --write-baseline known.json")
    deliver(lambda terminal: _drawn(found, written, then, terminal=terminal), output)
    if worsened(found, fail_on.value):
        raise typer.Exit(1)


def _format(asked: Format | None, output: Path | None) -> str:
    from deadneuron.errors import UsageError

    told = format_of(output) if asked is None else asked.value
    if told == "html":
        raise UsageError("a comparison is no page", where=str(output), todo="name it .md, .json or .txt")
    return told


def _drawn(difference: Difference, format: str, then: list[str], *, terminal: bool) -> str:
    from deadneuron.report.difference import difference_github, difference_markdown, difference_text

    if format == "json":
        from deadneuron.report.difference_json import render_difference

        return render_difference(difference) + "\n"
    if format == "markdown":
        return difference_markdown(difference, then=then)
    if format == "github":
        return difference_github(difference)
    return difference_text(difference, width=width_of(terminal), then=then)
