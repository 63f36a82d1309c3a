"""The signs that practitioners look for, each a finding with its effect size. One function a sign.

None of them says that a unit is dead: that is the verdict's to say. A healthy sparse layer, whose units each fire
seldom, shows none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from deadneuron.analysis.series import recent, saturated, spike, trend
from deadneuron.records import Finding, Thresholds, Verdict
from deadneuron.states import Timeline


def find_signs(timeline: Timeline, verdict: Verdict, thresholds: Thresholds) -> Iterator[Finding]:
    """All signs that one site shows. The model's own output is no hidden layer: it may be flat, small or rare."""
    if timeline.site.is_output:
        return
    yield from _spike(timeline, verdict, thresholds)
    yield from _fading(timeline, verdict, thresholds)
    yield from _saturation(timeline, verdict, thresholds)
    yield from _rare(verdict, thresholds)


def _spike(timeline: Timeline, verdict: Verdict, thresholds: Thresholds) -> Iterator[Finding]:
    """A spike at zero that never shifts, held there by units that never fire: without those, it is mere sparsity."""
    found, units = spike(timeline), timeline.site.units
    if found is None or found.least < thresholds.spike or found.shift > thresholds.spike_shift:
        return
    if found.held / units < thresholds.warning:
        return
    text = (
        f"{verdict.name} has a spike at zero that does not shift: {_range(found.least, found.most)} of its outputs "
        f"are 0 in every window of steps {found.first_step}–{found.last_step}, and {found.held} of {units} units "
        f"({found.held / units:.0%}) never left it"
    )
    evidence = {
        "share_at_zero": [found.least, found.most],
        "shift": found.shift,
        "held": found.held,
        "units": units,
        "window": [found.first_step, found.last_step],
        "samples": found.samples,
    }
    explained = (verdict.born_dead or 0) * 2 >= found.held
    told = verdict.stuck or (verdict.died or 0) / units >= thresholds.warning  # then that finding has the advice
    advice = "" if told else "watch those units: mere sparsity would leave none of them at zero for good"
    yield Finding("spike-at-zero", "note" if explained else "warning", verdict.name, text, advice, evidence)


def _fading(timeline: Timeline, verdict: Verdict, thresholds: Thresholds) -> Iterator[Finding]:
    """A mean activation that trends to zero: a steady fall by a large share, not a significant one."""
    found = trend(timeline)
    if found is None or found.fall < thresholds.fading or found.high >= 0:
        return
    text = (
        f"{verdict.name} fades: its mean |output| fell by {found.fall:.0%}, from {found.first:.3g} to {found.last:.3g} "
        f"({100 * found.slope:+.2g} in 100 steps, 95 %: {100 * found.low:+.2g} to {100 * found.high:+.2g})"
    )
    evidence = {
        "fall": found.fall,
        "first": found.first,
        "last": found.last,
        "slope": found.slope,
        "interval": [found.low, found.high],
        "windows": found.windows,
        "window": [timeline.first_step, timeline.last_step],
    }
    advice = "look whether weight decay or a vanishing input makes it small; if its units die too, lower the rate"
    yield Finding("fading", "warning", verdict.name, text, advice, evidence)


def _saturation(timeline: Timeline, verdict: Verdict, thresholds: Thresholds) -> Iterator[Finding]:
    """Most values at the flat ends of Sigmoid, Tanh, Hardtanh or ReLU6, where hardly a gradient flows."""
    windows = recent(timeline, thresholds.patience)
    shares = saturated(windows, timeline.site.gate)
    if shares is None or sum(shares) < thresholds.saturated:
        return
    below, above = shares
    low, high = timeline.site.gate
    parts = f"{above:.0%} at or above {high:.3g}" + (f", {below:.0%} at or below {low:.3g}" if below else "")
    share = f"{below + above:.0%} of its values"
    text = f"{verdict.name} is saturated: {share} lie at the flat ends of {verdict.op} ({parts})"
    evidence = {
        "saturated": below + above,
        "below": below,
        "above": above,
        "window": [windows[0].first_step, windows[-1].last_step],
        "samples": min(sum(w.samples for w in windows), timeline.most),
    }
    advice = "a smaller initialization, a normalisation in front of it, a lower rate, or another activation"
    yield Finding("saturated", "warning", verdict.name, text, advice, evidence)


def _rare(verdict: Verdict, thresholds: Thresholds) -> Iterator[Finding]:
    units, rare, strong = verdict.units or 1, verdict.rare or 0, verdict.specialised or 0
    if rare / units < thresholds.warning:
        return
    text = (
        f"{verdict.name}: {rare} of {units} units ({rare / units:.0%}) are rare, active on less than "
        f"{thresholds.rare:.2g} of the rows; they are not dead"
    )
    if strong:
        text += f" ({strong} of them specialised: as strong as others when they fire)"
    advice = "nothing, if the layer is meant to be sparse; count them over more examples before calling them dead"
    evidence = {"rare": rare, "specialised": strong, "units": units}
    yield Finding("rare", "note", verdict.name, text, advice, evidence)


def _range(low: float, high: float) -> str:
    return f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%}–{high:.0%}"
