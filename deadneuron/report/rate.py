"""The report's part on the learning rate: what deaths look like, what the schedule shows, what interventions found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from deadneuron.causes import CAUSES, Cause, Observed, RateBand
from deadneuron.records import Diagnosis, Thresholds
from deadneuron.report.style import printable

Line = tuple[str, Text]
"""A mark and what stands beside it."""

_SAID: dict[Cause, str] = {
    "kick": "consistent with a kick by the learning rate (silent within {kick_steps} steps, at a high rate or after a "
    "rise)",
    "gradual": "gradual (the fall took {gradual_steps} steps or more)",
    "data shift": "consistent with a data shift (they fire on the reference batch)",
    "unknown": "unknown",
}


def rate_lines(diagnosis: Diagnosis) -> Iterator[Line | RenderableType]:
    """Lines and tables, nothing where nobody died and nothing was tried."""
    if all(episode.born for episode in diagnosis.episodes) and not diagnosis.trials and not _dithered(diagnosis):
        return
    yield from _certified(diagnosis)
    for observed in diagnosis.observed:
        if len(observed.bands) > 1:
            yield _bands(observed)
        yield from _observed(observed)
    own = (link for link in diagnosis.links if link.evidence in ("dither", "observed"))
    yield from (("·", Text(printable(link.note))) for link in own)
    for trial in diagnosis.trials:
        lines = (f"{trial.kind}: {printable(line)}" for line in trial.summary)
        yield from (("·", Text(line)) for line in lines)


def _dithered(diagnosis: Diagnosis) -> bool:
    return any(link.evidence == "dither" for link in diagnosis.links)


def _certified(diagnosis: Diagnosis) -> Iterator[Line]:
    deaths = sum(not episode.born for episode in diagnosis.episodes)
    counts: Counter[Cause] = Counter(c.cause for c in diagnosis.certificates if c.cause != "born dead")
    if not counts:
        return
    thresholds: Thresholds = diagnosis.thresholds
    active = f"units that had been active on over {thresholds.established:.0%} of rows"
    yield "·", Text(f"deaths of {active}: {counts.total():,} of {deaths:,}")
    words = {"kick_steps": thresholds.kick_steps, "gradual_steps": thresholds.gradual_steps}
    for cause in sorted(counts, key=lambda cause: (-counts[cause], CAUSES.index(cause))):
        yield " ", Text(f"{counts[cause]:>4,} {_SAID[cause].format(**words)}")
    if diagnosis.reference is None and counts["kick"] + counts["gradual"]:
        yield " ", Text("a shift of the data cannot be told from these without watch(reference=batch)", style="dim")


def _observed(observed: Observed) -> Iterator[Line]:
    if len(observed.bands) == 1:
        band = observed.bands[0]
        deaths = f"{_hazard(band.hazard, band.hazard_low, band.hazard_high)} deaths"
        revivals = f"{_hazard(band.revival, band.revival_low, band.revival_high)} revivals"
        where = f"{printable(observed.name)} at rate {_span(band)}"
        yield "·", Text(f"{where}: {deaths} a 1,000 unit-steps at risk, {revivals} a 1,000 of dead ones")
    facts = []
    if observed.safe is not None:
        facts.append(f"no death used a rate up to {observed.safe:.3g}")
    if observed.dispersion is not None:
        facts.append(f"dispersion {observed.dispersion:.2g} (1: deaths fall one by one, more: in bursts)")
    facts.append(f"deaths after step {observed.last_step:,} cannot be known, and are left out")
    if any(band.hazard_low is not None for band in observed.bands):
        facts.append("in brackets 95 %, where a band has enough windows")
    yield "·", Text(f"{printable(observed.name)}: {'; '.join(facts)}")
    if observed.note:
        yield "·", Text(printable(observed.note), style="dim")


def _bands(observed: Observed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(f"rate of {printable(observed.name)}")
    for header in ("steps", "deaths", "a 1,000 unit-steps", "revivals", "a 1,000 of dead ones"):
        table.add_column(header, justify="right")
    for band in observed.bands:
        table.add_row(
            _span(band),
            f"{band.steps:,}",
            f"{band.deaths:,}",
            _hazard(band.hazard, band.hazard_low, band.hazard_high),
            f"{band.revivals:,}",
            _hazard(band.revival, band.revival_low, band.revival_high),
        )
    return table


def _span(band: RateBand) -> str:
    low, high = f"{band.low:.3g}", f"{band.high:.3g}"
    return low if low == high else f"{low}–{high}"


def _hazard(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    span = "" if low is None or high is None else f" ({_thousand(low)}–{_thousand(high)})"
    return _thousand(value) + span


def _thousand(hazard: float) -> str:
    return f"{1000 * hazard:.2g}"
