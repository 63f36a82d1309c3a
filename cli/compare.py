"""deadneuron compare: what got better and what got worse between two runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .report import FailOn, Format

if TYPE_CHECKING:
    from deadneuron.records import Diagnosis


def compare(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="A run folder, or a report of --format json.", show_default=False)
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="What is held against it.", show_default=False)],
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 if B has a new finding of this level or a graver one.")
    ] = FailOn.warning,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Findings that are known: they are not new. See --write-baseline.", show_default="none"),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the findings of B there, as known from now on.", show_default=False),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Judge both runs by this profile.", show_default="those they were recorded with"),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="text for people, json for programs.")] = Format.text,
) -> None:
    """What got better and what got worse from A to B: layers, findings, new ones.

    A finding is new if A has none of the same code at the same layer, or a
    lighter one. Layers are matched by name; one of which nothing is known on
    either side is neither better nor worse.

    Exit code 0, or 1 if there is a new finding (--fail-on), or 2 if one cannot be
    read.
    """
    from pydantic import TypeAdapter
    from rich.console import Console

    from deadneuron.analysis.difference import Difference, worsened
    from deadneuron.analysis.difference import compare as compare_them
    from deadneuron.report.difference import difference_text

    found = compare_them(_read(before, profile), _read(after, profile), _known(baseline))
    if write_baseline is not None:
        keys = sorted({(one.code, one.where) for one in (*found.new, *found.known)} | set(_known(baseline)))
        _write(write_baseline, json.dumps({"known": keys}, indent=1))
    if format is Format.json:
        print(TypeAdapter(Difference).dump_json(found, indent=1).decode())
    else:
        console = Console()
        sys.stdout.write(difference_text(found, width=console.width if console.is_terminal else 120))
    if worsened(found, fail_on.value):
        raise typer.Exit(1)


def _read(path: Path, profile: str | None) -> Diagnosis:
    """The diagnosis of a run folder, or the one that a JSON report is."""
    from pydantic import ValidationError

    from deadneuron.analysis.diagnosis import diagnose
    from deadneuron.errors import NewerFormatError, NotARunError
    from deadneuron.records import DIAGNOSIS_VERSION
    from deadneuron.report.as_json import parse_json

    if not path.is_file():
        return diagnose(path, profile)
    todo = "give a run folder, or what deadneuron report RUN --format json wrote"
    try:
        text = path.read_text("utf-8")
        version = json.loads(text)["version"]
        if isinstance(version, int) and version > DIAGNOSIS_VERSION:
            raise NewerFormatError("a later deadneuron wrote this report", where=str(path), todo="update deadneuron")
        return parse_json(text)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        what = f"this is neither a run folder nor a report: {str(error).partition(chr(10))[0][:80]}"
        raise NotARunError(what, where=str(path), todo=todo) from None


def _known(baseline: Path | None) -> set[tuple[str, str]]:
    from deadneuron.errors import UsageError

    if baseline is None:
        return set()
    try:
        return {(str(code), str(where)) for code, where in json.loads(baseline.read_text("utf-8"))["known"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"this baseline cannot be read: {str(error).partition(chr(10))[0][:80]}"
        raise UsageError(what, where=str(baseline), todo="write one with --write-baseline") from None


def _write(path: Path, text: str) -> None:
    from deadneuron.errors import UsageError

    try:
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write: {error.strerror}", where=str(path), todo="choose another place") from None
