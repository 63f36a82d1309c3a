"""From verdicts to sentences: what was found, why one may believe it, what to do. One function a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deadneuron.analysis.advice import rate_span
from deadneuron.analysis.rates import deaths_of, worst_steps
from deadneuron.analysis.start import Start
from deadneuron.records import Coverage, Episode, Finding, Thresholds, Verdict

RateSpan = tuple[float, float] | None


def of_site(
    verdict: Verdict,
    dead: Sequence[Episode],
    start: Start | None,
    thresholds: Thresholds,
    last_step: int | None,
    advice: str,
) -> Iterator[Finding]:
    """What one site's verdict gives rise to.

    `dead` are the episodes that last; `last_step` is the run's; `advice` tells what to do about deaths.
    """
    units, died = verdict.units or 0, verdict.died or 0
    deaths = deaths_of(dead)
    if verdict.stuck:
        yield _stuck(verdict, deaths, thresholds, advice)
    elif died / units >= thresholds.warning:
        yield _dying(verdict, deaths, thresholds, advice)
    yield from _born_dead(verdict, dead, start, thresholds)
    if verdict.window and last_step is not None and last_step - verdict.window[1] >= thresholds.patience:
        yield _lost(verdict, last_step)
    elif verdict.status == "unknown":
        # Which of the two it is: too few steps for any unit, or for those that fell silent lately.
        yield _silent(verdict, thresholds) if verdict.enough else _too_short(verdict, thresholds)


def of_coverage(coverage: Coverage) -> Iterator[Finding]:
    """What was not seen at all."""
    evidence = {"seen": coverage.seen, "known": coverage.known, "unseen": list(coverage.unseen)}
    if coverage.seen == 0:
        text = "nothing was seen: not one activation ran while it was watched, so nothing can be said"
        advice = "is the model in train mode, and the object that was given to watch()? was it compiled before?"
        yield Finding("blind", "severe", "the run", text, advice, evidence)
    elif coverage.unseen:
        names = ", ".join(coverage.unseen[:5]) + (" …" if len(coverage.unseen) > 5 else "")
        text = f"{len(coverage.unseen)} of {coverage.known} activation sites were never seen: {names}"
        advice = "if the model does not use them, leave them out with exclude="
        yield Finding("unseen", "note", "the run", text, advice, evidence)


def no_steps() -> Finding:
    """A run without one step."""
    text = "no optimizer step was seen, so nothing can be dated and no silence has lasted"
    advice = "give watch() the optimizer that trains this model, or call monitor.step(lr=…) once a step"
    return Finding("no-steps", "warning", "the run", text, advice)


def _stuck(verdict: Verdict, deaths: Sequence[Episode], thresholds: Thresholds, advice: str) -> Finding:
    parts = f" ({verdict.born_dead} born dead, {verdict.died} died)" if verdict.born_dead else ""
    text = (
        f"{verdict.name} is stuck: {_of(verdict.dead, verdict)} are dead{parts}, and at least "
        f"{thresholds.severe:.0%} were through the last {thresholds.stuck_windows} windows{_when(deaths)}"
    )
    if (verdict.died or 0) / (verdict.units or 1) < thresholds.warning:
        advice = "look at its initialization, at an earlier training, and at its inputs"
    return Finding("stuck", "severe", verdict.name, text, advice, _evidence(verdict, deaths, thresholds))


def _dying(verdict: Verdict, deaths: Sequence[Episode], thresholds: Thresholds, advice: str) -> Finding:
    many = _of(verdict.died, verdict)
    text = f"{verdict.name} is dying: {many} died during the run and are dead at its end{_when(deaths)}"
    return Finding("dying", "warning", verdict.name, text, advice, _evidence(verdict, deaths, thresholds))


def _born_dead(
    verdict: Verdict, dead: Sequence[Episode], start: Start | None, thresholds: Thresholds
) -> Iterator[Finding]:
    """Units that never fired: as many as the initialization explains, or more."""
    born, units = [episode for episode in dead if episode.born], verdict.units or 1
    if len(born) / units < min(thresholds.warning, thresholds.born_excess):
        return
    samples = min(episode.samples or 0 for episode in born)
    text = f"{verdict.name}: {_of(len(born), verdict)} are born dead, silent since the run's first step"
    evidence: dict[str, object] = {
        "born_dead": len(born),
        "expected_born_dead": verdict.expected_born_dead,
        "correlation": verdict.correlation,
        "units": units,
        **_sampled(verdict, samples),
    }
    excess = False
    if start is not None and verdict.expected_born_dead is not None:
        expected = f"{verdict.expected_born_dead / units:.0%} expected from the initialization"
        text += f"; {expected} (correlation {start.correlation:.2f} across examples)"
        evidence |= {"silent_at_start": start.silent, "expected_at_start": start.expected(start.samples)}
        more = start.exceeds(start.silent, start.samples, thresholds.born_excess)
        excess = more and start.exceeds(len(born), samples, thresholds.born_excess)
        if not excess and start.always / units >= thresholds.warning:
            text += f"; {start.always} others were active on every example of it: are the inputs scaled and centred?"
    if excess:
        advice = "more than a symmetric initialization leaves: look at the biases, at loaded weights and at the inputs"
        yield Finding("born-dead-excess", "warning", verdict.name, text, advice, evidence)
    elif len(born) / units >= thresholds.warning and not verdict.stuck:  # that finding says it already
        advice = "this is initialization, inputs or an earlier training, and not this run's learning rate"
        yield Finding("born-dead", "note", verdict.name, text, advice, evidence)


def _lost(verdict: Verdict, last_step: int) -> Finding:
    last = verdict.window[1] if verdict.window else -1
    text = f"{verdict.name} was last seen in step {last} of {last_step}: what it did since is not known"
    advice = "was the model compiled, or this part switched off, after that step?"
    return Finding("lost", "warning", verdict.name, text, advice, {"last_seen": last, "last_step": last_step})


def _silent(verdict: Verdict, thresholds: Thresholds) -> Finding:
    text = (
        f"{verdict.name} is not decided: {_of(verdict.silent, verdict)} have fallen silent, not yet for "
        f"{thresholds.patience} steps and {thresholds.samples:,} examples (n = {verdict.silent_samples or 0:,})"
    )
    evidence = {"silent": verdict.silent, "dead": verdict.dead, "units": verdict.units, **_sampled(verdict)}
    return Finding("silent", "warning", verdict.name, text, "train on, and look whether they come back", evidence)


def _too_short(verdict: Verdict, thresholds: Thresholds) -> Finding:
    need = f"{thresholds.patience} steps and {thresholds.samples:,} examples"
    text = f"{verdict.name} was seen in {_steps(verdict)}: too short to call a unit dead or the layer healthy"
    if verdict.silent:
        text += f" ({_of(verdict.silent, verdict)} silent so far, n = {verdict.silent_samples or 0:,})"
    evidence = {"patience": thresholds.patience, "silent": verdict.silent, **_sampled(verdict)}
    advice = f"it must be seen in at least {need} (patience, samples)"
    return Finding("too-short", "warning", verdict.name, text, advice, evidence)


def _steps(verdict: Verdict) -> str:
    count, (first, last) = verdict.steps or 0, verdict.window or (0, -1)
    of = f" of {last - first + 1:,}" if last - first + 1 != count else ""
    return f"{count:,}{of} step" + ("s" if of or count != 1 else "")


def _when(deaths: Sequence[Episode]) -> str:
    if not deaths:
        return ""
    steps = sorted(death.first_step for death in deaths)
    middle = steps[(len(steps) - 1) // 2]
    rate = _at(rate_span(deaths))
    if steps[0] == steps[-1]:
        return f"; {'all deaths' if len(steps) > 1 else 'the death'} in step {steps[0]}{rate}"
    return f"; deaths from step {steps[0]} to {steps[-1]}, half of them by step {middle}{rate and ','}{rate}"


def _at(span: RateSpan) -> str:
    if span is None:
        return ""
    low, high = (f"{rate:.3g}" for rate in span)
    return f" at rate {low}" if low == high else f" at rates {low}–{high}"


def _of(count: int | None, verdict: Verdict) -> str:
    return f"{count} of {verdict.units} units ({(count or 0) / (verdict.units or 1):.0%})"


def _sampled(verdict: Verdict, samples: int | None = None) -> Mapping[str, object]:
    if samples is not None:
        return {"samples": samples, "bound": min(1.0, 3 / samples) if samples else None, "window": _window(verdict)}
    return {"samples": verdict.samples, "bound": verdict.bound, "window": _window(verdict)}


def _window(verdict: Verdict) -> list[int] | None:
    return list(verdict.window) if verdict.window else None


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
