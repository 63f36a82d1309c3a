"""One site, judged: how many units are in which state at the end, since when, and on how much evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deadneuron.analysis.series import dormant, recent, saturated, specialised
from deadneuron.analysis.start import first_step
from deadneuron.records import Episode, History, Status, Thresholds, Verdict
from deadneuron.states import DEAD, RARE, SILENT, Moment, Timeline, bound, walk


def judge_site(
    timeline: Timeline, episodes: Sequence[Episode], thresholds: Thresholds, run_end: int, *, diverged: bool = True
) -> Verdict:
    """The verdict on one site that was seen.

    `run_end` is the run's last step; `diverged` tells that the run did not end finite, as far as is known.
    """
    moments = list(walk(timeline, thresholds))
    last = moments[-1]
    dead = last.states == DEAD
    count = int(dead.sum())
    born = sum(1 for e in episodes if e.last_step is None and e.born)
    deaths = sorted((e for e in episodes if e.last_step is None and not e.born), key=lambda e: e.first_step)
    middle = deaths[(len(deaths) - 1) // 2] if deaths else None
    silent = last.states == SILENT
    nonfinite = _nonfinite(timeline, thresholds)
    bad = nonfinite > 0 and diverged
    stuck = _is_stuck(timeline, moments, thresholds)
    windows = recent(timeline, thresholds.patience)
    samples = int(last.silent_samples[dead].min()) if count else _recent_samples(timeline, thresholds.patience)
    flat, start = saturated(windows, timeline.site.gate), first_step(timeline)
    return Verdict(
        site=timeline.site.number,
        name=timeline.site.name,
        op=timeline.site.op,
        status=_status(timeline, len(deaths), int(silent.sum()), stuck or bad, thresholds, run_end),
        units=timeline.site.units,
        dead=count,
        born_dead=born,
        expected_born_dead=None if start is None else start.expected(_all_samples(timeline)),
        correlation=None if start is None else start.correlation,
        died=len(deaths),
        closed_above=_closed_above(timeline, last, thresholds),
        revived=sum(1 for e in episodes if e.last_step is not None),
        silent=int(silent.sum()),
        silent_samples=int(last.silent_samples[silent].min()) if silent.any() else None,
        rare=int((last.states == RARE).sum()),
        specialised=specialised(windows, last, timeline, thresholds.rare),
        dormant=dormant(windows, thresholds.dormant),
        saturated=None if flat is None else sum(flat),
        nonfinite=nonfinite,
        stuck=stuck,
        steps=sum(window.steps for window in timeline.windows),
        enough=not too_little(timeline, thresholds),
        since=middle.first_step if middle else None,
        rate=middle.rate if middle else None,
        samples=samples,
        bound=bound(samples),
        window=(timeline.first_step, timeline.last_step),
    )


def too_little(timeline: Timeline, thresholds: Thresholds) -> bool:
    """Whether the site was watched too briefly for any unit to be called dead."""
    steps = sum(window.steps for window in timeline.windows)
    need = min(thresholds.samples, timeline.most)
    return steps < thresholds.patience or sum(w.samples for w in timeline.windows) < need


def lost_sight(timeline: Timeline, thresholds: Thresholds, run_end: int) -> bool:
    """Whether the site was no longer seen for a whole patience at the run's end."""
    return run_end - timeline.last_step >= thresholds.patience


def share_history(timeline: Timeline, thresholds: Thresholds) -> History:
    """The shares of a site's units in each state at the end of each window."""
    moments = list(walk(timeline, thresholds))

    def shares(state: int) -> tuple[float, ...]:
        return tuple(float((moment.states == state).mean()) for moment in moments)

    return History(
        site=timeline.site.number,
        steps=tuple(window.last_step for window in timeline.windows),
        dead=shares(DEAD),
        silent=shares(SILENT),
        rare=shares(RARE),
        active=tuple(float(window.active.mean() / window.rows) for window in timeline.windows),
    )


def _status(
    timeline: Timeline,
    died: int,
    silent: int,
    severe: bool,
    thresholds: Thresholds,
    run_end: int,
) -> Status:
    if severe:
        return "severe"
    if died / timeline.site.units >= thresholds.warning:
        return "warning"
    undecided = (died + silent) / timeline.site.units >= thresholds.warning and silent > 0
    if undecided or too_little(timeline, thresholds) or lost_sight(timeline, thresholds, run_end):
        return "unknown"
    return "healthy"


def _is_stuck(timeline: Timeline, moments: Sequence[Moment], thresholds: Thresholds) -> bool:
    """At least the severe share dead at the end and through the last windows. A window cut short by the run's end or
    by a flush still counts by its steps, so that "three windows" is always the same time."""
    span = thresholds.stuck_windows * max(w.last_step - w.first_step + 1 for w in timeline.windows)
    begin = timeline.last_step - span
    late = [m for m in moments if timeline.windows[m.window].last_step > begin]
    return all(float((m.states == DEAD).mean()) >= thresholds.severe for m in late)


def _closed_above(timeline: Timeline, last: Moment, thresholds: Thresholds) -> int:
    """Dead units most of whose sampled rows since they fell silent lay at or beyond the gate's upper end."""
    silent = [timeline.active[i] == 0 for i in range(len(timeline.windows))]
    above = np.zeros(timeline.site.units)
    rows = np.zeros(timeline.site.units)
    for is_silent, window in zip(silent, timeline.windows, strict=True):
        since = is_silent & (window.first_step > last.last_seen)
        above += np.where(since, window.above, 0)
        rows += np.where(since, window.sampled_rows, 0)
    return int(((last.states == DEAD) & (above * 2 > rows) & (rows > 0)).sum())


def _nonfinite(timeline: Timeline, thresholds: Thresholds) -> int:
    """Units with NaN or +Inf among the rows sampled in the last patience."""
    found = [w.first_nonfinite >= 0 for w in recent(timeline, thresholds.patience)]
    return int(np.any(found, axis=0).sum())


def _recent_samples(timeline: Timeline, patience: int) -> int:
    """Independent examples in the last windows that span the patience: what "fired lately" rests on."""
    samples = sum(w.samples for w in timeline.windows if w.first_step > timeline.last_step - patience)
    return min(samples, timeline.most)


def _all_samples(timeline: Timeline) -> int:
    return min(sum(window.samples for window in timeline.windows), timeline.most)
