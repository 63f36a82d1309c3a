"""Where a report goes: stdout, as wide and as colourful as that is, or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deadneuron.frames import Run
    from deadneuron.records import Diagnosis

_ENDINGS = {".json": "json", ".md": "markdown", ".markdown": "markdown", ".html": "html", ".htm": "html"}
_WIDTH = 120  # of a text report that no terminal shows


def format_of(output: Path | None) -> str:
    """The format that a file's name asks for: text, unless it ends with .json, .md or .html."""
    return "text" if output is None else _ENDINGS.get(output.suffix.lower(), "text")


def check_output(output: Path | None) -> None:
    """Raises `UsageError` where a report cannot be written to: told before the work, not after it."""
    from deadneuron.errors import UsageError

    if output is None:
        return
    if output.is_dir():
        raise UsageError("the report's file is a folder", where=str(output), todo="give a file's name")
    if not output.absolute().parent.is_dir():
        raise UsageError("the report's folder does not exist", where=str(output.parent), todo="make it first")


def publish(diagnosis: Diagnosis, format: str, output: Path | None, run: Run | None = None) -> None:
    """Write a report to stdout, or to the file `output`, whatever that held before.

    `format` is "text", "json", "markdown", "github" or "html"; a page draws `run`, too. Raises `UsageError` where the
    file cannot be written.
    """
    deliver(lambda terminal: _drawn(diagnosis, format, run, terminal=terminal), output)


def deliver(drawn: Callable[[bool], str], output: Path | None) -> None:
    """Write what `drawn` returns to stdout, or to a file; it is told whether a terminal may show it.

    Raises `UsageError` where the file cannot be written.
    """
    if output is None:
        sys.stdout.write(drawn(True))
        return
    from deadneuron.errors import UsageError

    try:
        output.write_text(drawn(False), "utf-8")
    except OSError as error:
        todo = "give another --output"
        raise UsageError(f"cannot write the report: {error.strerror}", where=str(output), todo=todo) from error
    print(f"deadneuron: wrote the report to {output}", file=sys.stderr)


def width_of(terminal: bool) -> int:
    """Columns of a text: those of the terminal on stdout, if one shows it."""
    from rich.console import Console

    console = Console()
    return console.width if terminal and console.is_terminal else _WIDTH


def _drawn(diagnosis: Diagnosis, format: str, run: Run | None, *, terminal: bool) -> str:
    # Inside, so that a report loads its own drawing and no other.
    if format == "json":
        from deadneuron.report.as_json import render_json

        return render_json(diagnosis) + "\n"
    if format == "markdown":
        from deadneuron.report.markdown import render_markdown

        return render_markdown(diagnosis)
    if format == "github":
        from deadneuron.report.github import render_github

        return render_github(diagnosis)
    if format == "html":
        from deadneuron.analysis.picture import picture_of, picture_of_series
        from deadneuron.report.html import render_html

        return render_html(diagnosis, picture_of_series(diagnosis) if run is None else picture_of(run, diagnosis))
    from rich.console import Console

    from deadneuron.report.text import render_text

    console = Console()
    if not terminal or not console.is_terminal:
        return render_text(diagnosis, width=_WIDTH)
    return render_text(diagnosis, width=console.width, color=not console.no_color)
