"""One `Diagnosis` for a run: the only place where a run is judged. Every reporter shows this and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from deadneuron.analysis.advice import Evidence, advise
from deadneuron.analysis.answer import answer
from deadneuron.analysis.bands import observe, observed_links
from deadneuron.analysis.certificates import certify
from deadneuron.analysis.dithered import dither_links
from deadneuron.analysis.divergence import Output, of_run, output_of
from deadneuron.analysis.divergence import of_site as divergence
from deadneuron.analysis.episodes import find_episodes
from deadneuron.analysis.findings import no_steps, of_coverage, of_site
from deadneuron.analysis.gravity import gravest
from deadneuron.analysis.rates import RateTable, deaths_of
from deadneuron.analysis.signs import find_signs
from deadneuron.analysis.start import first_step
from deadneuron.analysis.verdicts import judge_site, share_history
from deadneuron.causes import Certificate
from deadneuron.frames import Run, read_run
from deadneuron.profiles import Profile, load_profile
from deadneuron.records import (
    DIAGNOSIS_VERSION,
    LEVELS,
    Coverage,
    Diagnosis,
    Finding,
    Reference,
    Site,
    Status,
    Verdict,
)

_UNDECIDED = frozenset({"lost", "too-short", "silent"})  # findings that leave a site unknown, and say no worse of it


def diagnose(run: Run | str | Path, profile: str | Path | Profile | None = None) -> Diagnosis:
    """Judge a run by a profile's thresholds; by default those it was recorded with.

    Raises `ProfileError` for an unknown profile, and what `read_run` raises where `run` is a path.
    """
    run = run if isinstance(run, Run) else read_run(run)
    thresholds = run.info.thresholds if profile is None else load_profile(profile).thresholds
    last_step, output = _last_step(run), output_of(run)
    rates = RateTable(run)
    timelines = run.timelines
    by_site = {
        site.number: find_episodes(timelines[site.number], thresholds, partial(rates.at, groups=site.groups))
        for site in run.sites
        if site.number in timelines
    }
    episodes = [episode for own in by_site.values() for episode in own]
    certificates = certify(run, episodes, thresholds)
    certified: dict[int, list[Certificate]] = {}
    for certificate in certificates:
        certified.setdefault(certificate.site, []).append(certificate)
    interventions = [*dither_links(run, episodes, thresholds), *(link for trial in run.trials for link in trial.links)]
    links = (*interventions, *observed_links(run, episodes, thresholds))
    observed = observe(run, episodes, thresholds)
    verdicts: list[Verdict] = []
    findings: list[Finding] = [] if output.since is None else [of_run(output.since)]
    if run.timelines and not len(run.ticks) and run.phase == "train":
        findings.append(no_steps())
    for site in run.sites:
        timeline = timelines.get(site.number)
        if timeline is None:
            verdicts.append(Verdict(site.number, site.name, site.op, "unknown"))
            continue
        own = by_site[site.number]
        end = timeline.last_step if last_step is None else last_step
        verdict = judge_site(timeline, own, thresholds, end, diverged=not output.finite)
        dead = [episode for episode in own if episode.last_step is None]
        evidence = Evidence(
            certificates=certified.get(site.number, []),
            trials=run.trials,
            links=links,
            settings=_settings(run, site),
            thresholds=thresholds,
        )
        advice = advise(deaths_of(dead), evidence)
        made = [
            *divergence(verdict, timeline, output, run.info.sampling.every),
            *of_site(verdict, dead, first_step(timeline), thresholds, last_step, advice),
            *find_signs(timeline, verdict, thresholds),
        ]
        levels = [finding.level for finding in made if finding.code not in _UNDECIDED]
        verdicts.append(replace(verdict, status=gravest([verdict.status, *levels])))
        findings += made
    verdicts += _never_called(run)
    coverage = Coverage(
        seen=len(run.timelines),
        known=len(verdicts),
        unseen=tuple(v.name for v in verdicts if v.units is None),
    )
    findings += of_coverage(coverage)
    return Diagnosis(
        version=DIAGNOSIS_VERSION,
        run=run.name,
        model=run.info.model,
        status=gravest([*(v.status for v in verdicts), *_of_all(run, output)]),
        first_step=min((t.first_step for t in run.timelines.values()), default=None),
        last_step=last_step,
        ended=run.info.ended,
        ended_by=run.info.ended_by,
        dataset_size=run.info.dataset_size,
        thresholds=thresholds,
        sampling=run.info.sampling,
        coverage=coverage,
        verdicts=tuple(verdicts),
        episodes=tuple(episodes),
        history=tuple(share_history(timeline, thresholds) for timeline in run.timelines.values()),
        answer=answer(run.trials, links, certificates, observed),
        certificates=certificates,
        observed=observed,
        links=links,
        trials=run.trials,
        reference=_reference(run),
        findings=tuple(sorted(findings, key=lambda finding: -LEVELS.index(finding.level))),
        gaps=run.gaps,
    )


def _settings(run: Run, site: Site) -> Mapping[str, Any]:
    """Momentum, betas … of the parameter group that feeds a site."""
    known = run.info.settings
    return known[site.group] if site.group is not None and site.group < len(known) else {}


def _reference(run: Run) -> Reference | None:
    sizes = [window.samples for windows in run.references.values() for window in windows]
    known = run.info.reference
    return replace(known, examples=max(sizes)) if known is not None and sizes else known


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


def _of_all(run: Run, output: Output) -> Iterator[Status]:
    if not run.timelines:
        yield "unknown"
    if output.since is not None:
        yield "severe"
