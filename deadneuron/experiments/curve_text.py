"""A learning-rate probe in words: the curve as a table with bars, and what follows from it."""

from __future__ import annotations

from deadneuron.experiments.curve import FORETELL, Branch, LayerPoint, Point
from deadneuron.report.sparkline import bar
from deadneuron.report.style import MARKS, printable

_BAR = 20  # columns, for all units


def render(branch: Branch) -> str:
    """The whole result as plain text, without a newline at its end."""
    rows = [_row(branch, point) for point in branch.points]
    header = ("", "×", "lr", "died", "share", "", "revived", "loss", "worst layer")
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    right = {1, 2, 3, 4, 6}
    lines = [*_head(branch), ""]
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines += ["", *sentences(branch)]
    lines += [f"  note: {printable(note)}" for note in branch.notes]
    return "\n".join(lines)


def sentences(branch: Branch) -> tuple[str, ...]:
    """What follows from the curve, one sentence a line."""
    if not branch.fired:
        return ("no unit fired on the probe before the branch: there is nothing that a rate could kill",)
    limit = f"the threshold of {branch.threshold:.0%}"
    under, rest = branch.under, branch.points[len(branch.under) :]
    verb = "foretells" if branch.steps == 1 else "foretell"
    few = () if branch.foretells else (f"{_steps(branch.steps)} {verb} little: {FORETELL} were measured to",)
    if not under:
        return (f"no rate that was tried is safe: already {_did(branch, rest[0])} ({limit[4:]})", *few)
    best = under[-1]
    said = f"safe up to {_named(branch, best)}: {best.share:.1%} of the units that fired died, under {limit}"
    if best.first_loss is not None and best.last_loss is not None and best.last_loss > best.first_loss:
        said += f"; but the loss rose there ({best.first_loss:.3g} → {best.last_loss:.3g})"
    beyond = f"over it: {_did(branch, rest[0])}" if rest else f"no higher rate was tried: {limit} lies above"
    return (said, beyond, *few)


def _head(branch: Branch) -> list[str]:
    silent = branch.units - branch.fired
    where = "that no branch trained on" if branch.held_out else "(the branches trained on them too)"
    lines = [
        f"LEARNING-RATE PROBE   {_steps(branch.steps)} at each rate, from one state and on the same batches",
        f"{branch.fired:,} of {branch.units:,} units fired on n = {branch.examples:,} examples {where}.",
        f"died: fired before, and silent on all n now (may still fire on up to 3/n = {branch.bound:.2g} of examples)",
        f"revived: of the {silent:,} that were silent before",
    ]
    if len(branch.groups) > 1:
        lines.append(
            f"lr: of {branch.groups[branch.lead]}; the rates of all {len(branch.groups)} groups are multiplied"
        )
    return lines


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _row(branch: Branch, point: Point) -> tuple[str, ...]:
    multiplier, rate = f"{point.multiplier:g}", f"{branch.rate(point):.4g}"
    if point.diverged:
        after = f"diverged in step {point.steps} of {branch.steps}"
        return MARKS["severe"], multiplier, rate, "", "", after, "", _loss(point), ""
    share = point.share
    over = share is None or share >= branch.threshold
    shown = "" if share is None else f"{share:.1%}"
    mark = MARKS["warning"] if over else MARKS["healthy"]
    bars = bar(share or 0.0, _BAR)
    cells = (f"{point.new_deaths:,}", shown, bars, f"{point.revived:,}", _loss(point), _worst(point))
    return mark, multiplier, rate, *cells


def _worst(point: Point) -> str:
    layers = [layer for layer in point.layers if layer.new_deaths]
    if not layers:
        return ""
    worst: LayerPoint = max(layers, key=lambda layer: layer.share or 0.0)
    return f"{printable(worst.name)} ({worst.share:.0%})"


def _loss(point: Point) -> str:
    first, last = ("not finite" if loss is None else f"{loss:.3g}" for loss in (point.first_loss, point.last_loss))
    return f"{first} → {last}"


def _named(branch: Branch, point: Point) -> str:
    return f"lr {branch.rate(point):.4g} (×{point.multiplier:g})"


def _did(branch: Branch, point: Point) -> str:
    if point.diverged:
        return f"{_named(branch, point)} diverged in step {point.steps}"
    share = "an unknown share" if point.share is None else f"{point.share:.1%}"
    return f"{_named(branch, point)} loses {share} of the units that fired in {_steps(point.steps)}"
