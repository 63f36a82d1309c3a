"""One `Diagnosis` for a run: the only place where a run is judged. Every reporter shows this and computes nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from deadneuron.analysis.episodes import find_episodes
from deadneuron.analysis.findings import make_findings
from deadneuron.analysis.rates import RateTable, observed_links
from deadneuron.analysis.verdicts import judge_site, share_history
from deadneuron.frames import Run
from deadneuron.profiles import Profile, load_profile
from deadneuron.records import DIAGNOSIS_VERSION, LEVELS, Coverage, Diagnosis, Episode, Level, Status, Verdict


def diagnose(run: Run, profile: str | Path | Profile | None = None) -> Diagnosis:
    """Judge a run by a profile's thresholds; by default those it was recorded with.

    Raises `ProfileError` for an unknown profile.
    """
    thresholds = run.info.thresholds if profile is None else load_profile(profile).thresholds
    last_step = _last_step(run)
    rates = RateTable(run)
    episodes: list[Episode] = []
    verdicts: list[Verdict] = []
    for site in run.sites:
        timeline = run.timelines.get(site.number)
        if timeline is None:
            verdicts.append(Verdict(site.number, site.name, site.op, "unknown"))
            continue
        own = find_episodes(timeline, thresholds, partial(rates.at, group=site.group))
        episodes += own
        verdicts.append(judge_site(timeline, own, thresholds, timeline.last_step if last_step is None else last_step))
    verdicts += _never_called(run)
    coverage = Coverage(
        seen=len(run.timelines),
        known=len(verdicts),
        unseen=tuple(v.name for v in verdicts if v.units is None),
    )
    findings = make_findings(verdicts, episodes, coverage, thresholds, last_step)
    return Diagnosis(
        version=DIAGNOSIS_VERSION,
        run=run.name,
        model=run.info.model,
        status=_worst(verdicts),
        first_step=min((t.first_step for t in run.timelines.values()), default=None),
        last_step=last_step,
        thresholds=thresholds,
        sampling=run.info.sampling,
        coverage=coverage,
        verdicts=tuple(verdicts),
        episodes=tuple(episodes),
        history=tuple(share_history(timeline, thresholds) for timeline in run.timelines.values()),
        links=observed_links(run, episodes),
        findings=findings,
        gaps=run.gaps,
    )


def fails(diagnosis: Diagnosis, level: Level) -> bool:
    """Whether a finding is at or above `level`."""
    return any(LEVELS.index(finding.level) >= LEVELS.index(level) for finding in diagnosis.findings)


def _never_called(run: Run) -> list[Verdict]:
    called = {site.module for site in run.sites}
    return [Verdict(None, name, "", "unknown") for name in run.info.modules if name not in called]


def _last_step(run: Run) -> int | None:
    steps = [timeline.last_step for timeline in run.timelines.values()]
    # Ticks are written apart from windows: of a killed run they may reach further, by less than a window. By more if
    # no site is seen any longer. Evaluation passes come and go: there the ticks say nothing of what was to be seen.
    if len(run.ticks) and (run.phase == "train" or not steps):
        steps.append(int(run.ticks["step"].max()))
    return max(steps, default=None)


def _worst(verdicts: list[Verdict]) -> Status:
    found = {verdict.status for verdict in verdicts if verdict.units} or {"unknown"}
    if any(verdict.units is None for verdict in verdicts):
        found.add("unknown")
    order: tuple[Status, ...] = ("severe", "warning", "unknown", "healthy")
    return next(status for status in order if status in found)
