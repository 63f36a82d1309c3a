"""What the "Dead neurons" tab of TensorBoard draws, written as tags of that plugin: shares, states of units, deaths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deadneuron.pictures import pool_rows
from deadneuron.records import Floats, Ints, Site, Window
from deadneuron.sinks.tags import BLOCK, BORN, DEATHS, DIED, NAMES, PLUGIN, REVIVED, SHARES, STATES, TAB_VERSION
from deadneuron.states import DEAD, NEVER, RARE, SILENT, Moment, States

RateAt = Mapping[int, Floats]
"""Step → the rate of each parameter group that this step used."""


class Tab:
    """Writes the tab's tags; one to a run."""

    def __init__(self, writer: Any) -> None:
        self._add = _adder(writer)
        self._names: list[tuple[str, str, int, int, str]] = []
        self._places: dict[tuple[int, str], int] = {}  # by site and phase
        self._states: dict[int, States] = {}
        # Of the windows that are being written, by (last step, time):
        self._rows: dict[tuple[int, float | None], list[list[int]]] = {}
        self._deaths: dict[tuple[int, float | None], list[Floats]] = {}
        self._written = 0  # tables of deaths

    def add(self, site: Site, window: Window, name: str, moment: Moment, rates: RateAt, time: float | None) -> None:
        """One window of one site; `moment` tells the states of its units at its end."""
        place = self._place(site, window, name, time)
        pooled, _ = pool_rows(moment.states[:, None])
        self._add(f"{STATES}/{place}", pooled[:, 0], window.last_step, time)
        counts = [int((moment.states == state).sum()) for state in (DEAD, SILENT, RARE)]
        dead = moment.states == DEAD
        samples = int(moment.silent_samples[dead].min()) if dead.any() else 0
        row = [place, window.first_step, *counts, min(samples, np.iinfo(np.int32).max)]
        self._rows.setdefault((window.last_step, time), []).append(row)
        events = self._events(place, site, window, moment, rates)
        if events is not None:
            self._deaths.setdefault((window.last_step, time), []).append(events)

    def flush(self) -> None:
        """Write what is said of all sites: one table of shares, and one of deaths, for windows that end together."""
        for (step, time), rows in self._rows.items():
            self._add(SHARES, np.array(rows, dtype=np.int32), step, time)
        for (step, time), events in self._deaths.items():
            self._add(f"{DEATHS}/{self._written // BLOCK}", np.concatenate(events), step, time)
            self._written += 1
        self._rows.clear()
        self._deaths.clear()

    def _place(self, site: Site, window: Window, name: str, time: float | None) -> int:
        key = (site.number, window.phase)
        if key not in self._places:
            self._places[key] = len(self._names)
            _, per_row = pool_rows(np.zeros((site.units, 1), dtype=np.uint8))
            self._names.append((name, site.op, site.units, per_row, window.phase))
            text = json.dumps({"version": TAB_VERSION, "sites": self._names})
            self._add(NAMES, np.array(text.encode(), dtype=object), window.last_step, time)
        return self._places[key]

    def _events(self, place: int, site: Site, window: Window, moment: Moment, rates: RateAt) -> Floats | None:
        """[events, 5] of this window: place, unit, step, rate, kind; None where nothing happened."""
        before = self._states.get(place, np.zeros(site.units, dtype=np.uint8))
        self._states[place] = moment.states
        died = np.flatnonzero((moment.states == DEAD) & (before != DEAD))
        woke = np.flatnonzero((moment.states != DEAD) & (before == DEAD))
        if not len(died) and not len(woke):
            return None
        born = moment.last_seen[died] == NEVER
        steps: Ints = np.where(born, 0, moment.last_seen[died])
        used = [np.nan if b else _rate(rates, int(s), site.groups) for s, b in zip(steps, born, strict=True)]
        begun = np.column_stack([died, steps, used, np.where(born, BORN, DIED)])
        at = np.maximum(window.first_active[woke], window.first_step)
        ended = np.column_stack([woke, at, np.full(len(woke), np.nan), np.full(len(woke), REVIVED)])
        events = np.concatenate([begun, ended]).astype(np.float64)
        return np.column_stack([np.full(len(events), place, dtype=np.float64), events])


def _rate(rates: RateAt, step: int, groups: Sequence[int]) -> float:
    """The rate of update `step` for the first of the groups that it moved; NaN where none is known."""
    used = rates.get(step)
    known = [] if used is None else [float(used[g]) for g in groups if g < len(used) and np.isfinite(used[g])]
    return known[0] if known else float("nan")


def _adder(writer: Any) -> Any:
    """A function that writes an array as a tag of our plugin: SummaryWriter itself only writes its own plugins'."""
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
    from tensorboard.util.tensor_util import make_tensor_proto

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN), data_class=DATA_CLASS_TENSOR)

    def add(tag: str, array: Any, step: int, time: float | None) -> None:
        value = Summary.Value(tag=tag, tensor=make_tensor_proto(array), metadata=metadata)
        writer._get_file_writer().add_summary(Summary(value=[value]), step, time)

    return add
