"""What the tab's tags hold, read through TensorBoard's data provider and kept until the run has grown. numpy only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorboard.data.provider import RunTagFilter

from deadneuron.records import Floats, Ints
from deadneuron.sinks.tags import DEATHS, NAMES, PLUGIN, SHARES, TAB_VERSION

SAMPLES = 2000  # points of a tag: as many as TensorBoard keeps, see plugin.py
_KEPT = 4  # records of runs that are kept


@dataclass(frozen=True, slots=True)
class Place:
    """One site in one phase: what a row of the tab shows."""

    name: str
    op: str
    units: int
    per_row: int
    phase: str


@dataclass(frozen=True, slots=True)
class Record:
    """All that a run tells of its sites, but for the states of single units."""

    places: tuple[Place, ...]
    looks: Ints  # last steps of all windows, ascending
    steps: Ints  # [rows] of each row's window
    rows: Ints  # [rows, 6] see tags.SHARES
    events: Floats  # [events, 5] see tags.DEATHS


class NothingRecordedError(ValueError):
    """The run has no tags of this plugin, or none that can be read."""


class Source:
    """Where the data is, for one request. `kept` outlives it: records by (experiment, run), with their ages."""

    def __init__(self, provider: Any, context: Any, experiment: str, kept: dict[Any, tuple[Any, Record]]) -> None:
        self._provider, self._context, self._experiment = provider, context, experiment
        self._kept = kept

    def runs(self) -> list[str]:
        """The runs that have something to show."""
        listed = self._provider.list_tensors(self._context, experiment_id=self._experiment, plugin_name=PLUGIN)
        return sorted(run for run, tags in listed.items() if SHARES in tags)

    def record(self, run: str) -> Record:
        """What the run tells of its sites. Raises `NothingRecordedError`."""
        listed = self._provider.list_tensors(
            self._context, experiment_id=self._experiment, plugin_name=PLUGIN, run_tag_filter=RunTagFilter(runs=[run])
        ).get(run, {})
        # A run that grows, or is begun anew, changes its newest step or that step's time.
        age = sorted((tag, found.max_step, found.max_wall_time) for tag, found in listed.items())
        key = (self._experiment, run)
        held = self._kept.pop(key, None)
        if held is None or held[0] != age:
            held = (age, self._read(run, [tag for tag, *_ in age]))
        self._kept[key] = held  # the one used last stands last
        for old in list(self._kept)[:-_KEPT]:
            self._kept.pop(old, None)
        return held[1]

    def _read(self, run: str, tags: Sequence[str]) -> Record:
        deaths = [tag for tag in tags if tag.startswith(f"{DEATHS}/")]
        found = self.tensors(run, [NAMES, SHARES, *deaths])
        if not found.get(SHARES) or not found.get(NAMES):
            raise NothingRecordedError(f"run {run!r} has no record of dead neurons (any more)")
        tables = [np.atleast_2d(table) for _, table in found[SHARES]]
        events = [event for tag in sorted(deaths, key=_block) for _, event in found.get(tag, [])]
        return Record(
            places=_places(found[NAMES][-1][1]),
            looks=np.array([step for step, _ in found[SHARES]]),
            steps=np.repeat([step for step, _ in found[SHARES]], [len(table) for table in tables]),
            rows=np.concatenate(tables).astype(np.int64),
            events=np.concatenate([np.zeros((0, 5)), *events]),
        )

    def tensors(self, run: str, tags: Sequence[str]) -> dict[str, list[tuple[int, Any]]]:
        """(step, array) of each tag, in order of steps; of a step that came twice (a training begun anew) the last."""
        found = self._provider.read_tensors(
            self._context,
            experiment_id=self._experiment,
            plugin_name=PLUGIN,
            downsample=SAMPLES,
            run_tag_filter=RunTagFilter(runs=[run], tags=list(tags)),
        ).get(run, {})
        return {tag: sorted({d.step: d.numpy for d in data}.items()) for tag, data in found.items()}

    def scalars(self, run: str, beginning: str, points: int) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of each scalar of the run whose tag has that beginning, by what follows it."""
        one = {"experiment_id": self._experiment, "plugin_name": "scalars"}
        listed = self._provider.list_scalars(self._context, **one, run_tag_filter=RunTagFilter(runs=[run]))
        tags = [tag for tag in listed.get(run, {}) if tag.startswith(beginning)]
        if not tags:
            return {}
        wanted = RunTagFilter(runs=[run], tags=tags)
        read = self._provider.read_scalars(self._context, **one, downsample=points, run_tag_filter=wanted).get(run, {})
        return {
            tag.removeprefix(beginning): sorted({d.step: float(d.value) for d in data}.items())
            for tag, data in sorted(read.items())
        }


def _block(tag: str) -> tuple[int, str]:
    number = tag.rpartition("/")[2]
    return (int(number) if number.isdigit() else 0, tag)


def _places(array: Any) -> tuple[Place, ...]:
    told = json.loads(array.item() if hasattr(array, "item") else array)
    version = told.get("version") if isinstance(told, dict) else None
    if version != TAB_VERSION:
        raise NothingRecordedError(
            f"this run's pictures have format {version}, and this deadneuron reads {TAB_VERSION}"
        )
    return tuple(
        Place(str(name), str(op), int(units), int(rows), str(phase)) for name, op, units, rows, phase in told["sites"]
    )
