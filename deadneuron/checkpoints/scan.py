"""Checkpoints judged: `scan_checkpoints` gives the same `Diagnosis` that a run gives, from files alone or with data."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from deadneuron.analysis.gravity import gravest
from deadneuron.checkpoints.contents import Checkpoint, Interval, Layer, Progress, Traces
from deadneuron.checkpoints.evidence.alone import traces_of
from deadneuron.checkpoints.evidence.finite import nonfinite_units
from deadneuron.checkpoints.evidence.kinship import are_akin, are_strangers
from deadneuron.checkpoints.evidence.layers import find_layers, left_out
from deadneuron.checkpoints.evidence.replay import replay
from deadneuron.checkpoints.files.fetching import shown
from deadneuron.checkpoints.judging import Judged, judge
from deadneuron.checkpoints.layouts.gathering import gathered
from deadneuron.checkpoints.layouts.schedules import rates_between
from deadneuron.checkpoints.lives import Span
from deadneuron.checkpoints.sentences import of_coverage, of_layer, of_norm
from deadneuron.checkpoints.series import gaps_of, rate_span, settings_of, subjects_of
from deadneuron.errors import CheckpointError, UsageError
from deadneuron.profiles import Profile, load_profile
from deadneuron.records import DIAGNOSIS_VERSION, LEVELS, CheckpointInfo, Coverage, Diagnosis, Finding, Gap, Status

Place = str | os.PathLike[str]
OnProgress = Callable[[str, float], None]
"""Told (what is being done, which share of it is done)."""


def scan_checkpoints(
    paths: Place | Sequence[Place],
    *,
    model: Any = None,
    data: Any = None,
    profile: str | Profile = "default",
    allow: Collection[str] = (),
    batches: int | None = None,
    steps_per_epoch: int | None = None,
    on_progress: OnProgress = lambda what, share: None,
) -> Diagnosis:
    """Judge checkpoints of one training: files, folders, globs, or fsspec URLs of them.

    Without `model` and `data` the files alone speak: which units got no gradient between two checkpoints (replay of the
    optimizer with zero gradients), and what one checkpoint's optimizer state tells of the steps before it. With both,
    every checkpoint is measured: `model` is a module or a function that makes one, `data` an iterable of batches or a
    function that gives one, of which at most `batches` are used. `steps_per_epoch` (updates) gives a step to
    checkpoints that tell only their epoch.

    No code that stands in a checkpoint is run. `allow` names classes that a file mentions and that may be skipped.

    Raises:
        CheckpointError: nothing to judge is found, a file cannot be read safely, model and weights do not fit, or
            checkpoints of several trainings are mixed.
        ProfileError: an unknown profile.
        UsageError: only one of `model` and `data` is given.
    """
    if (model is None) != (data is None):
        given, missing = ("model", "data") if data is None else ("data", "model")
        raise UsageError(f"{given} is given, {missing} is not", todo="give both, to measure; or none of them")
    chosen = load_profile(profile)
    places = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    addresses = [os.fspath(place) for place in places]
    name = ", ".join(map(shown, addresses[:3])) + (" …" if len(addresses) > 3 else "")
    fetching = _progress(on_progress, f"looking at {name}")
    with gathered(addresses, allow, fetching, steps_per_epoch) as found:
        _one_training(found.checkpoints, chosen)
        if model is not None:
            return _measured(name, found.checkpoints, found.gaps, chosen, model, data, batches, on_progress)
        return _alone(name, found.checkpoints, found.gaps, chosen, on_progress)


def _one_training(checkpoints: Sequence[Checkpoint], profile: Profile) -> None:
    """Raise `CheckpointError` where one checkpoint has nothing in common with its neighbours, which clearly have with
    each other: then trainings are mixed. Where all is forgotten from each to the next, that is one training, too."""
    layers, forensics = find_layers(checkpoints[-1]), profile.checkpoints
    for before, one, after in zip(checkpoints, checkpoints[1:], checkpoints[2:], strict=False):
        strange = are_strangers(before, one, layers, forensics) and are_strangers(one, after, layers, forensics)
        if strange and are_akin(before, after, layers, forensics):
            what = (
                f"it is of another training than {before.place} and {after.place}: their weights have nothing in common"
            )
            raise CheckpointError(what, where=one.place, todo="give the checkpoints of one training")


def _alone(
    name: str,
    checkpoints: Sequence[Checkpoint],
    gaps: Sequence[Gap],
    profile: Profile,
    on_progress: OnProgress,
) -> Diagnosis:
    layers = find_layers(checkpoints[-1])
    patience, forensics = profile.thresholds.patience, profile.checkpoints
    traces: list[tuple[Traces, ...]] = []
    intervals: list[tuple[Interval, ...]] = []
    for number, checkpoint in enumerate(checkpoints):
        reading = _progress(on_progress, f"reading {_at(checkpoint, number)}")
        traces.append(traces_of(checkpoint, layers, patience, forensics, reading))
        if number:
            before = checkpoints[number - 1]
            comparing = _progress(on_progress, f"replaying {_at(before, number - 1)} to {_at(checkpoint, number)}")
            rates = rates_between(before, checkpoint)
            intervals.append(replay(before, checkpoint, layers, rates, forensics, comparing))
    last = checkpoints[-1]
    nonfinite = [nonfinite_units(last, layer) for layer in layers]
    intervals = _without_nan(checkpoints, layers, intervals, nonfinite)
    subjects = subjects_of(layers, traces, intervals, patience, _begun_anew(checkpoints[0]), nonfinite)
    judged = _without_silent_norms([judge(subject, profile.thresholds, last.step) for subject in subjects])
    findings: list[Finding] = []
    for one in judged:
        layer = layers[one.subject.number]
        findings += of_layer(one, profile.thresholds, settings_of(last, layer.parts[0].name), last.step)
        findings += of_norm(layer, traces[-1][one.subject.number], profile)
    seen = [*gaps, *(gap for one in checkpoints for gap in one.gaps), *left_out(last), *gaps_of(intervals)]
    how = [_how(number, traces, intervals) for number in range(len(checkpoints))]
    return _diagnosis(name, _weights(layers), checkpoints, how, judged, findings, seen, profile)


def _without_nan(
    checkpoints: Sequence[Checkpoint],
    layers: Sequence[Layer],
    intervals: Sequence[tuple[Interval, ...]],
    nonfinite: Sequence[int],
) -> list[tuple[Interval, ...]]:
    """Rows with NaN differ from every replay, and did not come to life. NaN stays: the last checkpoint tells of it."""
    made = [list(of) for of in intervals]
    for number, of in enumerate(made):
        for place, layer in enumerate(layers):
            if nonfinite[place] and nonfinite_units(checkpoints[number + 1], layer):
                of[place] = replace(of[place], still=None, reason="it holds NaN or Inf")
    return [tuple(of) for of in made]


def _begun_anew(checkpoint: Checkpoint) -> bool:
    """Whether the optimizer has counted much fewer updates than the training has."""
    states = (state for optimizer in checkpoint.optimizers for state in optimizer.states.values())
    counts = [step for state in states if isinstance(step := state.get("step"), (int, float))]
    return bool(counts) and checkpoint.stated is not None and max(counts) < 0.9 * checkpoint.stated


def _without_silent_norms(judged: Sequence[Judged]) -> Sequence[Judged]:
    """Norms that stand alone and of which nothing is known are gaps, not layers: no gate stands behind most of them."""
    known = [one for one in judged if one.lives is not None or one.subject.nonfinite]
    return [one for one in judged if one.lives is not None or one.subject.op != "norm"] if known else judged


def _measured(
    name: str,
    checkpoints: Sequence[Checkpoint],
    gaps: Sequence[Gap],
    profile: Profile,
    model: Any,
    data: Any,
    batches: int | None,
    on_progress: OnProgress,
) -> Diagnosis:
    from deadneuron.checkpoints import measured  # only here: what it needs takes seconds to import

    total = len(checkpoints)

    def on_batch(done: int, batch: int) -> None:
        share = done / total if batches is None else (done + batch / batches) / total
        on_progress(f"measuring {_at(checkpoints[done], done)}, batch {batch}", share)

    counted = measured.measure(checkpoints, model, data, profile, batches=batches, on_batch=on_batch)
    used = [(one.step, rates_between(one, other), one) for one, other in pairwise(checkpoints)]

    def spans(feeder: str | None) -> dict[int, Span]:
        known = ((step, rate_span(rates, one, feeder)) for step, rates, one in used)
        return {step: span for step, span in known if step is not None and span is not None}

    judged = [judge(subject, profile.thresholds) for subject in measured.subjects_of(counted, profile, spans)]
    findings = [
        finding
        for one, site in zip(judged, counted.sites, strict=True)
        for finding in of_layer(
            one, profile.thresholds, settings_of(checkpoints[-1], site.feeder), checkpoints[-1].step
        )
    ]
    how = [measured.MEASURED] * len(checkpoints)
    return _diagnosis(name, counted.model, checkpoints, how, judged, findings, [*gaps, *counted.gaps], profile)


def _diagnosis(
    name: str,
    model: str,
    checkpoints: Sequence[Checkpoint],
    how: Sequence[str],
    judged: Sequence[Judged],
    findings: Iterable[Finding],
    gaps: Iterable[Gap],
    profile: Profile,
) -> Diagnosis:
    verdicts = tuple(one.verdict for one in judged)
    unseen = tuple(verdict.name for verdict in verdicts if verdict.units is None)
    coverage = Coverage(len(verdicts) - len(unseen), len(verdicts), unseen)
    dated = all(checkpoint.step is not None for checkpoint in checkpoints)
    told = [*findings, *of_coverage(coverage, dated=dated)]
    blind: list[Status] = [] if coverage.seen else ["unknown"]
    steps = [checkpoint.step for checkpoint in checkpoints if checkpoint.step is not None]
    return Diagnosis(
        version=DIAGNOSIS_VERSION,
        run=name,
        model=model,
        status=gravest([*(verdict.status for verdict in verdicts), *blind]),
        first_step=min(steps, default=None),
        last_step=max(steps, default=None),
        ended=None,
        ended_by=None,
        dataset_size=None,
        thresholds=profile.thresholds,
        sampling=None,
        coverage=coverage,
        verdicts=verdicts,
        episodes=tuple(episode for one in judged if one.lives is not None for episode in one.lives.episodes),
        history=tuple(one.history for one in judged if one.history is not None),
        answer=_answer(judged),
        certificates=(),
        observed=(),
        links=(),
        trials=(),
        reference=None,
        findings=tuple(sorted(told, key=lambda finding: -LEVELS.index(finding.level))),
        gaps=tuple(dict.fromkeys(gaps)),
        source="checkpoints",
        checkpoints=tuple(_info(one, way) for one, way in zip(checkpoints, how, strict=True)),
    )


def _answer(judged: Sequence[Judged]) -> str:
    """What checkpoints can say of the rate: empty where nobody died after the first of them."""
    deaths = [episode for one in judged for episode in one.lasting if not episode.born]
    dated = [death for death in deaths if death.rates is not None]
    if not deaths:
        return ""
    at = f"{len(dated):,} of {len(deaths):,} deaths are dated to updates whose rates are known"
    return f"was it the rate? checkpoints cannot tell: {at}, and a rate that was used is not yet a cause"


def _info(checkpoint: Checkpoint, how: str) -> CheckpointInfo:
    groups = [group for optimizer in checkpoint.optimizers for group in optimizer.groups]
    rates = tuple(float(group.settings["lr"]) for group in groups if isinstance(group.settings.get("lr"), (int, float)))
    return CheckpointInfo(checkpoint.place, checkpoint.format, checkpoint.step, checkpoint.step_from, rates, how)


def _how(number: int, traces: Sequence[Sequence[Traces]], intervals: Sequence[Sequence[Interval]]) -> str:
    """How one checkpoint was judged, in a few words."""
    said = []
    if number and any(one.still is not None for one in intervals[number - 1]):
        said.append("replay from the one before")
    if any(one.age is not None or one.never is not None for one in traces[number]):
        said.append("its optimizer's state")
    if not said and any(one.closed is not None for one in traces[number]):
        said.append("the signs of its weights")
    return ", ".join(said) or "none alone"


def _at(checkpoint: Checkpoint, number: int) -> str:
    return f"checkpoint {number + 1}" if checkpoint.step is None else f"step {checkpoint.step:,}"


def _weights(layers: Sequence[Layer]) -> str:
    units = sum(layer.units for layer in layers)
    return f"{len(layers)} layers, {units:,} units"


def _progress(on_progress: OnProgress, what: str) -> Progress:
    on_progress(what, 0.0)
    return Progress(lambda done, total: on_progress(what, done / total if total else 1.0))
