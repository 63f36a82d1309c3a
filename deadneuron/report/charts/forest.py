"""Every ratio that has an interval, one beneath another on one axis: what ties deaths and revivals to the rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deadneuron.causes import Evidence, RateLink
from deadneuron.report.charts.axes import Log, logarithmic
from deadneuron.report.charts.figures import Forest, Ratio, across, percent
from deadneuron.report.page import Links
from deadneuron.report.style import printable

MOST = 40  # rows
_ORDER: tuple[Evidence, ...] = ("dither", "sweep", "branch", "observed")  # randomised ones first, mere looks last
_BEYOND = 1.0  # decades beyond all ratios at which an interval is cut: it would press all else together
_COMPARED: dict[Evidence, str] = {"dither": "high against low steps", "observed": "highest against lowest rates"}
_MEANT: dict[Evidence, str] = {
    "dither": "each step's rate was drawn by lot",
    "sweep": "whole trainings, exact over seeds",
    "branch": "some steps from one state, so no p-value",
    "observed": "a description of one schedule, so no p-value",
}


def forest(of: Links) -> Forest | None:
    """None where no link has a ratio with an interval."""
    known = [link for link in of.links if _is_known(link)]
    if not known:
        return None
    known.sort(key=lambda link: (link.of != "deaths", _ORDER.index(link.evidence)))
    shown = known[:MOST]
    axis = _axis(shown)
    kinds = {kind: _Kind([link for link in shown if link.evidence == kind]) for kind in _ORDER}
    made = [
        (f"{of_what}, high rate over low", tuple(_row(link, axis, of, kinds[link.evidence]) for link in own))
        for of_what in ("deaths", "revivals")
        if (own := [link for link in shown if link.of == of_what])
    ]
    notes = ["right of 1: more at the higher rate; filled: 1 lies outside of the 95 % interval"]
    if any(row.open_low or row.open_high for _, rows in made for row in rows):
        notes.append("an arrow: the interval goes on beyond the picture")
    notes += [f"{kind}: {_MEANT[kind]}{of_kind.shared}" for kind, of_kind in kinds.items() if of_kind.links]
    if len(known) > MOST:
        notes.append(f"{len(known) - MOST:,} more ratios are left out of the picture")
    title = "how many times as often at a higher rate: ratios with 95 % intervals"
    return Forest(title, tuple(made), across(axis), percent(axis.at(1.0)), tuple(notes))


class _Kind:
    """The links of one kind of evidence, and what is to be said of all of them alike."""

    def __init__(self, links: Sequence[RateLink]) -> None:
        self.links = links
        asides = {_parts(link)[1] for link in links}
        self.shared = f"; {asides.pop()}" if len(asides) == 1 and asides != {""} else ""


def _parts(link: RateLink) -> tuple[str, str]:
    """What is compared, and what is to be said of it: the notes of trials have both, with a semicolon between.

    Those of dithers and of mere looks stand below in full.
    """
    if link.evidence not in ("sweep", "branch"):
        return "", ""
    label, _, aside = printable(link.note).partition("; ")
    return label, aside


def _is_known(link: RateLink) -> bool:
    ends = (link.rate_ratio, link.low, link.high)
    return all(end is not None and end >= 0 for end in ends) and (link.rate_ratio or 0.0) > 0


def _axis(links: Sequence[RateLink]) -> Log:
    ratios = [1.0, *(link.rate_ratio for link in links if link.rate_ratio is not None and link.rate_ratio < math.inf)]
    least, most = math.log10(min(ratios)) - _BEYOND, math.log10(max(ratios)) + _BEYOND
    ends = [end for link in links for end in (link.low, link.high) if end is not None and 0 < end < math.inf]
    inside = [end for end in ends if least <= math.log10(end) <= most]
    return logarithmic([*ratios, *inside], margin=0.05)


def _row(link: RateLink, axis: Log, of: Links, kind: _Kind) -> Ratio:
    ratio, low, high = link.rate_ratio or 1.0, link.low or 0.0, math.inf if link.high is None else link.high
    label, aside = _parts(link)
    holm = of.holm.get(link)
    p = "no p-value" if link.p is None else f"p = {link.p:.2g}"
    return Ratio(
        label=_where(link, of) + (label or _COMPARED.get(link.evidence, "")),
        aside="" if kind.shared or holm is not None else aside,
        evidence=link.evidence,
        words=f"{_short(ratio)} ({_short(low)}–{_short(high)})",
        p=p if holm is None else f"{p} (Holm {holm:.2g})",
        low=percent(axis.at(low)),
        high=percent(axis.at(high)),
        x=percent(axis.at(ratio)) if ratio < math.inf else None,
        open_low=low <= 0 or math.log10(low) < axis.low,
        open_high=high == math.inf or (high > 0 and math.log10(high) > axis.high),
        filled=low > 1 or high < 1,
    )


def _where(link: RateLink, of: Links) -> str:
    names = [] if link.site is None else [printable(of.sites.get(link.site, f"site {link.site}"))]
    if link.evidence not in ("sweep", "branch"):
        names.append(
            "all groups" if link.group is None else printable(of.groups.get(link.group, f"group {link.group}"))
        )
    return "".join(f"{name}: " for name in names)


def _short(number: float) -> str:
    if number == math.inf:
        return "∞"
    return f"{number:.0f}" if 100 <= number < 10_000 else f"{number:.2g}"
