"""Was it the learning rate? One sentence that weighs what is at hand: trials, a dither, mere observation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

from deadneuron.causes import Certificate, Observed, RateLink, Trial

_ALPHA = 0.05  # the p that the field calls significant; only of randomised rates and repeated trainings


def answer(
    trials: Sequence[Trial],
    links: Sequence[RateLink],
    certificates: Sequence[Certificate],
    observed: Sequence[Observed],
) -> str:
    """Yes, not shown, or that one run cannot tell, with what that rests on.

    Empty where no established unit died and nothing was tried.
    """
    deaths = [certificate for certificate in certificates if certificate.cause != "born dead"]
    rates = [certificate.rate for certificate in deaths if certificate.rate is not None]
    branch = next((trial for trial in reversed(trials) if trial.kind == "branch"), None)
    yes, no = _of_links(links)
    if branch is not None and rates:
        says, effect = _of_branch(branch, median(rates))
        (yes if effect else no).append(says)
    if yes:
        return f"was it the rate? yes, by {' and '.join(yes)}"
    if no:
        return f"was it the rate? not shown: {'; '.join(no)}"
    if not deaths:
        return ""
    counts = Counter(certificate.cause for certificate in deaths)
    said = [f"{counts['kick']} of {len(deaths)} certified deaths are consistent with it"]
    if counts["data shift"]:
        said.append(f"{counts['data shift']} with a data shift")
    alone = "this run alone cannot tell" if observed else "no rate is known"
    return f"was it the rate? {alone}: {', '.join(said)}"


def _of_links(links: Sequence[RateLink]) -> tuple[list[str], list[str]]:
    """What a sweep and a dither say of deaths: effects, and ratios that may be chance."""
    yes: list[str] = []
    no: list[str] = []
    for link in _strongest(links):
        if link.rate_ratio is not None and link.p is not None:
            effect = link.p <= _ALPHA and link.rate_ratio > 1
            said = f"the {link.evidence}: {link.rate_ratio:.2g} times the deaths at higher rates (p = {link.p:.2g})"
            (yes if effect else no).append(said)
    return yes, no


def _strongest(links: Sequence[RateLink]) -> Iterator[RateLink]:
    """Of a sweep and of a dither the link for deaths with the smallest p."""
    for kind in ("sweep", "dither"):
        own = [link for link in links if link.evidence == kind and link.of == "deaths" and link.p is not None]
        yield from sorted(own, key=lambda link: link.p or 0.0)[:1]


def _of_branch(branch: Trial, middle: float) -> tuple[str, bool]:
    """What a branch says of units half of which died at a rate of `middle` or more, and whether that is an effect."""
    under = f"few units die up to {branch.safe:.3g}" if branch.safe is not None else "there is no lower rate in it"
    if branch.over is None:
        return f"the branch: {under}, and it tried no rate at which many do", False
    if branch.over > middle:
        only = f"the branch: many units die at {branch.over:.3g} only"
        return f"{only}, and half of the deaths used {middle:.3g} or less", False
    return f"the branch: many units die at {branch.over:.3g}, {under}", True
