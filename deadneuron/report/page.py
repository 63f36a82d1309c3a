"""What a report says, before it is drawn: the records that the text, Markdown and HTML reports share.

All strings are one line each and safe to print (`style.printable`); each drawing escapes them for its own language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from deadneuron.causes import Observed, RateLink, Trial
from deadneuron.records import Level, Status


@dataclass(frozen=True, slots=True)
class Words:
    """One sentence, or what does for one."""

    plain: str
    dim: bool = False  # of lesser weight


class Line(NamedTuple):
    """A line of a list."""

    mark: str  # " ": it belongs to the line above
    words: Words


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table, read as text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)  # columns that hold words; the others hold numbers


class Links(NamedTuple):
    """Ratios, and the names of what they tell of, by number."""

    links: tuple[RateLink, ...]
    groups: Mapping[int, str]
    sites: Mapping[int, str]
    holm: Mapping[RateLink, float]  # p for all rates of a sweep


class Chart(NamedTuple):
    """Where a page that can draw shows these numbers; what follows says them in words."""

    of: Observed | Trial | Links


@dataclass(frozen=True, slots=True)
class Why:
    """One finding."""

    level: Level
    text: str
    facts: tuple[str, ...]  # why one may believe it


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do."""

    text: str
    where: tuple[str, ...] = ()  # layers that it is for
    command: tuple[str, ...] = ()  # to be typed as it stands; each part may have a line of its own
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Something that is not known, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The checkpoints that a report rests on."""

    said: str  # what holds for all of them
    grid: Grid  # a row a checkpoint


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that a report says, but for the table of layers and its legend: they hang on the room that is there.

    See `cells.columns_of` and `legend.explain`.
    """

    head: tuple[str, ...]
    status: Status
    verdict: str
    caveat: str  # once, below the legend; empty where it does not matter
    why: tuple[Why, ...]
    answer: str
    rates: tuple[Line | Grid | Chart, ...]
    next: tuple[Advice, ...]
    seen: str
    complete: bool  # nothing was left unseen
    how: str  # how it was seen
    reference: str
    checkpoints: Listing | None
    blind: Literal["NOT MEASURED", "NOT JUDGED"]  # the title of …
    gaps: tuple[Unmeasured, ...]

    @property
    def told(self) -> tuple[Line | Grid, ...]:
        """`rates` where nothing is drawn."""
        return tuple(part for part in self.rates if not isinstance(part, Chart))
