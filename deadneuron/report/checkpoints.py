"""The words of a report on checkpoints: which they are, how they were judged, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from deadneuron.records import CheckpointInfo, Diagnosis
from deadneuron.report.cells import known
from deadneuron.report.evidence import MEASURED
from deadneuron.report.page import Advice, Grid, Listing
from deadneuron.report.style import printable

_RATES = 4  # of one checkpoint's parameter groups
_PLACES = 3  # in a command
_HEADERS = ("checkpoint", "format", "step", "told by", "lr", "evidence")
_SHARED = {1: "{}", 3: "steps told by {}", 5: "evidence: {}"}  # columns that are said once, where all rows agree


def head(diagnosis: Diagnosis) -> Iterator[str]:
    """The parts of the first line."""
    yield from ("deadneuron", printable(diagnosis.run))
    count = len(diagnosis.checkpoints)
    yield f"{count:,} checkpoint{'s' * (count != 1)}"
    if diagnosis.model:
        yield printable(diagnosis.model)
    if diagnosis.last_step is None:
        yield "steps not known"
    elif diagnosis.first_step in (None, diagnosis.last_step):
        yield f"step {diagnosis.last_step:,}"
    else:
        yield f"steps {diagnosis.first_step:,}–{diagnosis.last_step:,}"


def when(diagnosis: Diagnosis) -> str:
    """At which moment its dead units are dead."""
    last = "at the last one" if len(diagnosis.checkpoints) > 1 else "in it"
    return last if diagnosis.last_step is None else f"at step {diagnosis.last_step:,}"


def how(diagnosis: Diagnosis) -> str:
    """What the verdicts rest on, in a few words."""
    kinds = {verdict.evidence for verdict in diagnosis.verdicts if known(verdict)}
    if not kinds:
        return ""
    if kinds == {MEASURED}:
        return "measured on your examples"
    also = ", and on your examples where it says so" if MEASURED in kinds else ""
    return f"from weights and optimizer state; no code of the checkpoints was run{also}"


def listing(diagnosis: Diagnosis) -> Listing:
    """A row a checkpoint, in the diagnosis's order; what all have in common is said once, above the rows."""
    cells = [_cells(one) for one in diagnosis.checkpoints]
    common: list[str] = []
    shown = list(range(len(_HEADERS)))
    for place, form in _SHARED.items():
        values = {row[place] for row in cells}
        if len(values) == 1:
            shown.remove(place)
            common += [form.format(value) for value in values if value]
            common += ["nothing tells their steps"] * (place == 3 and not any(values))
    shown = [place for place in shown if place == 0 or any(row[place] for row in cells)]
    rows = tuple(tuple(row[place] for place in shown) for row in cells)
    words = tuple(number for number, place in enumerate(shown) if _HEADERS[place] not in ("step", "lr"))
    said = f"{len(cells):,}" + (f": {'; '.join(common)}" if common else "")
    return Listing(said, Grid(tuple(_HEADERS[place] for place in shown), rows, words))


def shortened(grid: Grid, most: int) -> Grid:
    """At most `most` rows: the first, the last, and between them how many are left out."""
    left_out = len(grid.rows) - 2
    if len(grid.rows) <= most:
        return grid
    between = (f"… {left_out:,} more …", *("",) * (len(grid.headers) - 1))
    return Grid(grid.headers, (grid.rows[0], between, grid.rows[-1]), grid.words)


def advice(diagnosis: Diagnosis) -> Iterator[Advice]:
    """What to type next, and "nothing to change" only where that is known."""
    if not diagnosis.findings and diagnosis.status == "healthy":
        yield Advice("nothing to change: hardly a unit died or fell silent")
    verdicts = diagnosis.verdicts
    if not any(verdict.evidence == MEASURED for verdict in verdicts):
        if len(diagnosis.checkpoints) == 1:
            yield Advice("give an earlier checkpoint of the same training too: two tell exactly what one can estimate")
        if not any(asks_to_measure(line) for one in diagnosis.findings for line in one.advice.splitlines()):
            yield Advice("measure the units on your own examples:", command=measuring(diagnosis))
    if any(verdict.died for verdict in verdicts) and diagnosis.checkpoints:
        last = shlex.quote(printable(diagnosis.checkpoints[-1].place))
        command = (f"deadneuron branch {last}", "--setup module:function")
        yield Advice("try which learning rate would kill how many from here on:", command=command, minor=True)
    if diagnosis.episodes:
        command = (f"deadneuron report {_places(diagnosis)}", "--format json")
        yield Advice("every death with its span of steps and rates:", command=command, minor=True)


def asks_to_measure(line: str) -> bool:
    """Whether a finding's advice names the options that measure."""
    return "--model" in line and "--data" in line


def measuring(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The command that measures these checkpoints on the user's examples."""
    return (f"deadneuron report {_places(diagnosis)}", "--model module:factory", "--data module:batches")


def _cells(one: CheckpointInfo) -> tuple[str, ...]:
    rates = [f"{rate:.3g}" for rate in dict.fromkeys(one.rates)]
    lr = ", ".join(rates[:_RATES]) + (f" and {len(rates) - _RATES} more" if len(rates) > _RATES else "")
    step = "not known" if one.step is None else f"{one.step:,}"
    return printable(one.place), printable(one.format), step, printable(one.step_from), lr, printable(one.evidence)


def _places(diagnosis: Diagnosis) -> str:
    """What was reported on, as arguments; "…" where it cannot be told any more."""
    places = [printable(one.place) for one in diagnosis.checkpoints]
    run = printable(diagnosis.run)
    # `scan_checkpoints` joins what it was given, and ends in "…" where that was more.
    given = [run] if _all_below([run], places) else [] if run.endswith("…") else run.split(", ")
    if _all_below(given, places):
        return shlex.join(given)
    return shlex.join(places) if 0 < len(places) <= _PLACES else "…"


def _all_below(folders: Sequence[str], places: Sequence[str]) -> bool:
    inside = tuple(folder.rstrip("/") + "/" for folder in folders)
    return all(folders) and all(place in folders or place.startswith(inside) for place in places)
