"""deadneuron live: look at a run while it grows."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def live(
    run: Annotated[Path, typer.Argument(help="A run folder; it may not be there yet.", show_default=False)],
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    profile: Annotated[
        str | None,
        typer.Option(help="Judge by this profile.", show_default="the one it was recorded with"),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Follow a run while it trains: the newest findings, and each layer's dead share over time.

    It waits for a run that has not begun, goes on when the run ends or is started
    anew, and ends with Ctrl-C. Over ssh too; where stdout is no terminal a line is
    printed at each change.

    Exit code 0 (also after Ctrl-C), or 2 for what will never be a run.
    """
    from rich.console import Console
    from rich.live import Live

    from deadneuron.report.live import Glance, line, screen

    console = Console()
    glance = Glance(run, profile)
    if once or not console.is_terminal:
        _lines(glance, every, once)
        return
    try:
        with Live(console=console, screen=False, auto_refresh=False, vertical_overflow="crop") as view:
            while True:
                if glance.look():
                    view.update(screen(glance, console.width, console.height), refresh=True)
                time.sleep(every)
    except KeyboardInterrupt:
        print(line(glance), file=sys.stderr)


def _lines(glance: object, every: float, once: bool) -> None:
    from deadneuron.report.live import Glance, line

    assert isinstance(glance, Glance)
    before = ""
    try:
        while True:
            glance.look()
            said = line(glance)
            if said != before:
                print(said, flush=True)
            before = said
            if once:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return
