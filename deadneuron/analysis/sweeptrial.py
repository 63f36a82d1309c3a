"""A comparison as a `Trial`: what is kept with each run of a sweep, and shown by its report."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from deadneuron.analysis.comparison import HALVED, Comparison, Contrast, Dose
from deadneuron.causes import RateLink, Trial


def trial_of(comparison: Comparison, written: str) -> Trial:
    """The comparison of one model as a trial that was `written` now (ISO 8601).

    Its links are all contrasts of a higher rate with the lowest, at matched steps first.
    """
    return Trial(
        kind="sweep",
        written=written,
        safe=comparison.safe,
        over=comparison.over,
        links=tuple(_link(contrast, comparison) for contrast in comparison.contrasts),
        summary=tuple(line for line in summary(comparison) if not line.startswith(HALVED)),  # it shows no ratio
        result=as_json(comparison),
    )


def summary(comparison: Comparison) -> tuple[str, ...]:
    """What the comparison shows, in sentences."""
    doses = [dose for dose in comparison.doses if dose.matching == "steps"]
    lines = [_of_dose(dose) for dose in doses]
    if doses:
        limit = f"{100 * comparison.limit:.0f} % of the units"
        if comparison.over is None:
            lines.append(f"fewer than {limit} died at every rate that was tried, up to {comparison.safe:g}")
        elif comparison.safe is None:
            lines.append(f"{limit} or more died, or a run diverged, at the lowest rate that was tried already")
        else:
            lines.append(f"up to {comparison.safe:g} fewer than {limit} died; at {comparison.over:g} that was passed")
    return (*lines, *comparison.notes)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON holds it."""
    document: dict[str, Any] = _plain(asdict(comparison))
    return document


def _of_dose(dose: Dose) -> str:
    seeds = f"{len(dose.died)} seed{'s' * (len(dose.died) != 1)}"
    if not dose.died:
        return f"rate {dose.lr:g}: no training came to its end ({dose.diverged} diverged, {dose.failed} failed)"
    died, dead = (100 * float(np.mean(values)) for values in (dose.died, dose.dead))
    words = (
        f"rate {dose.lr:g}, {seeds}: {died:.1f} % of the units died by update {dose.steps[0]}, {dead:.1f} % were dead"
    )
    return words + (f"; {dose.diverged} more diverged" if dose.diverged else "")


def _link(contrast: Contrast, comparison: Comparison) -> RateLink:
    matched = "the same step" if contrast.matching == "steps" else "the same sum of rates"
    note = f"rate {contrast.lr:g} against {contrast.base:g} at {matched}"
    if contrast.ratio is None:
        note += f": no {contrast.of} at either"
    if contrast.why:
        note += f"; no p-value: {contrast.why}"
    elif contrast.p_all is not None and contrast.smallest is not None:
        note += f"; exact Mann-Whitney over seeds (smallest possible {contrast.smallest:.2g}), "
        note += f"{contrast.p_all:.2g} by Holm for {comparison.tests} rate{'s' * (comparison.tests != 1)}"
    return RateLink(
        site=None,
        group=0,
        evidence="sweep",
        of=contrast.of,
        rate_ratio=contrast.ratio,
        low=contrast.low,
        high=contrast.high,
        p=contrast.p,
        note=note,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
