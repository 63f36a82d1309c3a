"""From verdicts on checkpoints to findings: what was found, how it is known, what to do. Codes are those of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deadneuron.analysis.advice import Evidence, advise
from deadneuron.checkpoints.contents import Layer, Traces
from deadneuron.checkpoints.dates import by_birth, first_steps, told_when
from deadneuron.checkpoints.judging import Judged
from deadneuron.checkpoints.series import is_hint
from deadneuron.profiles import Profile
from deadneuron.records import Coverage, Episode, Finding, Thresholds, Verdict

_MEASURE = "measure it: with --model module:factory --data module:batches each unit is counted on your own examples"
_STEP = (
    'tell how many updates lie between them: save the step ("step" in the dict), call the files step_<N>.pt, or say '
    "--steps-per-epoch N where they tell their epoch"
)


def of_layer(
    judged: Judged, thresholds: Thresholds, settings: Mapping[str, Any], last_step: int | None = None
) -> Iterator[Finding]:
    """What one layer's verdict gives rise to; `settings` are those of its parameter group, `last_step` is the last
    checkpoint's."""
    verdict, subject = judged.verdict, judged.subject
    if not verdict.units:
        return
    if verdict.nonfinite:
        text = f"{named(verdict)} has NaN or Inf in {_of(verdict.nonfinite, verdict)} at the last checkpoint"
        how = "train again from before it, at a lower rate or with clipped gradients: what is NaN stays so"
        yield Finding(
            "nonfinite", "severe", verdict.name, text, how, {"units": verdict.units, "nonfinite": verdict.nonfinite}
        )
    if judged.lives is None:
        return
    deaths = [episode for episode in judged.lasting if not episode.born]
    early, later = by_birth(judged, deaths)
    when = told_when(early, later, measured=verdict.evidence == "measured")
    evidence = _evidence(judged, deaths, thresholds)
    advice = _advice(judged, early, later, thresholds, settings)
    if verdict.stuck:
        parts = _parts(verdict)
        many = f"{_of(verdict.dead, verdict)} {_are_dead(verdict)}"
        text = f"{named(verdict)} is stuck: {many}{parts}{when}"
        yield Finding("stuck", "severe", verdict.name, text, advice, evidence)
    elif (verdict.died or 0) / verdict.units >= thresholds.warning:
        many = f"{_of(verdict.died, verdict)} {_are_dead(verdict)}"
        text = f"{named(verdict)}{' is dying' if later else ''}: {many}{when}"
        yield Finding("dying", "warning", verdict.name, text, advice, evidence)
    if not verdict.stuck and (verdict.born_dead or 0) / verdict.units >= thresholds.warning:
        text = f"{named(verdict)}: {_of(verdict.born_dead, verdict)} are born dead: {_never(verdict)}"
        how = "this is initialization, inputs or an earlier training, and not this training's learning rate"
        yield Finding("born-dead", "note", verdict.name, text, how, evidence)
    if verdict.status == "unknown" and not subject.partial:
        yield _lost(verdict, last_step or 0, evidence) if judged.lost else _undecided(verdict, evidence, thresholds)


def of_norm(layer: Layer, traces: Traces, profile: Profile) -> Iterator[Finding]:
    """Units whose batch norm leaves them all but closed: a hint, for the normal distribution is assumed."""
    if traces.closed is None or not is_hint(layer):
        return
    count, limit = int(traces.closed.sum()), profile.checkpoints.norm_closed
    if count / layer.units < profile.thresholds.warning:
        return
    share = f"{count} of {layer.units} units ({count / layer.units:.0%})"
    text = (
        f"{layer.name}: β/|γ| of {share} is below {limit:g}: if a ReLU stands behind the norm, they are all but closed"
    )
    evidence = {"closed": count, "units": layer.units, "limit": limit, "facts": [traces.closing]}
    yield Finding("norm-closed", "note", layer.name, text, _MEASURE, evidence)


def of_coverage(coverage: Coverage, *, dated: bool = True) -> Iterator[Finding]:
    """Layers that nothing is known of; `dated` tells whether the steps of the checkpoints are known."""
    evidence = {"seen": coverage.seen, "known": coverage.known, "unseen": list(coverage.unseen)}
    if coverage.seen == 0:
        text = "nothing can be said: no layer's units can be told alive or dead from these files alone"
        advice = f"give two checkpoints of one training with their optimizer's state, or one of Adam\n{_MEASURE}"
        if not dated:
            advice = f"{_STEP}\n{advice}"
        yield Finding("blind", "severe", "the checkpoints", text, advice, evidence)
    elif coverage.unseen:
        names = ", ".join(coverage.unseen[:5]) + (" …" if len(coverage.unseen) > 5 else "")
        text = f"of {len(coverage.unseen)} of {coverage.known} layers nothing can be said: {names}"
        yield Finding("unseen", "warning", "the checkpoints", text, _MEASURE, evidence)


