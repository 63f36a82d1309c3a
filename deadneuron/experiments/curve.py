"""The result of a learning-rate probe: what became of the units at each rate. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter

from deadneuron.causes import RateLink, Trial

if TYPE_CHECKING:
    import pandas as pd

FORETELL = 20  # steps of a branch that were measured to foretell 200 (docs/proof); fewer do so less, one not at all
_NORMAL_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class LayerPoint:
    """One layer in one branch."""

    name: str
    units: int
    fired: int  # units that fired on the probe before the branch
    new_deaths: int  # of these, silent on the whole probe after it
    revived: int  # silent on the probe before, and firing after

    @property
    def share(self) -> float | None:
        """New deaths among the units that fired; None if none did."""
        return self.new_deaths / self.fired if self.fired else None


@dataclass(frozen=True, slots=True)
class Point:
    """One branch: some steps at one multiple of the learning rates. Units are those of all layers together."""

    multiplier: float
    rates: tuple[float, ...]  # of each parameter group
    steps: int  # taken
    diverged: bool  # the loss or a weight was NaN or Inf; then nothing is counted
    first_loss: float | None
    last_loss: float | None  # None where it was not finite
    alive: int | None  # units that fire on the probe after the branch
    new_deaths: int | None
    share: float | None  # new deaths among the units that fired; None if none did
    silent_before: int
    revived: int | None  # of the silent ones
    layers: tuple[LayerPoint, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """New deaths against the learning rate, from one state of a training. `print()` it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    points: tuple[Point, ...]  # by rising multiplier
    groups: tuple[str, ...]  # names of the parameter groups
    steps: int  # that each branch was to take
    units: int
    fired: int  # units that fired on the probe before
    examples: int  # of the probe: n
    held_out: bool  # no branch trained on the probe
    threshold: float  # the share of new deaths at which a rate is over it
    notes: tuple[str, ...] = ()  # about the batches, and what could not be counted
    step: int | None = None  # of the watched run, before which the probe was made

    @property
    def under(self) -> tuple[Point, ...]:
        """The branches, from the lowest rate up to the last one before a branch that diverged or is not under it."""
        found: list[Point] = []
        for point in self.points:
            if point.diverged or point.share is None or point.share >= self.threshold:
                break
            found.append(point)
        return tuple(found)

    @property
    def safe(self) -> float | None:
        """The largest tried rate that is under the threshold, as all lower ones are; None if the lowest is not.

        Rates are those of the first parameter group that has one above 0.
        """
        return self.rate(self.under[-1]) if self.under else None

    @property
    def over(self) -> float | None:
        """The lowest tried rate above that; None if all are under the threshold."""
        return self.rate(self.points[len(self.under)]) if len(self.under) < len(self.points) else None

    @property
    def foretells(self) -> bool:
        """Whether the branches had as many steps as were measured to foretell what a rate does."""
        return self.steps >= FORETELL

    @property
    def lead(self) -> int:
        """The parameter group whose rate is shown: the first with one above 0."""
        return next((index for index, rate in enumerate(self.points[0].rates) if rate), 0)

    def rate(self, point: Point) -> float:
        """Its learning rate, in the group that is shown."""
        return point.rates[self.lead]

    @property
    def bound(self) -> float:
        """3/n: a unit that is silent on n examples may still fire on up to this share of them (95 %)."""
        return 3 / self.examples

    @property
    def frame(self) -> pd.DataFrame:
        """One row a branch."""
        import pandas as pd  # a probe that is not looked at as a table does not wait for pandas

        rows = [{name: getattr(point, name) for name in _COLUMNS} for point in self.points]
        for row, point in zip(rows, self.points, strict=True):
            row |= {f"lr {name}": rate for name, rate in zip(self.groups, point.rates, strict=True)}
        counts = dict.fromkeys(("alive", "new_deaths", "revived"), "Int64")  # missing where a branch diverged
        return pd.DataFrame(rows).astype(counts)

    @property
    def layers(self) -> pd.DataFrame:
        """One row a branch and layer; diverged branches have none."""
        import pandas as pd

        columns = ("name", "units", "fired", "new_deaths", "share", "revived")
        rows = [
            {"multiplier": point.multiplier, "lr": self.rate(point)}
            | {column: getattr(layer, column) for column in columns}
            for point in self.points
            for layer in point.layers
        ]
        return pd.DataFrame(rows, columns=["multiplier", "lr", *columns])

    def to_json(self) -> str:
        """This record as one JSON document, with `safe` and `over` beside it."""
        import json

        return json.dumps({**_adapter().dump_python(self, mode="json"), "safe": self.safe, "over": self.over}, indent=1)

    def trial(self, written: str) -> Trial:
        """As a record to keep with a run. written: when, ISO 8601 with time zone.

        Its `safe` is None where the branches were too short to foretell: no advice is to rest on it.
        """
        from deadneuron.experiments.curve_text import sentences

        result = {**_adapter().dump_python(self, mode="json"), "safe": self.safe, "over": self.over}
        first, *rest = sentences(self)
        where = "" if self.step is None else f" before step {self.step:,}"
        summary = (f"probe of {len(self.points)} rates{where}, {self.steps} steps at each: {first}", *rest)
        safe = self.safe if self.foretells else None
        return Trial("branch", written, safe, self.over, self.links(), summary, result)

    def links(self) -> tuple[RateLink, ...]:
        """Shares of units that died, and that revived, at the highest rate that did not diverge over the lowest."""
        finite = [point for point in self.points if not point.diverged]
        if len(finite) < 2:
            return ()
        low, high = finite[0], finite[-1]
        silent = low.silent_before
        counts = {
            "deaths": (high.new_deaths or 0, low.new_deaths or 0, self.fired),
            "revivals": (high.revived or 0, low.revived or 0, silent),
        }
        made = []
        for of in ("deaths", "revivals"):
            above, below, n = counts[of]
            ratio, least, most = ratio_of_shares(above, below, n)
            note = (
                f"{above} of {n} units at lr {self.rate(high):.4g} and {below} at {self.rate(low):.4g} in {high.steps} "
                "steps from one state; the interval describes these two branches, as if units were independent"
            )
            group = 0 if len(self.groups) == 1 else None
            made.append(RateLink(None, group, "branch", of, ratio, least, most, None, note))
        return tuple(made)

    def __str__(self) -> str:
        from deadneuron.experiments.curve_text import render

        return render(self)


_COLUMNS = tuple(name for name in Point.__slots__ if name not in ("rates", "layers"))


def ratio_of_shares(above: int, below: int, n: int) -> tuple[float | None, float | None, float | None]:
    """Ratio of above/n to below/n and its 95 % interval: Katz's, on the logarithm (Katz et al., Biometrics 1978).

    Where a count is 0, one half is added to both counts and to both n. Nothing can be said where both are 0.

    >>> [round(x, 3) for x in ratio_of_shares(20, 10, 100)]
    [2.0, 0.987, 4.053]
    """
    if n == 0 or above == below == 0:
        return None, None, None
    half = 0.0 if above and below else 0.5
    a, b, total = above + half, below + half, n + half
    ratio = a / b
    spread = _NORMAL_95 * math.sqrt(max(1 / a + 1 / b - 2 / total, 0.0))
    return ratio, ratio * math.exp(-spread), ratio * math.exp(spread)


@cache
def _adapter() -> TypeAdapter[Branch]:
    return TypeAdapter(Branch)
