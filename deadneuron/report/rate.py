"""The report's part on the learning rate: what deaths look like, what the schedule shows, what interventions found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deadneuron.causes import CAUSES, Cause, Observed, RateBand
from deadneuron.records import Diagnosis, Thresholds
from deadneuron.report.cells import span
from deadneuron.report.deaths import deaths_between
from deadneuron.report.page import Grid, Line, Words
from deadneuron.report.style import printable

_SAID: dict[Cause, str] = {
    "kick": "consistent with a kick by the learning rate (silent within {kick_steps} steps, at a high rate or after a "
    "rise)",
    "gradual": "gradual (the fall took {gradual_steps} steps or more)",
    "data shift": "consistent with a data shift (they fire on the reference batch)",
    "unknown": "unknown",
}


def rate_lines(diagnosis: Diagnosis) -> Iterator[Line | Grid]:
    """Lines and tables, nothing where nobody died and nothing was tried."""
    if all(episode.born for episode in diagnosis.episodes) and not diagnosis.trials and not _dithered(diagnosis):
        return
    if diagnosis.source == "checkpoints":
        yield from deaths_between(diagnosis)
    yield from _certified(diagnosis)
    for observed in diagnosis.observed:
        if len(observed.bands) > 1:
            yield _bands(observed)
        yield from _observed(observed)
    own = (link for link in diagnosis.links if link.evidence in ("dither", "observed"))
    yield from (Line("·", Words(printable(link.note))) for link in own)
    for trial in diagnosis.trials:
        lines = (f"{trial.kind}: {printable(line)}" for line in trial.summary)
        yield from (Line("·", Words(line)) for line in lines)


def _dithered(diagnosis: Diagnosis) -> bool:
    return any(link.evidence == "dither" for link in diagnosis.links)


def _certified(diagnosis: Diagnosis) -> Iterator[Line]:
    deaths = sum(not episode.born for episode in diagnosis.episodes)
    counts: Counter[Cause] = Counter(c.cause for c in diagnosis.certificates if c.cause != "born dead")
    if not counts:
        return
    thresholds: Thresholds = diagnosis.thresholds
    active = f"units that had been active on over {thresholds.established:.0%} of rows"
    yield Line("·", Words(f"deaths of {active}: {counts.total():,} of {deaths:,}"))
    words = {"kick_steps": thresholds.kick_steps, "gradual_steps": thresholds.gradual_steps}
    for cause in sorted(counts, key=lambda cause: (-counts[cause], CAUSES.index(cause))):
        yield Line(" ", Words(f"{counts[cause]:>4,} {_SAID[cause].format(**words)}"))
    if diagnosis.reference is None and counts["kick"] + counts["gradual"]:
        yield Line(" ", Words("a shift of the data cannot be told from these without watch(reference=batch)", dim=True))


def _observed(observed: Observed) -> Iterator[Line]:
    if len(observed.bands) == 1:
        band = observed.bands[0]
        deaths = f"{_hazard(band.hazard, band.hazard_low, band.hazard_high)} deaths"
        revivals = f"{_hazard(band.revival, band.revival_low, band.revival_high)} revivals"
        where = f"{printable(observed.name)} at rate {_span(band)}"
        yield Line("·", Words(f"{where}: {deaths} a 1,000 unit-steps at risk, {revivals} a 1,000 of dead ones"))
    facts = []
    if observed.safe is not None:
        facts.append(f"no death used a rate up to {observed.safe:.3g}")
    if observed.dispersion is not None:
        facts.append(f"dispersion {observed.dispersion:.2g} (1: deaths fall one by one, more: in bursts)")
    facts.append(f"deaths after step {observed.last_step:,} cannot be known, and are left out")
    if any(band.hazard_low is not None for band in observed.bands):
        facts.append("in brackets 95 %, where a band has enough windows")
    yield Line("·", Words(f"{printable(observed.name)}: {'; '.join(facts)}"))
    if observed.note:
        yield Line("·", Words(printable(observed.note), dim=True))


def _bands(observed: Observed) -> Grid:
    headers = (f"rate of {printable(observed.name)}", "steps", "deaths", "a 1,000 unit-steps", "revivals")
    return Grid((*headers, "a 1,000 of dead ones"), tuple(_band(band) for band in observed.bands))


def _band(band: RateBand) -> tuple[str, ...]:
    return (
        _span(band),
        f"{band.steps:,}",
        f"{band.deaths:,}",
        _hazard(band.hazard, band.hazard_low, band.hazard_high),
        f"{band.revivals:,}",
        _hazard(band.revival, band.revival_low, band.revival_high),
    )


def _span(band: RateBand) -> str:
    return span(f"{band.low:.3g}", f"{band.high:.3g}")


def _hazard(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    span = "" if low is None or high is None else f" ({_thousand(low)}–{_thousand(high)})"
    return _thousand(value) + span


def _thousand(hazard: float) -> str:
    return f"{1000 * hazard:.2g}"
