"""The report's part on the learning rate: what deaths look like, what the schedule shows, what interventions found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from deadneuron.causes import CAUSES, Cause, Observed, RateBand
from deadneuron.records import Diagnosis, Thresholds
from deadneuron.report.charts.readings import holm_of
from deadneuron.report.deaths import deaths_between
from deadneuron.report.hazards import hazard, rates
from deadneuron.report.page import Chart, Grid, Line, Links, Words
from deadneuron.report.style import printable

_SAID: dict[Cause, str] = {
    "kick": "consistent with a kick by the learning rate (silent within {kick_steps} steps, at a high rate or after a "
    "rise)",
    "gradual": "gradual (the fall took {gradual_steps} steps or more)",
    "data shift": "consistent with a data shift (they fire on the reference batch)",
    "unknown": "unknown",
}


_GROUPS = 8  # parameter groups whose bands are drawn, and …
_TRIALS = 4  # … the newest trials of a kind: a page stays small; tables and sentences tell of all


def rate_lines(diagnosis: Diagnosis) -> Iterator[Line | Grid | Chart]:
    """Lines, tables and what is drawn above them; nothing where nobody died and nothing was tried."""
    if all(episode.born for episode in diagnosis.episodes) and not diagnosis.trials and not _dithered(diagnosis):
        return
    if diagnosis.links:
        yield Chart(_links(diagnosis))
    if diagnosis.source == "checkpoints":
        yield from deaths_between(diagnosis)
    yield from _certified(diagnosis)
    for number, observed in enumerate(diagnosis.observed):
        if len(observed.bands) > 1:
            if number < _GROUPS:
                yield Chart(observed)
            yield _bands(observed)
        yield from _observed(observed)
    own = (link for link in diagnosis.links if link.evidence in ("dither", "observed"))
    yield from (Line("·", Words(printable(link.note))) for link in own)
    for number, trial in enumerate(diagnosis.trials):
        if sum(later.kind == trial.kind for later in diagnosis.trials[number + 1 :]) < _TRIALS:
            yield Chart(trial)
        lines = (f"{trial.kind}: {printable(line)}" for line in trial.summary)
        yield from (Line("·", Words(line)) for line in lines)


def _links(diagnosis: Diagnosis) -> Links:
    groups = {observed.group: observed.name for observed in diagnosis.observed}
    sites = {verdict.site: verdict.name for verdict in diagnosis.verdicts if verdict.site is not None}
    return Links(diagnosis.links, groups, sites, holm_of(diagnosis.trials))


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
        deaths = f"{hazard(band.hazard, band.hazard_low, band.hazard_high)} deaths"
        revivals = f"{hazard(band.revival, band.revival_low, band.revival_high)} revivals"
        where = f"{printable(observed.name)} at rate {rates(band)}"
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
        rates(band),
        f"{band.steps:,}",
        f"{band.deaths:,}",
        hazard(band.hazard, band.hazard_low, band.hazard_high),
        f"{band.revivals:,}",
        hazard(band.revival, band.revival_low, band.revival_high),
    )
