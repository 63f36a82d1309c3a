"""NaN and Inf: in which layers, and since which step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deadneuron.frames import Run
from deadneuron.records import Finding, Verdict
from deadneuron.states import Timeline


@dataclass(frozen=True, slots=True)
class Output:
    """The model's output and the logged loss over a run."""

    known: bool  # whether either was seen at all
    since: int | None  # the step since which it is NaN or Inf, to the run's end

    @property
    def finite(self) -> bool:
        """Whether the run is known to have ended finite."""
        return self.known and self.since is None


def output_of(run: Run) -> Output:
    """Exact to the step: the output is looked at in each. Steps that saw neither do not interrupt."""
    known = run.ticks[run.ticks["finite"].notna()]
    finite = known["finite"].to_numpy(dtype=bool)
    if not len(finite) or finite[-1]:
        return Output(bool(len(finite)), None)
    good = np.flatnonzero(finite)
    return Output(True, int(known["step"].iloc[good[-1] + 1 if len(good) else 0]))


def of_site(verdict: Verdict, timeline: Timeline, output: Output, every: int) -> Iterator[Finding]:
    """A finding where units had NaN or Inf in the last windows: a note, if the run ended finite all the same."""
    if not verdict.nonfinite:
        return
    firsts = [w.first_nonfinite[w.first_nonfinite >= 0] for w in timeline.windows]
    seen = min((int(steps.min()) for steps in firsts if len(steps)), default=timeline.last_step)
    # Pre-activations are looked at in every `every`-th step, the output in each: it may date what was seen later.
    exact = output.since is not None and seen - every < output.since <= seen
    looked = "" if every == 1 else f" (one step in {every} is looked at)"
    when = f"since step {output.since}" if exact else f"first seen in step {seen}{looked}"
    many = f"{verdict.nonfinite} of {verdict.units} units ({verdict.nonfinite / (verdict.units or 1):.0%})"
    text = f"{verdict.name}: {many} had NaN or Inf pre-activations, {when}"
    if output.finite:
        text += "; the run ended finite all the same"
    evidence = {
        "nonfinite": verdict.nonfinite,
        "units": verdict.units,
        "first_step": output.since if exact else seen,
        "window": list(verdict.window) if verdict.window else None,
    }
    advice = "look at the examples of that step" if output.finite else _ADVICE
    yield Finding("nonfinite", "note" if output.finite else "severe", verdict.name, text, advice, evidence)


def of_run(output: int) -> Finding:
    """A finding for the model's own output."""
    text = f"the model's output or its loss is NaN or Inf since step {output}"
    return Finding("nonfinite", "severe", "the run", text, _ADVICE, {"first_step": output})


_ADVICE = (
    "the training diverged: lower the learning rate, warm it up, or clip gradients; "
    "what units did after that step says nothing of them"
)
