"""What a sweep came to: its runs compared, the tables on disk, and a trial in each run folder."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from deadneuron.analysis.comparison import Comparison, compare
from deadneuron.analysis.outcomes import Outcome, outcome_of, read_at
from deadneuron.analysis.sweeptrial import as_json, trial_of
from deadneuron.causes import Trial
from deadneuron.experiments.cells import write_whole
from deadneuron.experiments.sweep import SweepPlan, writing
from deadneuron.frames import read_run
from deadneuron.records import Gap
from deadneuron.report.doses import render_comparison
from deadneuron.store.trials import TRIALS, read_trials, write_trial

VERSION = 1
_COLUMNS = (
    *("lr", "replicate", "model", "units", "steps", "rate_sum", "highest_rate", "diverged"),
    *(f"{name}_at_{at}" for at in ("step", "rate_sum") for name in ("step", "died", "revived", "dead", "loss")),
)


def compare_sweep(plan: SweepPlan) -> dict[str, tuple[Comparison, list[Outcome]]]:
    """The comparison of each model, by the name of its run folders; the outcomes that it was made of beside it."""
    outcomes: dict[str, list[Outcome]] = {}
    for dial, result in plan.results():
        for run in result["runs"]:
            outcome = outcome_of(read_run(plan.folder / dial.name / run), dial.lr, dial.replicate)
            if outcome is not None:
                outcomes.setdefault(run, []).append(outcome)
    limit = float(plan.dials[0][1]["profile"]["thresholds"]["branch"])
    names = {failure.name for failure in plan.failures()}
    failed = Counter(dial.lr for dial, _ in plan.dials if dial.name in names)
    return {name: (compare(own, model=name, limit=limit, failed=failed), own) for name, own in outcomes.items()}


def write_sweep(plan: SweepPlan) -> tuple[dict[str, Any], list[Comparison]]:
    """Compare, write the tables, and note the comparison in each run; gives sweep.json and the comparisons."""
    found = compare_sweep(plan)
    comparisons = [comparison for comparison, _ in found.values()]
    document = to_document(plan, comparisons)
    rows = [row for comparison, outcomes in found.values() for row in table(comparison, outcomes)]
    with writing(plan.folder):
        write_whole(plan.folder / "sweep.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
        write_whole(plan.folder / "table.csv", to_csv(rows))
        write_whole(plan.folder / "summary.md", to_markdown(plan, comparisons))
    for comparison in comparisons:
        trial = trial_of(comparison, datetime.now().astimezone().isoformat(timespec="seconds"))
        for dial, result in plan.results():
            if comparison.model in result["runs"]:
                note_trial(plan.folder / dial.name / comparison.model, trial)
    return document, comparisons


def note_trial(run: Path, trial: Trial) -> None:
    """Put a sweep's result into a run folder, in the place of an older one of a sweep; once, if it is the same."""
    gaps: list[Gap] = []
    older = [one for one in read_trials(run, gaps) if one.kind == "sweep"]
    if len(older) == 1 and dict(older[0].result) == dict(trial.result) and not gaps:
        return
    for path in (run / TRIALS).glob("sweep-*.json"):
        path.unlink(missing_ok=True)
    write_trial(run, trial)


def to_document(plan: SweepPlan, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """sweep.json: what was run, what became of each cell, and the comparison of each model."""
    results = dict(plan.results())
    failures = {failure.name: failure for failure in plan.failures()}
    cells = []
    for dial, _ in plan.dials:
        result, failure = results.get(dial), failures.get(dial.name)
        cells.append(
            {
                "name": dial.name,
                "lr": dial.lr,
                "replicate": dial.replicate,
                "state": "finished" if result else "failed" if failure else "not run",
                "steps": result and result["steps"],
                "seconds": result and result["seconds"],
                "runs": result["runs"] if result else [],
                "exit_code": 0 if result else failure and failure.exit_code,
                "log": list(failure.lines) if failure else [],
            }
        )
    return {
        "version": VERSION,
        "script": str(plan.script),
        "args": list(plan.args),
        "settings": {key: plan.dials[0][1][key] for key in ("sha256", "seed", "profile", "versions")},
        "cells": cells,
        "comparisons": [as_json(comparison) for comparison in comparisons],
    }


def table(comparison: Comparison, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row a run: what it came to where it is compared; empty for runs that diverged."""
    at = {
        matching: {dose.lr: dose.steps for dose in comparison.doses if dose.matching == matching}
        for matching in ("steps", "rate sum")
    }
    rows = []
    for outcome in sorted(outcomes, key=lambda one: (one.lr, one.replicate)):
        row: dict[str, Any] = {
            "lr": outcome.lr,
            "replicate": outcome.replicate,
            "model": comparison.model,
            "units": outcome.units,
            "steps": outcome.last_step + 1,
            "rate_sum": float(outcome.rate_sums[-1]),
            "highest_rate": float(np.max(outcome.rates)),
            "diverged": outcome.diverged,
        }
        sound = [one for one in outcomes if one.lr == outcome.lr and not one.diverged]
        for matching, suffix in (("steps", "step"), ("rate sum", "rate_sum")):
            steps = at[matching].get(outcome.lr, ())
            if not outcome.diverged and steps:
                loss_at = comparison.last_step if matching == "steps" else None
                reading = read_at(outcome, steps[[one is outcome for one in sound].index(True)], loss_at)
                for name in ("step", "died", "revived", "dead", "loss"):
                    row[f"{name}_at_{suffix}"] = getattr(reading, name)
        rows.append(row)
    return rows


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The table; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(plan: SweepPlan, comparisons: Sequence[Comparison]) -> str:
    """What people read."""
    lines = [f"# {plan.script.name}: learning rates compared", ""]
    lines += [f"`{shlex.join([str(plan.script), *plan.args])}`", ""]
    for comparison in comparisons:
        title = [f"## {comparison.model}", ""] if len(comparisons) > 1 else []
        lines += [*title, "```text", render_comparison(comparison).rstrip(), "```", ""]
    lines += [f"- no result: {failure}" for failure in plan.failures()]
    return "\n".join(lines).rstrip() + "\n"
