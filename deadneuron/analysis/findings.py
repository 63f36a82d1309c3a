"""From verdicts to sentences: what was found, why one may believe it, what to do. One function a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deadneuron.analysis.rates import deaths_of, worst_steps
from deadneuron.records import LEVELS, Coverage, Episode, Finding, Thresholds, Verdict

RateSpan = tuple[float, float] | None

_LEAKY = "an activation whose gate has no closed side (LeakyReLU, GELU)"


def make_findings(
    verdicts: Sequence[Verdict],
    episodes: Sequence[Episode],
    coverage: Coverage,
    thresholds: Thresholds,
    last_step: int | None,
) -> tuple[Finding, ...]:
    """All findings, the gravest first and then in order of sites."""
    made: list[Finding] = list(_coverage(coverage))
    by_site: dict[int, list[Episode]] = {}
    for episode in episodes:
        if episode.last_step is None:
            by_site.setdefault(episode.site, []).append(episode)
    for verdict in verdicts:
        if verdict.site is not None and verdict.units:
            made += _of_site(verdict, by_site.get(verdict.site, []), thresholds, last_step)
    return tuple(sorted(made, key=lambda finding: -LEVELS.index(finding.level)))


def _of_site(
    verdict: Verdict, dead: Sequence[Episode], thresholds: Thresholds, last_step: int | None
) -> Iterator[Finding]:
    units, died, born = verdict.units or 0, verdict.died or 0, verdict.born_dead or 0
    deaths = deaths_of(dead)
    if verdict.nonfinite:
        yield _nonfinite(verdict)
    if verdict.stuck:
        yield _stuck(verdict, deaths, thresholds)
    elif died / units >= thresholds.warning:
        yield _dying(verdict, deaths, thresholds)
    if born / units >= thresholds.warning and not verdict.stuck:
        yield _born_dead(verdict)
    if verdict.window and last_step is not None and last_step - verdict.window[1] >= thresholds.patience:
        yield _lost(verdict, last_step)
    elif verdict.status == "unknown":
        yield _too_short(verdict, thresholds)


def _stuck(verdict: Verdict, deaths: Sequence[Episode], thresholds: Thresholds) -> Finding:
    many = _of(verdict.dead, verdict)
    text = f"{verdict.name} is stuck: {many} are dead, and have been for the last windows{_when(deaths)}"
    born = f"{verdict.born_dead} of them were dead from the first step; " if verdict.born_dead else ""
    advice = born + (_lower_rate(deaths) if deaths else "look at the initialization and the inputs of this layer")
    return Finding("stuck", "severe", verdict.name, text, advice, _evidence(verdict, deaths, thresholds))


def _dying(verdict: Verdict, deaths: Sequence[Episode], thresholds: Thresholds) -> Finding:
    many = _of(verdict.died, verdict)
    text = f"{verdict.name} is dying: {many} died during the run and are dead at its end{_when(deaths)}"
    return Finding("dying", "warning", verdict.name, text, _lower_rate(deaths), _evidence(verdict, deaths, thresholds))


def _born_dead(verdict: Verdict) -> Finding:
    text = f"{verdict.name}: {_of(verdict.born_dead, verdict)} were dead from the run's first step (born dead)"
    advice = "this is initialization or an earlier training, not this run's learning rate; look at the layer's inputs"
    evidence = {"born_dead": verdict.born_dead, "units": verdict.units, **_sampled(verdict)}
    return Finding("born-dead", "note", verdict.name, text, advice, evidence)


def _nonfinite(verdict: Verdict) -> Finding:
    text = f"{verdict.name}: {_of(verdict.nonfinite, verdict)} had NaN or Inf pre-activations at the end"
    advice = (
        "the training diverged: lower the learning rate or clip gradients; "
        "what such a unit counts as active says nothing"
    )
    evidence = {"nonfinite": verdict.nonfinite, "units": verdict.units, **_sampled(verdict)}
    return Finding("nonfinite", "severe", verdict.name, text, advice, evidence)


def _lost(verdict: Verdict, last_step: int) -> Finding:
    last = verdict.window[1] if verdict.window else -1
    text = f"{verdict.name} was last seen in step {last} of {last_step}: what it did since is not known"
    advice = "was the model compiled, or this part switched off, after that step?"
    return Finding("lost", "warning", verdict.name, text, advice, {"last_seen": last, "last_step": last_step})


def _too_short(verdict: Verdict, thresholds: Thresholds) -> Finding:
    steps = verdict.window[1] - verdict.window[0] + 1 if verdict.window else 0
    need = f"{thresholds.patience} steps and {thresholds.samples:,} examples"
    text = f"{verdict.name} was watched for {steps} steps: too short to call a unit dead or the layer healthy"
    if verdict.silent:
        text += f" ({_of(verdict.silent, verdict)} silent so far, n = {verdict.silent_samples or 0:,})"
    evidence = {"steps": steps, "patience": thresholds.patience, "silent": verdict.silent, **_sampled(verdict)}
    return Finding(
        "too-short", "warning", verdict.name, text, f"train for at least {need} (patience, samples)", evidence
    )


def _coverage(coverage: Coverage) -> Iterator[Finding]:
    evidence = {"seen": coverage.seen, "known": coverage.known, "unseen": list(coverage.unseen)}
    if coverage.seen == 0:
        text = "nothing was seen: not one activation ran while it was watched, so nothing can be said"
        advice = (
            "was the model in train mode, and is it the object that was given to watch()? compiled before watching?"
        )
        yield Finding("blind", "severe", "run", text, advice, evidence)
    elif coverage.unseen:
        names = ", ".join(coverage.unseen[:5]) + (" …" if len(coverage.unseen) > 5 else "")
        text = f"{len(coverage.unseen)} of {coverage.known} activation sites were never seen: {names}"
        advice = "if the model does not use them, leave them out with exclude="
        yield Finding("unseen", "note", "run", text, advice, evidence)


def _lower_rate(deaths: Sequence[Episode]) -> str:
    span = rate_span(deaths)
    if span is None:
        return f"try a lower learning rate, a normalisation in front of the layer, or {_LEAKY}"
    return f"train again at a lower rate (try {span[0] / 4:.2g}), put a normalisation in front of it, or use {_LEAKY}"


def rate_span(deaths: Sequence[Episode]) -> RateSpan:
    """Lowest and highest rate that deaths used, or None where none is known."""
    rates = [death.rate for death in deaths if death.rate is not None]
    return (min(rates), max(rates)) if rates else None


def _when(deaths: Sequence[Episode]) -> str:
    if not deaths:
        return ""
    steps = sorted(death.first_step for death in deaths)
    middle = steps[(len(steps) - 1) // 2]
    span = rate_span(deaths)
    rate = (
        ""
        if span is None
        else f" at rate {span[0]:.3g}"
        if span[0] == span[1]
        else f" at rates {span[0]:.3g}–{span[1]:.3g}"
    )
    if steps[0] == steps[-1]:
        return f"; all deaths in step {steps[0]}{rate}"
    return f"; deaths from step {steps[0]} to {steps[-1]}, half of them by step {middle},{rate}".rstrip(",")


def _of(count: int | None, verdict: Verdict) -> str:
    return f"{count} of {verdict.units} units ({(count or 0) / (verdict.units or 1):.0%})"


def _sampled(verdict: Verdict) -> Mapping[str, object]:
    return {"samples": verdict.samples, "bound": verdict.bound, "window": verdict.window and list(verdict.window)}


def _evidence(verdict: Verdict, deaths: Sequence[Episode], thresholds: Thresholds) -> dict[str, object]:
    span = rate_span(deaths)
    return {
        "dead": verdict.dead,
        "born_dead": verdict.born_dead,
        "died": verdict.died,
        "closed_above": verdict.closed_above,
        "units": verdict.units,
        "patience": thresholds.patience,
        **_sampled(verdict),
        "rates": None if span is None else list(span),
        "worst_steps": [list(step) for step in worst_steps(deaths)],
    }
