"""What the template draws. `x` is a percentage of the drawing's width, `y` are pixels from its top."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deadneuron.report.charts.axes import Linear, Log

TOP, BOTTOM, HEIGHT = 36.0, 186.0, 208
"""Pixels: a share of 100 % or what else the top is, 0, and all with its labels."""
SHAPES = {
    "circle": "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0Z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2Z",
    "triangle": "M0-4.9L4.6 3.5H-4.6Z",
    "diamond": "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
    "cross": "M-4-4L4 4M4-4L-4 4",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A number at a rate, its interval as a whisker, and both in words."""

    x: float
    y: float
    said: str
    low: float | None = None  # pixels of the whisker's ends, the lower number first
    high: float | None = None
    cut: bool = False  # the whisker goes on beyond the top
    filled: bool = True
    span: tuple[float, float] | None = None  # of rates that it holds for, as percentages


@dataclass(frozen=True, slots=True)
class Series:
    """Marks of one kind."""

    name: str  # class of the style sheet: its colour
    word: str  # in the legend; empty where the legend has it already
    shape: str
    marks: tuple[Mark, ...]
    shift: int = 0  # pixels to the side, so that two series do not hide each other
    lines: tuple[tuple[float, float, float, float], ...] = ()  # x, y, x, y from one mark to the next
    filled: bool = True  # in the legend


@dataclass(frozen=True, slots=True)
class Flag:
    """A rate that is marked from top to bottom."""

    x: float
    name: str
    text: str
    leans: str  # "start": its text stands to the right of it, "end": to the left


@dataclass(frozen=True, slots=True)
class Label:
    """A round number beside an axis."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing over the learning rate."""

    title: str
    said: str  # all of it in words
    series: tuple[Series, ...]
    across: tuple[Label, ...]  # percentages
    up: tuple[Label, ...]  # pixels
    broken: bool  # 0 stands apart on the axis of logarithms
    axis: str  # what runs across
    limit: float | None = None  # pixels
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """Drawings side by side, with one legend."""

    title: str
    panels: tuple[Panel, ...]
    legend: tuple[Series, ...]
    limit: str = ""  # in the legend
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ratio:
    """A row of a forest: a ratio with its interval on a common axis, as percentages."""

    label: str
    aside: str  # of lesser weight, below it
    evidence: str
    words: str  # the ratio and its interval
    p: str
    low: float
    high: float
    x: float | None  # None: the ratio lies beyond the picture
    open_low: bool  # the interval goes on beyond the picture
    open_high: bool
    filled: bool  # 1 lies outside of the interval


@dataclass(frozen=True, slots=True)
class Forest:
    """Ratios of one thing beneath those of another, all on one axis."""

    title: str
    groups: tuple[tuple[str, tuple[Ratio, ...]], ...]
    across: tuple[Label, ...]
    one: float  # where the ratio 1 stands
    notes: tuple[str, ...]


def percent(place: float) -> float:
    return round(100 * place, 2)


def height(axis: Linear, value: float) -> float:
    """Pixels from the top."""
    return round(BOTTOM - (BOTTOM - TOP) * axis.at(value), 1)


def across(axis: Log) -> tuple[Label, ...]:
    return tuple(Label(percent(tick.at), tick.text) for tick in axis.ticks())


def up(axis: Linear, unit: str = "") -> tuple[Label, ...]:
    return tuple(Label(round(BOTTOM - (BOTTOM - TOP) * tick.at, 1), tick.text) for tick in axis.ticks(unit))


def said(parts: Iterable[str]) -> str:
    """One sentence of all marks, for who does not see them."""
    return "; ".join(part for part in parts if part)
