"""A run as tidy pandas tables. Columns are documented with each property; steps are optimizer steps, from 0."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deadneuron.causes import Trial
from deadneuron.records import HISTOGRAM_EDGES, Floats, Gap, Phase, RunInfo, Site, Tick, Window
from deadneuron.states import STATE_NAMES, Timeline, bound, make_timeline, walk
from deadneuron.store.ranks import finite_rows, weighted_mean
from deadneuron.store.reader import StoredRun, read_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def read_run(path: str | Path) -> Run:
    """Open a run folder, also while it still grows or if its training was killed.

    Raises `NotARunError` for anything else, and `NewerFormatError` for a run of a later deadneuron.
    """
    return Run(read_folder(path), str(path))


class Run:
    """A recorded run; tables are made at first use."""

    def __init__(self, stored: StoredRun, name: str) -> None:
        self.name = name
        self._stored = stored

    def __repr__(self) -> str:
        state = "ended" if self.info.ended else "not ended"
        return f"<Run {self.name}: {self.info.model}, {len(self.sites)} sites, {state}>"

    def plot(self, layer: str | None = None) -> Figure:
        """A matplotlib figure: each layer's dead share over the steps below the learning rate, or one layer's units.

        Raises `MissingExtraError` without matplotlib, and `UsageError` where there is nothing to draw or no such layer.
        """
        # By name: tables know nothing of reports, and drawing is loaded when something is shown.
        figure: Figure = import_module("deadneuron.report.plot").plot_run(self, layer)
        return figure

    def _repr_html_(self) -> str:
        shown: str = import_module("deadneuron.report.notebook").run_html(self)
        return shown

    @property
    def info(self) -> RunInfo:
        """Model, versions, profile, parameter groups, sites."""
        return self._stored.info

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._stored.info.sites

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was not measured or could not be read."""
        return self._stored.gaps

    @cached_property
    def phase(self) -> Phase:
        """The phase that is judged: training, or evaluation where nothing else was watched."""
        phases = {window.phase for window in self._stored.windows} - {"reference"}
        return "eval" if phases == {"eval"} else "train"

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Experiments on the learning rate whose results are kept with the run."""
        return self._stored.trials

    @cached_property
    def references(self) -> dict[int, list[Window]]:
        """The passes of the frozen reference batch by site number, in order of steps."""
        grouped: dict[int, list[Window]] = {}
        for window in self._stored.windows:
            if window.phase == "reference":
                grouped.setdefault(window.site, []).append(window)
        return grouped

    @cached_property
    def timelines(self) -> dict[int, Timeline]:
        """The windows of each site that was seen, as matrices, by site number."""
        grouped: dict[int, list[Window]] = {}
        for window in self._stored.windows:
            if window.phase == self.phase:
                grouped.setdefault(window.site, []).append(window)
        size = self.info.dataset_size
        made = {site.number: make_timeline(site, grouped.get(site.number, []), size) for site in self.sites}
        return {number: timeline for number, timeline in made.items() if timeline is not None}

    @cached_property
    def ticks(self) -> pd.DataFrame:
        """One row a step: step, time (UTC), skipped, loss, grad_norm; `lr:<group>`, the rate that this step used, and
        `dither:<group>`, what a dither had multiplied it by (NaN where there is none).

        finite: whether the logged loss was, or where none was logged the model's output; <NA> where neither is known.
        """
        ticks = self._stored.ticks
        table = {
            "step": np.array([tick.step for tick in ticks], dtype=np.int64),
            "time": pd.to_datetime([tick.time for tick in ticks], unit="s", utc=True, errors="coerce"),
            "skipped": np.array([tick.skipped for tick in ticks], dtype=bool),
            "loss": [np.nan if tick.loss is None else tick.loss for tick in ticks],
            "grad_norm": [np.nan if tick.grad_norm is None else tick.grad_norm for tick in ticks],
            "finite": pd.array([_finite(tick) for tick in ticks], dtype="boolean"),
        }
        for index, group in enumerate(self.info.groups):
            rates = [tick.rates[index] if index < len(tick.rates) else np.nan for tick in ticks]
            table[f"lr:{group}"] = np.array(rates, dtype=float)
            drawn = [tick.multipliers or () for tick in ticks]
            table[f"dither:{group}"] = np.array([d[index] if index < len(d) else np.nan for d in drawn], dtype=float)
        return pd.DataFrame(table)

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row a (site, window).

        site, layer, first_step, last_step, samples (independent examples), rows (examples × positions);
        active (mean share of rows inside the gate), dead, silent, rare (units in that state at the window's end),
        units; mean and std of the pre-activations, magnitude (mean |output|), above (share of rows at or beyond the
        gate's upper end), nonfinite (share), all over sampled_rows.
        """
        rows = []
        for timeline in self.timelines.values():
            for moment in walk(timeline, self.info.thresholds):
                window = timeline.windows[moment.window]
                counts = np.bincount(moment.states, minlength=len(STATE_NAMES))
                rows.append(
                    {
                        "site": window.site,
                        "layer": timeline.site.name,
                        "first_step": window.first_step,
                        "last_step": window.last_step,
                        "samples": window.samples,
                        "rows": window.rows,
                        "active": float(window.active.mean() / window.rows),
                        **{name: int(counts[STATE_NAMES.index(name)]) for name in ("dead", "silent", "rare")},
                        "units": timeline.site.units,
                        **_statistics([window]),
                    }
                )
        return pd.DataFrame(rows, columns=_LAYER_COLUMNS)

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row a unit, at the end of the run.

        site, layer, unit; state (active, rare, silent, dead); active (share of all rows inside the gate);
        first_active, last_active (steps, <NA> for never); silent_steps (watched steps since then), silent_samples
        (independent examples in its silent windows) and bound (3/silent_samples); peak (largest finite pre-activation);
        mean, std, magnitude, above, nonfinite as in `layers`, over the whole run.
        """
        tables = []
        for timeline in self.timelines.values():
            *_, last = walk(timeline, self.info.thresholds)
            rows = sum(window.rows for window in timeline.windows)
            first = np.where(timeline.first_active < 0, np.iinfo(np.int64).max, timeline.first_active).min(axis=0)
            tables.append(
                pd.DataFrame(
                    {
                        "site": timeline.site.number,
                        "layer": timeline.site.name,
                        "unit": np.arange(timeline.site.units),
                        "state": pd.Categorical.from_codes(
                            last.states.astype(np.int8), categories=pd.Index(STATE_NAMES)
                        ),
                        "active": timeline.active.sum(axis=0) / rows,
                        "first_active": pd.array(first, dtype="Int64"),
                        "last_active": pd.array(last.last_seen, dtype="Int64"),
                        "silent_steps": last.silent_steps,
                        "silent_samples": last.silent_samples,
                        "bound": np.array([bound(int(n)) for n in last.silent_samples], dtype=float),
                        **_unit_statistics(timeline.windows),
                    }
                )
            )
            never = last.last_seen < 0
            tables[-1].loc[never, ["first_active", "last_active"]] = pd.NA
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_UNIT_COLUMNS)

    @cached_property
    def histograms(self) -> pd.DataFrame:
        """One row a (site, window, bin): site, layer, first_step, last_step, of ("input", "output"), low, high, count.

        Bins are half octaves; low and high may be infinite. Bins with high ≤ 0 hold exactly what is at or below zero.
        """
        low = np.concatenate([[-np.inf], HISTOGRAM_EDGES])
        high = np.concatenate([HISTOGRAM_EDGES, [np.inf]])
        tables = []
        for timeline in self.timelines.values():
            for window in timeline.windows:
                for of, counts in (("input", window.histogram), ("output", window.output_histogram)):
                    if counts is not None:
                        place = {"site": window.site, "layer": timeline.site.name}
                        steps = {"first_step": window.first_step, "last_step": window.last_step}
                        tables.append(
                            pd.DataFrame({**place, **steps, "of": of, "low": low, "high": high, "count": counts})
                        )
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_HISTOGRAM_COLUMNS)


def _finite(tick: Tick) -> bool | None:
    """By the loss, if one was logged: it is what the training goes by. Else by the model's output."""
    return tick.finite if tick.loss is None else bool(np.isfinite(tick.loss))


