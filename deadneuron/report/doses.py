"""A comparison of rates as text: the dose-response with small bars, at matched steps and at matched sums of rates."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from deadneuron.analysis.comparison import HALVED, Comparison, Contrast, Dose, Matching
from deadneuron.analysis.sweeptrial import summary
from deadneuron.report.cells import percent

_BAR = 8  # characters
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEADER = (
    "rate",
    "seeds",
    "died",
    "",
    "revived",
    "dead then",
    "loss",
    "deaths ×",
    "p (Holm)",
    "revivals ×",
    "p (Holm)",
)
_TEXT = (3,)  # columns that are aligned to the left
_SPARED = ((9, 10), (3,), (4,), (6,))  # what a narrow terminal does without, first to last


def render_comparison(comparison: Comparison, *, width: int = 120, narrow: bool = False) -> str:
    """Both tables and what they show; sentences are folded at `width`. `narrow`: tables leave columns out to fit it."""
    lines: list[str] = []
    room = width - 2 if narrow else None
    for matching in ("steps", "rate sum"):
        doses = [dose for dose in comparison.doses if dose.matching == matching]
        if doses:
            lines += [_title(matching, doses, comparison), *_indented(_table(doses, comparison, room)), ""]
    if lines:
        lines += _legend(comparison, width)
    for sentence in _conclusions(comparison):
        lines += textwrap.wrap(sentence, width, initial_indent="  · ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def bar(share: float) -> str:
    """A share between 0 and 1 as a bar of up to 8 characters; 0 is a dot, to be told from a little.

    >>> bar(0.5), bar(0), bar(0.001)
    ('████', '·', '▏')
    """
    if share <= 0:
        return "·"
    eighths = max(round(min(share, 1.0) * 8 * _BAR), 1)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def table_rows(comparison: Comparison, matching: Matching) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, rows) of one table, as text."""
    doses = [dose for dose in comparison.doses if dose.matching == matching]
    return _HEADER, [_row(dose, comparison) for dose in doses]


def _title(matching: Matching, doses: Sequence[Dose], comparison: Comparison) -> str:
    if matching == "steps":
        step = next(dose.steps[0] for dose in doses if dose.steps)
        return f"AT THE SAME STEP   deaths by update {step:,}, loss at step {comparison.last_step:,}"
    return f"AT THE SAME Σlr = {comparison.rate_sum:.4g}   each run read where its own rates have summed up to that"


def _table(doses: Sequence[Dose], comparison: Comparison, room: int | None) -> Iterator[str]:
    rows = [_HEADER, *(_row(dose, comparison) for dose in doses)]
    if doses[0].matching == "rate sum":  # then runs are read at different steps
        steps = ["at step", *(_span([float(s) for s in dose.steps], "{:.0f}") for dose in doses)]
        rows = [(*row[:2], step, *row[2:]) for row, step in zip(rows, steps, strict=True)]
    shift = len(rows[0]) - len(_HEADER)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    shown = list(range(len(widths)))
    for spared in _SPARED:
        if room is not None and sum(widths[place] + 2 for place in shown) - 2 > room:
            shown = [place for place in shown if place - shift not in spared]
    for row in rows:
        cells = (
            row[place].ljust(widths[place]) if place - shift in _TEXT else row[place].rjust(widths[place])
            for place in shown
        )
        yield "  ".join(cells).rstrip()


def _row(dose: Dose, comparison: Comparison) -> tuple[str, ...]:
    seeds = f"{len(dose.died)}" + (f" +{dose.diverged} NaN" if dose.diverged else "")
    seeds += f" +{dose.failed} failed" if dose.failed else ""
    if not dose.died:
        return (f"{dose.lr:g}", seeds, *["–"] * (len(_HEADER) - 2))
    own = [one for one in comparison.contrasts if one.matching == dose.matching and one.lr == dose.lr]
    deaths, revivals = (next((one for one in own if one.of == of), None) for of in ("deaths", "revivals"))
    return (
        f"{dose.lr:g}",
        seeds,
        percent(dose.died),
        bar(float(np.mean(dose.died))),
        percent(dose.revived, spread=False),
        percent(dose.dead, spread=False),
        f"{np.mean(dose.losses):.3g}" if dose.losses else "unknown",
        *_contrast(deaths),
        *_contrast(revivals),
    )


def _contrast(contrast: Contrast | None) -> tuple[str, str]:
    if contrast is None:
        return "1", ""
    ratio = "–" if contrast.ratio is None else f"{HALVED * contrast.halved}{_short(contrast.ratio)}"
    if contrast.low is not None and contrast.high is not None:
        ratio += f" ({_short(contrast.low)}–{_short(contrast.high)})"
    if contrast.p is None or contrast.p_all is None:
        return ratio, "none"
    return ratio, f"{contrast.p:.2g} ({contrast.p_all:.2g})"


def _span(values: Sequence[float], form: str) -> str:
    if not values:
        return "–"
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low}–{high}"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.2g}"


def _legend(comparison: Comparison, width: int) -> Iterator[str]:
    base = next((contrast.base for contrast in comparison.contrasts), None)
    words = (
        f"shares of {comparison.units:,} hidden units, mean over seeds (least–most); dead by that step: born so, or "
        f"died and not revived; each run was followed for {comparison.follow} more steps, so that each death by then "
        "is known."
    )
    if base is not None:
        words += (
            f" × and p: against the lowest rate, {base:g}, ratio of means with a 95 % bootstrap interval over seeds "
            "(rough for few seeds)"
        )
        rates = f"{comparison.tests} rate{'s' * (comparison.tests != 1)}"
        words += f", exact Mann-Whitney p over seeds, in brackets Holm's for {rates}." if comparison.tests else "."
    return iter([*textwrap.wrap(words, width, initial_indent="  ", subsequent_indent="  "), ""])


def _conclusions(comparison: Comparison) -> Iterator[str]:
    told = summary(comparison)
    doses = sum(dose.matching == "steps" for dose in comparison.doses)
    yield from told[doses:]  # the doses themselves are in the table
    steps = [dose for dose in comparison.doses if dose.matching == "steps"]
    if any(abs(dose.highest - dose.lr) > 0.01 * dose.lr for dose in steps):  # a schedule, or another group's ratio
        used = ", ".join(f"{dose.highest:.3g} for --lr {dose.lr:g}" for dose in steps)
        yield f"the first group of this model used rates of up to {used}"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
