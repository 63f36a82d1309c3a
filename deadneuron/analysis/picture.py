"""A run as a `Picture`: the states of its units over its windows, pooled to what a screen can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deadneuron.frames import Run
from deadneuron.pictures import ROWS, Bytes, Death, Picture, SitePicture, grouped, pool_rows, pooled
from deadneuron.records import HISTOGRAM_EDGES, Diagnosis, Episode, Floats, History, Verdict
from deadneuron.states import DEAD, RARE, SILENT, Timeline, walk

_COLUMNS = 256  # more windows are pooled
_POINTS = 400  # of a curve
_CELLS = 2_000_000  # of all rasters: with many layers each has fewer columns
_KEPT = 4000  # deaths that are listed one by one, of a site


def picture_of(run: Run, diagnosis: Diagnosis) -> Picture:
    """What is drawn of a run that was judged."""
    verdicts = {verdict.site: verdict for verdict in diagnosis.verdicts}
    episodes: dict[int, list[Episode]] = {}
    for episode in diagnosis.episodes:
        episodes.setdefault(episode.site, []).append(episode)
    rows = max(sum(min(t.site.units, ROWS) for t in run.timelines.values()), 1)
    columns = int(np.clip(_CELLS // rows, 16, _COLUMNS))
    ticks = run.ticks
    steps = ticks["step"].to_numpy()
    return Picture(
        name=run.name,
        first_step=diagnosis.first_step or 0,
        last_step=diagnosis.last_step or 0,
        rates=tuple((group, curve(steps, ticks[f"lr:{group}"].to_numpy(dtype=float))) for group in run.info.groups),
        loss=curve(steps, ticks["loss"].to_numpy(dtype=float)),
        sites=tuple(
            _site(timeline, verdicts[number], episodes.get(number, []), diagnosis, columns)
            for number, timeline in run.timelines.items()
        ),
    )


def picture_of_series(diagnosis: Diagnosis) -> Picture | None:
    """What is drawn of a series of checkpoints: one column a look; of a unit it is known whether it was dead then.

    None where nothing is known of any layer.
    """
    verdicts = {verdict.site: verdict for verdict in diagnosis.verdicts}
    sites = tuple(
        _looked_at(history, verdicts[history.site], [one for one in diagnosis.episodes if one.site == history.site])
        for history in diagnosis.history
        if history.steps and verdicts[history.site].units
    )
    if not sites:
        return None
    known = [info for info in diagnosis.checkpoints if info.step is not None]
    groups = max((len(info.rates) for info in known), default=0)
    rates = tuple(
        (f"group {g}", tuple((info.step or 0, info.rates[g]) for info in known if g < len(info.rates)))
        for g in range(groups)
    )
    last = max(int(site.last[-1]) for site in sites)
    return Picture(diagnosis.run, 0, last, rates, (), sites)


def _looked_at(history: History, verdict: Verdict, episodes: Sequence[Episode]) -> SitePicture:
    last = np.array(history.steps)
    columns = len(last)
    states = np.zeros((verdict.units or 0, columns), dtype=np.uint8)
    for one in episodes:
        since = one.first_step if one.latest is None else one.latest
        until = last[-1] if one.last_step is None else one.last_step
        states[one.unit, (last > since) & (last <= until)] = DEAD
    rows, per_row = pool_rows(states)
    return SitePicture(
        number=history.site,
        name=verdict.name,
        op=verdict.op,
        units=verdict.units or 0,
        first=np.r_[0, last[:-1] + 1],
        last=last,
        dead=_shares(history.dead),
        silent=_shares(history.silent),
        rare=_shares(history.rare),
        states=rows,
        per_row=per_row,
        deaths=deaths_of(episodes),
        samples=verdict.samples,
        bound=verdict.bound,
        histogram=None,
        edges=(),
    )


def _shares(shares: Sequence[float]) -> Bytes:
    made: Bytes = np.ceil(np.array(shares) * 255).astype(np.uint8)
    return made


def curve(steps: Floats, values: Floats) -> tuple[tuple[int, float], ...]:
    """At most some 400 points of a curve: of each stretch of steps its first value, its smallest and its largest."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) > _POINTS:
        chosen: set[int] = {int(known[0]), int(known[-1])}
        for part in np.array_split(known, _POINTS // 3):
            chosen |= {int(part[0]), int(part[np.argmin(values[part])]), int(part[np.argmax(values[part])])}
        known = np.array(sorted(chosen))
    return tuple((int(steps[i]), float(values[i])) for i in known)


def _site(
    timeline: Timeline, verdict: Verdict, episodes: Sequence[Episode], diagnosis: Diagnosis, columns: int
) -> SitePicture:
    states = np.stack([moment.states for moment in walk(timeline, diagnosis.thresholds)], axis=1)
    groups = grouped(states.shape[1], columns)
    windows = timeline.windows
    rows, per_row = pool_rows(pooled(states, groups), ROWS)
    return SitePicture(
        number=timeline.site.number,
        name=timeline.site.name,
        op=timeline.site.op,
        units=timeline.site.units,
        first=np.array([windows[a].first_step for a, _ in groups]),
        last=np.array([windows[b - 1].last_step for _, b in groups]),
        dead=_share(states == DEAD, groups),
        silent=_share(states == SILENT, groups),
        rare=_share(states == RARE, groups),
        states=rows,
        per_row=per_row,
        deaths=deaths_of(episodes),
        samples=verdict.samples,
        bound=verdict.bound,
        histogram=_histogram(np.stack([window.histogram for window in windows], axis=1).astype(float), groups),
        edges=tuple(HISTOGRAM_EDGES.tolist()),
    )


def deaths_of(episodes: Sequence[Episode]) -> tuple[Death, ...]:
    """The episodes of one site as they are drawn; of very many an even choice."""
    kept = episodes
    if len(episodes) > _KEPT:
        kept = [episodes[i] for i in np.linspace(0, len(episodes) - 1, _KEPT).astype(int)]
    return tuple(Death(one.unit, one.first_step, one.last_step, one.rate, one.born, one.latest) for one in kept)


def _share(is_so: NDArray[np.bool_], groups: Sequence[tuple[int, int]]) -> Bytes:
    """[units, windows] → [groups] mean share, 0 … 255: a little is never drawn as none."""
    starts = [a for a, _ in groups]
    lengths = np.array([b - a for a, b in groups])
    shares = np.add.reduceat(is_so.mean(axis=0), starts) / lengths
    made: Bytes = np.ceil(shares * 255).astype(np.uint8)
    return made


def _histogram(counts: Floats, groups: Sequence[tuple[int, int]]) -> Bytes | None:
    """[bins, windows] → [bins, groups]: square root of the share, so that small bins are seen beside a spike."""
    pooled = np.add.reduceat(counts, [a for a, _ in groups], axis=1)
    totals = pooled.sum(axis=0)
    if not totals.any():
        return None
    shares = pooled / np.where(totals > 0, totals, 1)
    made: Bytes = np.ceil(np.sqrt(shares) * 255).astype(np.uint8)
    return made
