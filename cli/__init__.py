"""The command line: one file a verb. Each parses, calls one function of the library, prints, and sets the exit code.

0 healthy or nothing at the asked level · 1 a finding at or above --fail-on · 2 wrong usage or unreadable data.
The report goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import io
import sys
import traceback
from typing import Annotated

import typer

from deadneuron import __version__
from deadneuron.errors import DeadneuronError

from .branch import branch
from .compare import compare
from .demo import demo
from .lab import lab
from .live import live
from .report import report
from .sweep import sweep

app = typer.Typer(
    name="deadneuron",
    help="Are my neurons dead, since when, and was it the learning rate? Training diagnostics for PyTorch.",
    epilog="Start with: deadneuron demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command()(report)
app.command()(live)
app.command()(compare)
app.command()(demo)
app.command()(lab)
app.command()(branch)
app.command()(sweep)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"deadneuron {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> int:
    """Entry point: errors of this package are one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 shows question marks, and no traceback
            stream.reconfigure(errors="replace")
    try:
        app()
    except DeadneuronError as error:
        print(f"deadneuron: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deadneuron: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # … | head
        sys.stderr.close()
        return 0
    except Exception:  # a bug of ours must not look like a finding, which is 1
        traceback.print_exc()
        return 2
    return 0