def _undecided(verdict: Verdict, evidence: Mapping[str, Any], thresholds: Thresholds) -> Finding:
    name, count = named(verdict), _of(verdict.silent, verdict)
    if verdict.evidence == "measured":
        text = f"{name} is not decided: {count} fired on none of {verdict.samples or 0:,} examples"
        if (verdict.samples or 0) < thresholds.samples:
            text += f", which are fewer than {thresholds.samples:,}"
        return Finding("silent", "warning", verdict.name, text, "give more examples, or later checkpoints", evidence)
    need = f"{thresholds.patience} updates"
    if not verdict.steps:
        text = f"{name}: {count} had no gradient between the last two checkpoints, and nothing tells how long that was"
        return Finding("too-short", "warning", verdict.name, text, _STEP, evidence)
    if not verdict.enough:
        many = f"{verdict.steps:,} update{'s' * (verdict.steps != 1)}"
        text = f"{name}: these checkpoints tell of {many}, too few to call a unit dead ({need})"
        if verdict.silent:
            text += f"; {count} had no gradient lately"
        return Finding("too-short", "warning", verdict.name, text, "add an earlier or a later checkpoint", evidence)
    text = f"{name} is not decided: {count} had no gradient lately, not yet for {need}"
    return Finding("silent", "warning", verdict.name, text, "look again at the next checkpoint", evidence)


def _lost(verdict: Verdict, last_step: int, evidence: Mapping[str, Any]) -> Finding:
    seen = verdict.window[1] + 1 if verdict.window else 0
    text = f"{named(verdict)}: nothing is known after step {seen:,}, and the last checkpoint is of step {last_step:,}"
    return Finding("lost", "warning", verdict.name, text, _MEASURE, evidence)


def named(verdict: Verdict) -> str:
    """The layer as a sentence names it: nn.Sequential calls its layers 0, 2, 4."""
    return f"layer {verdict.name}" if verdict.name.isdigit() else verdict.name


def _are_dead(verdict: Verdict) -> str:
    if verdict.evidence == "measured":
        return f"are dead: they fire on none of {verdict.samples or 0:,} examples"
    return "are dead: no gradient reaches them"


def _never(verdict: Verdict) -> str:
    if verdict.evidence == "measured":
        return f"they fired on none of {verdict.samples or 0:,} examples at step 0 and at no checkpoint since"
    return "no gradient ever reached them since the optimizer's state began"


def _parts(verdict: Verdict) -> str:
    return f" ({verdict.born_dead} of them born dead, {verdict.died} died)" if verdict.born_dead else ""


def _of(count: int | None, verdict: Verdict) -> str:
    return f"{count or 0} of {verdict.units} units ({(count or 0) / (verdict.units or 1):.0%})"


def _evidence(judged: Judged, deaths: Sequence[Episode], thresholds: Thresholds) -> dict[str, Any]:
    verdict = judged.verdict
    spans = [death.rates for death in deaths if death.rates is not None]
    return {
        "dead": verdict.dead,
        "born_dead": verdict.born_dead,
        "died": verdict.died,
        "units": verdict.units,
        "patience": thresholds.patience,
        "samples": verdict.samples,
        "bound": verdict.bound,
        "window": list(verdict.window) if verdict.window else None,
        "rates": [min(low for low, _ in spans), max(high for _, high in spans)] if spans else None,
        "by": verdict.evidence,
        "facts": list(judged.subject.facts),
    }


def _latest(death: Episode) -> Episode:
    step = death.first_step if death.latest is None else death.latest
    return replace(death, first_step=step, rate=death.rates[1] if death.rates else death.rate)


def _advice(
    judged: Judged,
    early: Sequence[Episode],
    later: Sequence[Episode],
    thresholds: Thresholds,
    settings: Mapping[str, Any],
) -> str:
    lines = []
    if not judged.subject.dated:
        lines.append(_STEP)
    elif later:
        # Of each death the latest step that it can have been, and the highest rate that it can have used. What few
        # deaths used says nothing of the others.
        told = [_latest(death) for death in later]
        if sum(death.rate is not None for death in told) * 2 < len(told):
            told = [replace(death, rate=None) for death in told]
        lines.append(advise(told, Evidence((), (), (), settings, thresholds)))
    elif not early:
        lines.append("these units were dead from the start: look at the initialization and at the inputs")
    if judged.subject.dated and early:
        lines.append(
            "add an earlier checkpoint, best of all that of step 0: it tells who was born dead; those who died did so "
            f"in the first {first_steps(early):,} steps: try a lower rate or a warm-up there"
        )
    if judged.verdict.evidence != "measured":
        lines.append(_MEASURE)
    return "\n".join(lines)
