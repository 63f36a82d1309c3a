"""What a run's first step tells of a site: the units that its initialization left silent, and how many it should."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deadneuron.analysis.baseline import measured_correlation, silent_share
from deadneuron.states import Timeline


@dataclass(frozen=True, slots=True)
class Start:
    """One site in the first step of a run."""

    units: int
    samples: int  # independent examples of that step
    silent: int  # units that were silent on them
    always: int  # units that were active on every row
    correlation: float  # of pre-activations across examples, over the units
    opens_at: float  # the gate's lower end in standard deviations

    def expected(self, examples: int) -> float:
        """Units that a symmetric initialization of this correlation leaves silent on that many examples."""
        return self.units * silent_share(examples, self.correlation, self.opens_at)

    def exceeds(self, count: int, examples: int, slack: float) -> bool:
        """Whether `count` silent units are more than expected, by two standard errors and the slack (a share).

        Two things may explain them. The formula; or, whatever the inputs are, the units that are always active: weights
        of the opposite sign make the one of the other, so that a symmetric initialization gives as many of each (raw
        features of very different sizes make many of both). The units share their inputs, so that their number varies
        more than a binomial one: hence the slack.
        """
        share = max(self.expected(examples), self.always) / self.units
        return count / self.units > share + 2 * math.sqrt(share * (1 - share) / self.units) + slack


def first_step(timeline: Timeline) -> Start | None:
    """None where step 0 was not recorded apart with full statistics, or the gate is not a half-line to +infinity.

    A convolution's rows are more alike within an image than across images, which the formula does not know. Counting
    images, not positions, as examples then expects more silent units, not fewer: no layer is blamed for it.
    """
    window, (low, high) = timeline.windows[0], timeline.site.gate
    if window.first_step != 0 or window.last_step != 0 or window.sampled_rows != window.rows:
        return None
    if math.isinf(low) or not math.isinf(high):
        return None
    correlation = measured_correlation(window.mean, window.square, window.rows)
    if correlation is None:
        return None
    deviation = math.sqrt(float(window.square[np.isfinite(window.square)].mean()))
    silent, always = int((window.active == 0).sum()), int((window.active == window.rows).sum())
    return Start(timeline.site.units, window.samples, silent, always, correlation, low / deviation)
