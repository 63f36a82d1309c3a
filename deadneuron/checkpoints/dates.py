"""When units died, as well as looks tell; and of whom nothing tells that they ever lived."""

from __future__ import annotations

from collections.abc import Sequence

from deadneuron.checkpoints.judging import Judged
from deadneuron.records import Episode


def by_birth(judged: Judged, deaths: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """(of units that may as well have been born dead, of those that lived), in the order given."""
    early = [death for death in deaths if _may_be_born(judged, death)]
    return early, [death for death in deaths if death not in early]


def _may_be_born(judged: Judged, death: Episode) -> bool:
    """Whether a unit was still in the first look that tells of it, and nothing says that it was ever alive before."""
    for look in judged.subject.looks:
        if look.still is None:
            continue
        if look.still[death.unit]:
            told = judged.subject.never is not None or look.earliest is not None
            return not told and (death.latest or 0) < look.first
        if not look.hint and (look.waning is None or not look.waning[death.unit]):
            return False
    return False


def first_steps(early: Sequence[Episode]) -> int:
    """Steps that lie before the first look."""
    return max(death.latest or 0 for death in early) + 1


def told_when(early: Sequence[Episode], later: Sequence[Episode], *, measured: bool) -> str:
    """The end of a sentence: of whom nothing is known; of the others when they died, and at which rates."""
    told = ""
    if early:
        many = "all" if not later else f"{len(early)}"
        by = f"born so or died by step {first_steps(early):,}: nothing tells which"
        told = f"; {many} of them from the first look on, {by}"
    if not later:
        return told
    whose = "; of the others last" if early else "; last"
    return f"{told}{whose} {'active' if measured else 'gradient'} in {_steps(later)}{_rates(later)}"


def _steps(deaths: Sequence[Episode]) -> str:
    first = min(death.first_step for death in deaths)
    last = max(death.first_step if death.latest is None else death.latest for death in deaths)
    return f"step {first:,}" if first == last else f"steps {first:,}–{last:,}"


def _rates(deaths: Sequence[Episode]) -> str:
    """Nothing unless they are known of all."""
    spans = [death.rates for death in deaths if death.rates is not None]
    if len(spans) < len(deaths):
        return ""
    low, high = (f"{rate:.3g}" for rate in (min(low for low, _ in spans), max(high for _, high in spans)))
    return f", at rate {low}" if low == high else f", at rates {low}–{high}"
