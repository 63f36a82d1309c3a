"""Records of what ties deaths to a learning rate: certificates, observed bands, links, trials. Plain Python.

"Consistent with" is the strongest word here for what was merely observed. Only an intervention on the rate (dither,
branch, sweep) carries a ratio that may be called an effect, and only a randomised one a p-value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Cause = Literal["born dead", "data shift", "kick", "gradual", "unknown"]
CAUSES: tuple[Cause, ...] = ("born dead", "data shift", "kick", "gradual", "unknown")
Evidence = Literal["dither", "branch", "sweep", "observed"]
STRENGTH: tuple[Evidence, ...] = ("branch", "sweep", "dither", "observed")  # of what an advice rests on, best first


@dataclass(frozen=True, slots=True)
class Certificate:
    """One death of an established unit, or one unit that was born dead: when, at which rate, how, consistent with what.

    A unit is *established* once it was active on more than `thresholds.established` of a window's rows, and *common*
    while it is on more than `sampling.common` of its recent rows.
    """

    site: int
    unit: int
    cause: Cause  # what the death is consistent with
    last_active: int | None  # the unit's last active step; None if it was born dead
    death: int | None  # the update that ended its activity: that step's, or the next one that moved its parameters
    rate: float | None  # that this update used
    rise: float | None  # the highest rate of its last few steps over the lowest within the patience; 1: no rise
    fall: int | None  # steps from the last one in which it was common to the first silent one; None if it never was
    on_reference: (
        float | None
    )  # share of the reference batch's rows inside the gate, in the first pass that is well behind the death


@dataclass(frozen=True, slots=True)
class RateBand:
    """Deaths and revivals by updates whose rate lay in one band. Hazards are events per unit-step at risk."""

    low: float
    high: float
    steps: int
    at_risk: int  # unit-steps of units that were not dead
    deaths: int
    hazard: float | None
    hazard_low: float | None  # 95 % interval by a bootstrap over blocks of steps
    hazard_high: float | None
    dead_at_risk: int  # unit-steps of units that were dead, and had been for the patience
    revivals: int
    revival: float | None
    revival_low: float | None
    revival_high: float | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What one parameter group's schedule shows of deaths. A description: no p-value can be had from it."""

    group: int
    name: str
    bands: tuple[RateBand, ...]
    dispersion: float | None  # of deaths over blocks of steps: 1 if they fall independently, larger in bursts
    safe: float | None  # the largest rate such that neither it nor a lower one was used by a death
    last_step: int  # the last update whose deaths can be known; later ones are in no band
    note: str  # why this is no test


@dataclass(frozen=True, slots=True)
class RateLink:
    """What ties deaths, or revivals, to a learning rate.

    `rate_ratio` is the ratio of hazards between high and low rates (of shares of units, for a branch or a sweep), `low`
    and `high` its 95 % interval. `p` is None where the rate was not randomised.
    """

    site: int | None  # None: all sites together
    group: int | None
    evidence: Evidence
    of: Literal["deaths", "revivals"]
    rate_ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of an intervention on the learning rate, kept with the run that it tells of."""

    kind: Literal["branch", "sweep"]
    written: str  # ISO 8601, with time zone
    safe: float | None  # the largest rate under the threshold that was tried (first parameter group)
    over: float | None  # the lowest rate above it that was not
    links: tuple[RateLink, ...]
    summary: tuple[str, ...]  # lines for a person
    result: Mapping[str, Any] = field(default_factory=dict)  # everything, as the experiment's own record has it
