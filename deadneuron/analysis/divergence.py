"""NaN and Inf: in which layers, and since which step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deadneuron.frames import Run
from deadneuron.records import Finding, Verdict
from deadneuron.states import Timeline


def output_since(run: Run) -> int | None:
    """The step since which the model's output or the logged loss is NaN or Inf, to the run's last tick; else None.

    Exact to the step: the output is looked at in each. Steps that saw neither (no pass) do not interrupt.
    """
    known = run.ticks[run.ticks["finite"].notna()]
    finite = known["finite"].to_numpy(dtype=bool)
    if not len(finite) or finite[-1]:
        return None
    last_good = np.flatnonzero(finite)
    return int(known["step"].iloc[last_good[-1] + 1 if len(last_good) else 0])


def of_site(verdict: Verdict, timeline: Timeline, output: int | None, every: int) -> Iterator[Finding]:
    """A finding where units had NaN or Inf in the last windows."""
    if not verdict.nonfinite:
        return
    firsts = [w.first_nonfinite[w.first_nonfinite >= 0] for w in timeline.windows]
    found = [int(steps.min()) for steps in firsts if len(steps)]
    seen = min(found, default=timeline.last_step)
    # Pre-activations are looked at in every `every`-th step, the output in each: it may date what was seen later.
    exact = output is not None and seen - every < output <= seen
    when = f"since step {output}" if exact else f"first seen in step {seen} (looked at in every {every}th step)"
    many = f"{verdict.nonfinite} of {verdict.units} units ({verdict.nonfinite / (verdict.units or 1):.0%})"
    text = f"{verdict.name}: {many} have NaN or Inf pre-activations, {when}"
    evidence = {
        "nonfinite": verdict.nonfinite,
        "units": verdict.units,
        "first_step": output if exact else seen,
        "share": float(np.mean([(w.nonfinite > 0).mean() for w in timeline.windows[-1:]])),
        "window": list(verdict.window) if verdict.window else None,
    }
    yield Finding("nonfinite", "severe", verdict.name, text, _ADVICE, evidence)


def of_run(output: int) -> Finding:
    """A finding for the model's own output."""
    text = f"the model's output or its loss is NaN or Inf since step {output}"
    return Finding("nonfinite", "severe", "the run", text, _ADVICE, {"first_step": output})


_ADVICE = (
    "the training diverged: lower the learning rate, warm it up, or clip gradients; "
    "what units did after that step says nothing of them"
)
