"""TensorBoard: event files for its Scalars, Histograms and Custom Scalars pages, written from a run's records.

    with deadneuron.watch(model, optimizer, sinks=[deadneuron.TensorBoard("tb/first")]): …

docs/tensorboard.md tells what each chart shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deadneuron.errors import UsageError
from deadneuron.records import Floats, RunInfo, Site, Tick, Window
from deadneuron.sinks.buckets import Buckets, output_buckets, share_at_zero
from deadneuron.sinks.rates import Line
from deadneuron.sinks.tab import Tab
from deadneuron.states import ACTIVE, DEAD, FOR_EVER, RARE, SILENT, States, Walker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PATIENCES = 20  # whose rates are kept: a site that is seldom seen takes many steps to be silent for a patience

# A dot, not a slash: TensorBoard makes one group of cards of all tags with the same text before their first slash.
_CHARTS: Mapping[str, str] = {
    "Dead units (share)": "dead",
    "Learning rate": "lr",
    "Units newly dead in each window": "deaths",
    "Silent units, not dead yet (share)": "silent",
    "Rare units (share)": "rare",
    "Pre-activations at or below zero (share)": "zero",
    "Mean size of the output": "magnitude",
}

LAYOUT: Mapping[str, Mapping[str, Sequence[Any]]] = {
    # TensorBoard matches regular expressions from a tag's beginning: sites that come later are drawn too.
    "Dead neurons": {title: ["Multiline", [rf"deadneuron\.{name}/"]] for title, name in _CHARTS.items()}
}
"""The page "Dead neurons" of Custom Scalars, to be joined with a layout of your own: `{**mine, **LAYOUT}`."""


class TensorBoard:
    """A sink that writes TensorBoard's event files while a run is recorded, or when it is replayed.

    Args:
        where: the log folder, or a SummaryWriter of yours: it is written to and flushed, and never closed.
        layout: whether to write the Custom Scalars page "Dead neurons". TensorBoard keeps the newest layout of a log
            folder; say False if your SummaryWriter writes one, and join `LAYOUT` to it.
    """

    def __init__(self, where: str | Path | SummaryWriter, *, layout: bool = True) -> None:
        if not isinstance(where, (str, Path)) and not hasattr(where, "add_histogram_raw"):
            todo = "give the path of a log folder, or a torch.utils.tensorboard.SummaryWriter"
            raise UsageError("TensorBoard cannot write to this", where=type(where).__name__, todo=todo)
        self.where, self.layout = where, layout
        self._writer: Any = None
        self._info: RunInfo | None = None
        self._walkers: dict[tuple[int, str], Walker] = {}  # by site and phase
        self._states: dict[tuple[int, str], States] = {}  # at the end of each one's last window
        self._lines: dict[int, Line] = {}
        self._rates: dict[int, Floats] = {}  # of each step that a death may still be dated to
        self._tab: Tab | None = None
        self._time: float | None = None  # of the newest tick

    def open(self, info: RunInfo) -> None:
        """Make the log folder and its event file, and lay out the page."""
        self._walkers, self._states, self._lines, self._rates = {}, {}, {}, {}
        self._time, self._info = None, info
        if isinstance(self.where, (str, Path)):
            from torch.utils.tensorboard import SummaryWriter  # here: a report without --to waits for no torch

            self._writer = SummaryWriter(str(self.where))
        else:
            self._writer = self.where
        self._tab = Tab(self._writer) if hasattr(self._writer, "_get_file_writer") else None
        if self.layout:
            self._writer.add_custom_scalars(LAYOUT)
        self._writer.flush()

    def write(self, info: RunInfo, windows: Sequence[Window], ticks: Sequence[Tick]) -> None:
        """Add the points of these windows and ticks, and make them readable at once."""
        self._info = info
        sites = {site.number: site for site in info.sites}
        before, times = self._time, {tick.step: tick.time for tick in ticks}
        for tick in ticks:
            self._write_rates(tick, info)
            self._rates[tick.step] = np.array(tick.rates, dtype=float)
        for window in windows:
            time = times.get(window.last_step, before or self._time)
            self._write_window(sites[window.site], window, time, info)
        if self._tab is not None:
            self._tab.flush()
        self._forget(windows, info)
        self._writer.flush()

    def close(self) -> None:
        """Write each rate's last point; close the event file, unless the SummaryWriter is yours."""
        if self._writer is None:  # it was never opened
            return
        writer, self._writer = self._writer, None
        assert self._info is not None
        try:
            for index, line in self._lines.items():
                for step, rate, time in line.rest():
                    writer.add_scalar(_rate_tag(index, self._info), rate, step, time)
            writer.flush()
        finally:
            if writer is not self.where:
                writer.close()

    def _write_window(self, site: Site, window: Window, time: float | None, info: RunInfo) -> None:
        if window.phase == "reference":  # it has no statistics, and its silence is no state
            return
        key = (window.site, window.phase)
        if key not in self._walkers:
            self._walkers[key] = Walker(site.units, info.thresholds, info.dataset_size or FOR_EVER)
            self._states[key] = np.full(site.units, ACTIVE, dtype=np.uint8)
        moment = self._walkers[key].step(window)
        before, states = self._states[key], moment.states
        self._states[key] = states
        magnitudes = window.magnitude[np.isfinite(window.magnitude)]
        values = {
            "dead": float(np.mean(states == DEAD)),
            "silent": float(np.mean(states == SILENT)),
            "rare": float(np.mean(states == RARE)),
            "deaths": float(np.sum((states == DEAD) & (before != DEAD))),
            "magnitude": float(np.mean(magnitudes)) if len(magnitudes) else None,
            "zero": share_at_zero(window),
        }
        name = site.name if window.phase == "train" else f"{site.name} ({window.phase})"
        if self._tab is not None:
            self._tab.add(site, window, name, moment, self._rates, time)
        for kind, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"deadneuron.{kind}/{name}", value, window.last_step, time)
        buckets = output_buckets(site, window)
        if buckets is not None:
            add = partial(self._writer.add_histogram_raw, f"deadneuron.outputs/{name}")
            add(**_as_raw(buckets), global_step=window.last_step, walltime=time)

    def _forget(self, windows: Sequence[Window], info: RunInfo) -> None:
        """Rates of steps that no death to come can be dated to: a unit dies by silence that began a patience ago."""
        if windows:
            oldest = windows[-1].last_step - _PATIENCES * max(info.thresholds.patience, info.sampling.window)
            self._rates = {step: rates for step, rates in self._rates.items() if step >= oldest}

    def _write_rates(self, tick: Tick, info: RunInfo) -> None:
        self._time = tick.time
        for index, rate in enumerate(tick.rates):
            if np.isfinite(rate):  # NaN: this group's optimizer did not step
                line = self._lines.setdefault(index, Line())
                points = line.add((tick.step, rate, tick.time))
                if (tick.step + 1) % info.sampling.window == 0:  # the window's end: no chart lags behind
                    points += line.rest()
                for step, value, time in points:
                    self._writer.add_scalar(_rate_tag(index, info), value, step, time)


def _rate_tag(index: int, info: RunInfo) -> str:
    return f"deadneuron.lr/{info.groups[index] if index < len(info.groups) else f'group {index}'}"


def _as_raw(buckets: Buckets) -> dict[str, Any]:
    """What `add_histogram_raw` asks for. Sums are those that the values would have in the middle of their buckets."""
    counts, middles = np.array(buckets.counts, dtype=float), np.array(buckets.middles)
    return {
        "min": buckets.low,
        "max": buckets.limits[-1],
        "num": int(counts.sum()),
        "sum": float(counts @ middles),
        "sum_squares": float(counts @ middles**2),
        "bucket_limits": list(buckets.limits),
        "bucket_counts": counts.tolist(),
    }
