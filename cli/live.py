"""deadneuron live: look at a run while it grows."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deadneuron.report.glance import Glance


def live(
    run: Annotated[Path, typer.Argument(help="A run folder; it may not be there yet.", show_default=False)],
    every: Annotated[
        float, typer.Option(min=0.2, metavar="SECONDS", help="Between two looks; more where one takes long.")
    ] = 2.0,
    profile: Annotated[
        str | None,
        typer.Option(help="Judge by this profile.", show_default="the one it was recorded with"),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, print one line and end.")] = False,
) -> None:
    """Follow a run while it trains: its layers' dead units over time, the learning rate, the newest findings.

    It waits for a run that has not begun, goes on when the run ends or is started
    anew, and ends with Ctrl-C. The screen is drawn only when the run's files
    changed, so that it may run over ssh, and looking takes at most a tenth of the
    time. Where stdout is no terminal, a line is printed at each change:

        deadneuron live runs/lr0.1 >> log.txt

    Exit code 0 (also after Ctrl-C), or 2 for what will never be a run. Next:
    deadneuron report RUN.
    """
    # Inside, so that --help does not wait for pandas.
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # it leaves the terminal as it was, as Ctrl-C does
        _follow(run, every, profile, once)
    except KeyboardInterrupt:
        print(f"deadneuron: stopped looking; next: deadneuron report {shlex.quote(str(run))}", file=sys.stderr)


def _follow(run: Path, every: float, profile: str | None, once: bool) -> None:
    from rich.console import Console

    from deadneuron.report.glance import Glance

    glance = Glance(run, profile)
    console = Console()
    if once or not sys.stdout.isatty() or console.is_dumb_terminal:
        _lines(glance, every, once)
    else:
        _screens(glance, every, console)


def _screens(glance: Glance, every: float, console: Console) -> None:
    from rich.live import Live

    from deadneuron.report.glance import pause
    from deadneuron.report.live import screen

    size = None
    with Live(console=console, screen=False, auto_refresh=False, vertical_overflow="crop") as view:
        while True:
            began = time.monotonic()
            if glance.look() or size != console.size:
                size = console.size
                view.update(screen(glance, size.width, size.height - 1), refresh=True)  # a line for the cursor
            time.sleep(pause(every, time.monotonic() - began))


def _lines(glance: Glance, every: float, once: bool) -> None:
    from deadneuron.report.glance import pause
    from deadneuron.report.live import line

    before = ""
    while True:
        began = time.monotonic()
        if glance.look():
            said = line(glance)
            if said != before:
                print(said, flush=True)
            before = said
        if once:
            return
        time.sleep(pause(every, time.monotonic() - began))
