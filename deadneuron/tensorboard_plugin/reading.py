"""What the tab asks for: the runs, one run's overview, the lives of one site's units. Dicts for JSON; numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from deadneuron.pictures import Death, SitePicture, grouped
from deadneuron.records import Floats, Ints
from deadneuron.report.payload import PAYLOAD_VERSION, curve_payload, death_payload, packed, payload_of_sites
from deadneuron.sinks.tags import BORN, DIED, REVIVED, STATES
from deadneuron.tensorboard_plugin.source import NothingRecordedError, Place, Record, Source

_COLUMNS = 256  # of a site in the overview: more windows are pooled
_POINTS = 500  # of a rate's curve
_TICKS = 512  # bins of steps in which the overview counts deaths
_RATES = "deadneuron.lr/"
Query = Mapping[str, str]


def runs(source: Source, query: Query) -> list[str]:
    """The runs that have something to show."""
    return source.runs()


def overview(source: Source, query: Query) -> dict[str, Any]:
    """The payload of one run without its single units: shares of each site, and how many units died when."""
    run = query["run"]
    record = source.record(run)
    first, last = int(record.rows[:, 1].min()), int(record.steps[-1])
    by_place = np.argsort(record.rows[:, 0], kind="stable")
    edges = np.searchsorted(record.rows[by_place, 0], np.arange(len(record.places) + 1))
    ticks = _ticks(record, first, last)
    pictures = [
        _site(place, record.places[place], record, by_place[a:b])
        for place, (a, b) in enumerate(pairwise(edges.tolist()))
        if b > a
    ]
    columns, sites = payload_of_sites(pictures)
    return {
        "version": PAYLOAD_VERSION,
        "name": run,
        "steps": [first, last],
        "rates": [curve_payload(group, points) for group, points in source.scalars(run, _RATES, _POINTS).items()],
        "loss": [],
        "columns": columns,
        "sites": [
            site | {"states": None, "ticks": packed(ticks[picture.number])}
            for site, picture in zip(sites, pictures, strict=True)
        ],
    }


def site(source: Source, query: Query) -> dict[str, Any]:
    """The states of the units of one site, one column a window, and their deaths."""
    run, place = query["run"], int(query["place"])
    record = source.record(run)
    columns = source.tensors(run, [f"{STATES}/{place}"]).get(f"{STATES}/{place}", [])
    if not columns or not 0 <= place < len(record.places):
        raise NothingRecordedError("the states of its units are not in this log folder")
    states = np.stack([column for _, column in columns], axis=1).astype(np.uint8)
    last = np.array([step for step, _ in columns])
    mine = record.rows[:, 0] == place
    told = dict(zip(record.steps[mine].tolist(), record.rows[mine, 1].tolist(), strict=True))
    begins = np.array([told.get(step, -1) for step in last.tolist()])
    without = np.setdiff1d(record.looks, record.steps[mine])
    first = _begins(last, begins, without, record.places[place])
    events = record.events[record.events[:, 0] == place]
    return {
        "rows": int(states.shape[0]),
        "states": packed(states, level=6),
        "first": first.tolist(),
        "last": last.tolist(),
        "deaths": [death_payload(one) for one in _deaths(events)],
    }


def _site(number: int, place: Place, record: Record, chosen: Ints) -> SitePicture:
    last, rows = record.steps[chosen], record.rows[chosen]
    first = _begins(last, rows[:, 1], np.setdiff1d(record.looks, last), place)
    groups = grouped(len(last), _COLUMNS)
    starts, ends = np.array([a for a, _ in groups]), np.array([b for _, b in groups])
    sums = np.add.reduceat(rows[:, 2:5], starts, axis=0) / (ends - starts)[:, None]
    shares = np.ceil(np.clip(sums / max(place.units, 1), 0, 1) * 255).astype(np.uint8)
    samples = int(rows[-1, 5])
    return SitePicture(
        number=number,
        name=place.name,
        op=place.op,
        units=place.units,
        first=first[starts],
        last=last[ends - 1],
        dead=shares[:, 0],
        silent=shares[:, 1],
        rare=shares[:, 2],
        states=np.zeros((0, len(groups)), dtype=np.uint8),
        per_row=place.per_row,
        deaths=(),
        samples=samples or None,
        bound=min(1.0, 3 / samples) if samples else None,
        histogram=None,
        edges=(),
    )


def _begins(last: Ints, told: Ints, without: Ints, place: Place) -> Ints:
    """First step of each column.

    TensorBoard keeps a sample of the windows: a column reaches back to the one before, as an evaluation does. But where
    others were seen in between `without` this one, it was not, and the picture says so.
    """
    before = np.r_[-1, last[:-1]] + 1
    between = np.searchsorted(without, told) > np.searchsorted(without, before)
    unseen = (told > before) & between if place.phase == "train" else np.zeros(len(last), dtype=bool)
    unseen[:1] = told[:1] >= 0
    made: Ints = np.minimum(np.where(unseen, told, before), last)
    return made


def _ticks(record: Record, first: int, last: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[places, bins] how many units died in each stretch of steps, at most 255; units born dead are not among them."""
    counts = np.zeros((len(record.places), _TICKS), dtype=np.int64)
    known = record.events[:, 0] < len(record.places)
    died = record.events[known & (record.events[:, 4] == DIED)]
    bins = np.clip((died[:, 2] - first) * _TICKS // (last + 1 - first), 0, _TICKS - 1).astype(np.int64)
    np.add.at(counts, (died[:, 0].astype(np.int64), bins), 1)
    return np.minimum(counts, 255).astype(np.uint8)


def _deaths(events: Floats) -> tuple[Death, ...]:
    """Deaths and revivals, in order of time, as lives."""
    lives: list[Death] = []
    open_: dict[int, int] = {}
    for _, unit, step, rate, kind in events.tolist():
        number = int(unit)
        if int(kind) == REVIVED:
            index = open_.pop(number, None)
            if index is not None:
                one = lives[index]
                lives[index] = Death(one.unit, one.first, int(step) - 1, one.rate, one.born, None)
        else:
            open_[number] = len(lives)
            known = None if np.isnan(rate) else float(rate)
            lives.append(Death(number, int(step), None, known, int(kind) == BORN, None))
    return tuple(lives)
