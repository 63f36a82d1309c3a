"""When units died, as far as checkpoints tell: how many between which two, at which rates, in which layers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from deadneuron.records import Diagnosis, Episode
from deadneuron.report.cells import span
from deadneuron.report.page import Grid
from deadneuron.report.style import printable

_NAMED = 3  # layers a row
_HEADERS = ("died in steps", "at lr", "deaths", "revived", "layers")


def deaths_between(diagnosis: Diagnosis) -> Iterator[Grid]:
    """One table, a row for each span between checkpoints; nothing where nobody died in one.

    Deaths that a revival followed are counted too, and said to be. A span is as narrow as the checkpoints around it,
    even if the optimizer's state dates a death better: `Episode.first_step` and `latest` tell that.
    """
    steps = sorted({one.step for one in diagnosis.checkpoints if one.step is not None})
    spans: dict[tuple[int, int], list[Episode]] = {}
    for episode in diagnosis.episodes:
        if not episode.born:
            spans.setdefault(_around(episode, steps), []).append(episode)
    if spans:
        names = {verdict.site: printable(verdict.name) for verdict in diagnosis.verdicts}
        rows = [_row(where, episodes, names) for where, episodes in sorted(spans.items())]
        yield Grid(_HEADERS, tuple(rows), words=(0, 4))


def _around(episode: Episode, steps: Sequence[int]) -> tuple[int, int]:
    """The checkpoints' steps before and after the last sign of life; its own bounds where there are none."""
    first, last = episode.first_step, episode.first_step if episode.latest is None else episode.latest
    before, after = bisect_right(steps, first), bisect_right(steps, last)
    return steps[before - 1] if before else 0, steps[after] if after < len(steps) else last


def _row(where: tuple[int, int], episodes: Sequence[Episode], names: dict[int | None, str]) -> tuple[str, ...]:
    rates = [rates for one in episodes if (rates := _rates(one)) is not None]
    used = "–"
    if rates:
        used = span(f"{min(low for low, _ in rates):.3g}", f"{max(high for _, high in rates):.3g}")
    layers = list(dict.fromkeys(names.get(one.site, str(one.site)) for one in episodes))
    more = f" and {len(layers) - _NAMED:,} more" if len(layers) > _NAMED else ""
    revived = sum(one.last_step is not None for one in episodes)
    steps = span(f"{where[0]:,}", f"{where[1]:,}")
    return steps, used, f"{len(episodes):,}", f"{revived:,}", ", ".join(layers[:_NAMED]) + more


def _rates(episode: Episode) -> tuple[float, float] | None:
    if episode.rates is not None:
        return episode.rates
    return None if episode.rate is None else (episode.rate, episode.rate)
