"""What the tab asks for, read through TensorBoard's data provider. numpy only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorboard.data.provider import RunTagFilter

from deadneuron.pictures import Death, SitePicture
from deadneuron.records import Ints
from deadneuron.report.payload import PAYLOAD_VERSION, packed, site_payload
from deadneuron.sinks.tags import BORN, DEATHS, NAMES, PLUGIN, REVIVED, SHARES, STATES

_SAMPLES = 2000
_POINTS = 500
_RATES = "deadneuron.lr/"
Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the data is, for one request."""

    provider: Any
    context: Any
    experiment: str

    def tensors(self, run: str, tags: Sequence[str]) -> dict[str, list[tuple[int, Any]]]:
        """(step, array) of each tag, in order of steps; of a step that came twice (a training begun anew) the last."""
        found = self.provider.read_tensors(
            self.context,
            experiment_id=self.experiment,
            plugin_name=PLUGIN,
            downsample=_SAMPLES,
            run_tag_filter=RunTagFilter(runs=[run], tags=list(tags)),
        ).get(run, {})
        return {
            tag: sorted({datum.step: datum.numpy for datum in data}.items(), key=lambda item: item[0])
            for tag, data in found.items()
        }

    def tags(self, plugin: str) -> dict[str, list[str]]:
        """The tags of each run."""
        kind = self.provider.list_scalars if plugin == "scalars" else self.provider.list_tensors
        listed = kind(self.context, experiment_id=self.experiment, plugin_name=plugin)
        return {run: sorted(tags) for run, tags in listed.items()}


def runs(source: Source, query: Query) -> list[str]:
    """The runs that have something to show."""
    return sorted(run for run, tags in source.tags(PLUGIN).items() if SHARES in tags)


def overview(source: Source, query: Query) -> dict[str, Any]:
    """The payload of one run without the states of single units."""
    run = query["run"]
    mine = source.tags(PLUGIN).get(run, [])
    deaths = [tag for tag in mine if tag.startswith(f"{DEATHS}/")]
    found = source.tensors(run, [NAMES, SHARES, *deaths])
    if not found.get(SHARES):
        raise ValueError(f"run {run!r} has no record of dead neurons (any more)")
    names = _names(found[NAMES][-1][1])
    rows = [(step, row) for step, table in found[SHARES] for row in np.atleast_2d(table)]
    pictures = []
    for place, (name, op, units, per_row) in enumerate(names):
        own = [(step, row) for step, row in rows if row[0] == place]
        if own:
            events = [(step, event) for step, array in found.get(f"{DEATHS}/{place}", []) for event in array]
            pictures.append(_site(place, (name, op, units, per_row), own, [event for _, event in events]))
    steps = [step for step, _ in found[SHARES]]
    return {
        "version": PAYLOAD_VERSION,
        "name": run,
        "steps": [int(min(site.first[0] for site in pictures)), int(steps[-1])],
        "rates": _rates(source, run),
        "loss": [],
        "sites": [site_payload(site) | {"states": None} for site in pictures],
    }


def site(source: Source, query: Query) -> dict[str, Any]:
    """The states of the units of one site, one column a window."""
    run, place = query["run"], int(query["place"])
    found = source.tensors(run, [f"{STATES}/{place}", SHARES])
    columns = found.get(f"{STATES}/{place}", [])
    if not columns:
        raise ValueError("the states of its units are not in this log folder")
    begins = {
        step: int(row[1]) for step, table in found.get(SHARES, []) for row in np.atleast_2d(table) if row[0] == place
    }
    states = np.stack([column for _, column in columns], axis=1).astype(np.uint8)
    last = np.array([step for step, _ in columns])
    first = _begins(last, [begins.get(step) for step, _ in columns])
    return {"rows": int(states.shape[0]), "states": packed(states), "first": first.tolist(), "last": last.tolist()}


def _names(array: Any) -> list[tuple[str, str, int, int]]:
    text = array.item() if hasattr(array, "item") else array
    return [(str(n), str(op), int(units), int(rows)) for n, op, units, rows in json.loads(text)]


def _site(
    place: int, names: tuple[str, str, int, int], rows: Sequence[tuple[int, Any]], events: Sequence[Any]
) -> SitePicture:
    name, op, units, per_row = names
    last = np.array([step for step, _ in rows])
    table = np.stack([row for _, row in rows])
    shares = np.ceil(np.clip(table[:, 2:5] / units, 0, 1) * 255).astype(np.uint8)
    samples = int(table[-1, 5])
    return SitePicture(
        number=place,
        name=name,
        op=op,
        units=units,
        first=_begins(last, [int(begin) for begin in table[:, 1]]),
        last=last,
        dead=shares[:, 0],
        silent=shares[:, 1],
        rare=shares[:, 2],
        states=np.zeros((-(-units // per_row), 0), dtype=np.uint8),
        per_row=per_row,
        deaths=_deaths(events),
        samples=samples or None,
        bound=min(1.0, 3 / samples) if samples else None,
        histogram=None,
        edges=(),
    )


def _begins(last: Ints, told: Sequence[int | None]) -> Ints:
    """First step of each column. TensorBoard keeps a sample of the windows: a column reaches back to the one before."""
    before = np.r_[-1, last[:-1]] + 1
    first = np.array([b if t is None else t for b, t in zip(before, told, strict=True)])
    made: Ints = np.where(np.arange(len(last)) > 0, before, np.minimum(first, last))
    return made


def _deaths(events: Sequence[Any]) -> tuple[Death, ...]:
    """Deaths and revivals, in order of time, as lives."""
    lives: list[Death] = []
    open_: dict[int, int] = {}
    for unit, step, rate, kind in events:
        number = int(unit)
        if int(kind) == REVIVED:
            index = open_.pop(number, None)
            if index is not None:
                one = lives[index]
                lives[index] = Death(one.unit, one.first, int(step), one.rate, one.born, None)
        else:
            open_[number] = len(lives)
            known = None if np.isnan(rate) else float(rate)
            lives.append(Death(number, int(step), None, known, int(kind) == BORN, None))
    return tuple(lives)


def _rates(source: Source, run: str) -> list[dict[str, Any]]:
    tags = [tag for tag in source.tags("scalars").get(run, []) if tag.startswith(_RATES)]
    if not tags:
        return []
    read = source.provider.read_scalars(
        source.context,
        experiment_id=source.experiment,
        plugin_name="scalars",
        downsample=_POINTS,
        run_tag_filter=RunTagFilter(runs=[run], tags=tags),
    ).get(run, {})
    return [
        {"group": tag.removeprefix(_RATES), "points": [[datum.step, float(datum.value)] for datum in data]}
        for tag, data in sorted(read.items())
    ]
