"""What to do about the learning rate, with what the advice rests on: a trial, a dither, or observation.

An advice names a rate only with where that rate comes from. It speaks of warming up when the deaths sit in the first
steps, of momentum where there is one, and of something else than the rate where the deaths do not look like its doing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from deadneuron.causes import STRENGTH, Cause, Certificate, RateLink, Trial
from deadneuron.records import Episode, Thresholds

LEAKY = "an activation that lets a gradient through on both sides (LeakyReLU, ELU, GELU)"
_ROUND = 10  # steps: a warm-up is told in tens


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one layer's deaths and of the run's learning rate."""

    certificates: Sequence[Certificate]  # of the layer
    trials: Sequence[Trial]
    links: Sequence[RateLink]
    settings: Mapping[str, Any]  # of the parameter group that feeds the layer
    thresholds: Thresholds


def advise(deaths: Sequence[Episode], evidence: Evidence) -> str:
    """What to change, for a layer that lost units: one thing a line."""
    causes: Counter[Cause] = Counter(c.cause for c in evidence.certificates if c.cause != "born dead")
    most = _most(causes)
    if most == "data shift":
        return _data(evidence.certificates)
    parts = [_lower_rate(deaths, evidence)]
    if most == "gradual" and not evidence.trials and not any(map(_is_effect, evidence.links)):
        parts.insert(0, _slow())
    warm_up = _warm_up(deaths, evidence)
    parts += filter(None, [warm_up, _momentum(deaths, evidence.settings, early=warm_up is not None)])
    parts.append(f"a normalisation in front of it, or {LEAKY}, may help too")
    return "\n".join(parts)


def rate_span(deaths: Sequence[Episode]) -> tuple[float, float] | None:
    """Lowest and highest rate that deaths used, or None where none is known."""
    rates = [death.rate for death in deaths if death.rate is not None]
    return (min(rates), max(rates)) if rates else None


def _most(causes: Counter[Cause]) -> Cause | None:
    """The cause of more than half of the certified deaths."""
    return next((cause for cause, count in causes.items() if count * 2 > causes.total()), None)


def _data(certificates: Sequence[Certificate]) -> str:
    steps = sorted(c.last_active for c in certificates if c.cause == "data shift" and c.last_active is not None)
    return (
        "these units still fire on the reference batch, so they did not die: their data changed. Look at what the "
        f"loader gave from about step {steps[len(steps) // 2]} on"
    )


def _slow() -> str:
    return (
        "these units fell slowly, which is not how a single large step kills: look at weight decay, at penalties on "
        "activations, and at what the data rarely shows"
    )


def _lower_rate(deaths: Sequence[Episode], evidence: Evidence) -> str:
    rates = sorted(death.rate for death in deaths if death.rate is not None)
    if not rates:
        return "try a lower learning rate"
    if rates[-1] <= 0:
        return "the updates that these deaths are dated by used rate 0: look for another cause first"
    middle = median([rate for rate in rates if rate > 0])
    latest = sorted({trial.kind: trial for trial in evidence.trials}.values(), key=lambda t: STRENGTH.index(t.kind))
    found = next((trial for trial in latest if trial.safe is not None), None)
    if found is not None and found.safe is not None and _is_well_below(found, middle):
        beyond = f", and {found.over:.3g} is over it" if found.over is not None else ""
        share = f"{_limit(found, evidence)} of the units there"
        return f"train at rate {found.safe:.3g}: the {found.kind} lost less than {share}{beyond}"
    over = next((trial for trial in latest if trial.safe is None and trial.over and trial.over <= middle / 4), None)
    if over is not None and over.over is not None:
        share = f"{_limit(over, evidence)} of the units or more at {over.over:.3g}, the lowest that it tried"
        return f"train again at a lower rate (try {over.over / 4:.2g}: the {over.kind} lost {share})"
    rate = f"train again at a lower rate (try {middle / 4:.2g}, a quarter of what the median death used"
    if found is not None:
        share = f"the {found.kind} lost less than {_limit(found, evidence)} of the units at {found.safe:.3g}"
        place = ", from where it was made" if found.kind == "branch" else ""
        return f"{rate}; {share}{place}, but half of these died at {middle:.3g} or less)"
    shown = next((link for link in evidence.links if link.evidence != "observed" and link.of == "deaths"), None)
    if shown is None or shown.rate_ratio is None:
        return f"{rate}; deadneuron branch or sweep can tell whether that helps)"
    times = f"{shown.rate_ratio:.2g} times the deaths at its higher rates"
    return f"{rate}; the {shown.evidence} saw {times}{'' if _is_effect(shown) else ', which may be chance'})"


def _is_well_below(trial: Trial, middle: float) -> bool:
    """Whether the rate that a trial found safe is a way out for units half of which died at `middle` or above.

    A sweep trained from the beginning; a branch speaks only of what follows the step that it was made at, which may be
    after most deaths: its rate must be at most half.
    """
    return trial.safe is not None and (trial.safe < middle if trial.kind == "sweep" else trial.safe <= middle / 2)


def _limit(trial: Trial, evidence: Evidence) -> str:
    """The share of units that a trial was judged by: its own, where it notes one."""
    own = trial.result.get("threshold", trial.result.get("limit"))
    return f"{own if isinstance(own, float) else evidence.thresholds.branch:.0%}"


def _is_effect(link: RateLink) -> bool:
    return link.evidence != "observed" and link.of == "deaths" and link.low is not None and link.low > 1


def _warm_up(deaths: Sequence[Episode], evidence: Evidence) -> str | None:
    """Where at least half of the deaths fell in the first steps: a warm-up over twice the time of nine in ten."""
    steps = sorted(death.first_step for death in deaths)
    early = [step for step in steps if step < evidence.thresholds.patience]
    span = rate_span(deaths)
    if span is not None and span[1] <= 0:  # a rate of 0 needs no warming up
        return None
    if not early or len(early) * 2 < len(steps):
        return None
    last = early[math.ceil(0.9 * len(early)) - 1]
    length = max(_ROUND * math.ceil(2 * (last + 1) / _ROUND), _ROUND)
    share = f"{len(early) / len(steps):.0%}"
    return f"{share} of the deaths fell in the first {last + 1} steps: try a warm-up over {length}"


def _momentum(deaths: Sequence[Episode], settings: Mapping[str, Any], *, early: bool) -> str | None:
    """What momentum does to a rate: the velocity of a steady gradient is the rate over 1 - momentum. Of Adam's first
    updates it is only told where deaths are `early`: with its moments corrected for their bias they are ± the rate."""
    momentum, span = settings.get("momentum"), rate_span(deaths)
    if isinstance(momentum, float) and 0 < momentum < 1 and span is not None and span[1] > 0:
        times = 1 / (1 - momentum)
        return (
            f"momentum {momentum:g} makes steps of one direction add up to {times:.3g} times the rate "
            f"({span[1]:.3g} acts like {span[1] * times:.3g} without)"
        )
    if early and "betas" in settings:
        return (
            "Adam's first updates move every weight by about the rate, however small its gradient: that is what a "
            "warm-up softens"
        )
    return None