# What empty tables are made of: a run that saw nothing has the same columns.
_STATISTICS = ["mean", "std", "magnitude", "above", "nonfinite"]
_STEPS = ["site", "layer", "first_step", "last_step"]
_LAYER_COLUMNS = [
    *_STEPS,
    *("samples", "rows", "active", "dead", "silent", "rare", "units"),
    *_STATISTICS,
    "sampled_rows",
]
_UNIT_COLUMNS = [
    *("site", "layer", "unit", "state", "active", "first_active", "last_active"),
    *("silent_steps", "silent_samples", "bound", "mean", "std", "magnitude", "peak", "above", "nonfinite"),
]
_HISTOGRAM_COLUMNS = [*_STEPS, "of", "low", "high", "count"]


def _unit_statistics(windows: Sequence[Window]) -> dict[str, Floats]:
    """Per-unit statistics over several windows, each weighted by its finite sampled rows."""
    weights = [finite_rows(w) for w in windows]
    sampled = max(sum(w.sampled_rows for w in windows), 1)
    mean = weighted_mean([w.mean for w in windows], weights)
    square = weighted_mean([w.square for w in windows], weights)
    peaks = [w.peak for w in windows if w.peak is not None]
    with np.errstate(over="ignore", invalid="ignore"):  # a diverged net: Inf - Inf is a NaN, and said to be so
        std = np.sqrt(np.maximum(square - mean**2, 0))
    return {
        "mean": mean,
        "std": std,
        "magnitude": weighted_mean([w.magnitude for w in windows], weights),
        "peak": np.fmax.reduce(peaks) if peaks else np.full_like(mean, np.nan),
        "above": np.sum([w.above for w in windows], axis=0) / sampled,
        "nonfinite": np.sum([w.nonfinite for w in windows], axis=0) / sampled,
    }


def _statistics(windows: Sequence[Window]) -> dict[str, float | int]:
    """The same over all units of a layer; units without finite statistics are left out."""
    units = _unit_statistics(windows)
    means, stds, magnitudes = (units[name] for name in ("mean", "std", "magnitude"))
    known = np.isfinite(means) & np.isfinite(stds)
    with np.errstate(over="ignore"):
        variance = _mean(stds[known] ** 2) + float(np.var(means[known])) if known.any() else float("nan")
    return {
        "mean": _mean(means[known]),
        "std": float(np.sqrt(variance)),
        "magnitude": _mean(magnitudes[np.isfinite(magnitudes)]),
        "above": float(units["above"].mean()),
        "nonfinite": float(units["nonfinite"].mean()),
        "sampled_rows": sum(window.sampled_rows for window in windows),
    }


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
