"""Records made by hand, for tests of everything above the waist. Plain Python: no part of the library judges here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from deadneuron.frames import Run
from deadneuron.profiles import load_profile
from deadneuron.records import BINS, HISTOGRAM_EDGES, Gap, RunInfo, Site, Thresholds, Tick, Window
from deadneuron.store.reader import StoredRun

PROFILE = load_profile("default")
POSITIONS = 3  # rows an example


def make_thresholds(**changes) -> Thresholds:
    return replace(PROFILE.thresholds, **changes)


def make_site(number: int = 0, units: int = 7, **changes) -> Site:
    values = {
        "name": f"layer{number}",
        "module": f"layer{number}",
        "call": 0,
        "op": "ReLU",
        "source": "module",
        "unit_axis": 1,
        "axis_from": "producer",
        "gate": (0.0, math.inf),
        "feeder": f"layer{number}.bias",
        "groups": (0,),
        "outputs": tuple(max(edge, 0.0) for edge in HISTOGRAM_EDGES.tolist()),
    }
    if "group" in changes:
        group = changes.pop("group")
        changes["groups"] = () if group is None else (group,)
    return Site(number=number, units=units, **(values | changes))


def make_info(sites: Iterable[Site] = (), **changes) -> RunInfo:
    sites = tuple(sites)
    values = {
        "format": 1,
        "run": "runs/made",
        "started": "2024-02-29T12:00:00+00:00",
        "model": "Net",
        "rank": 0,
        "world": 1,
        "versions": {"deadneuron": "0.1.0"},
        "profile": "default",
        "sampling": PROFILE.sampling,
        "thresholds": PROFILE.thresholds,
        "groups": ("SGD[0]",),
        "modules": tuple(dict.fromkeys(site.module for site in sites)),
        "ended": "2024-02-29T12:10:00+00:00",
    }
    return RunInfo(sites=sites, **(values | changes))


def make_window(site: Site, first: int, last: int, active: Sequence[Sequence[int]], **changes) -> Window:
    """The window of steps first … last; active[i][u] rows of unit u were inside the gate in step first + i."""
    units, steps = site.units, range(first, last + 1)
    assert len(active) == len(steps)
    fired = [[step for step, row in zip(steps, active, strict=True) if row[u] > 0] for u in range(units)]
    samples = changes.pop("samples", 11 * len(steps))
    histogram = np.zeros(BINS, dtype=np.int64)
    # More values above zero than below: no spike, unless a test wants one.
    histogram[int(np.searchsorted(HISTOGRAM_EDGES, -1.0))] = units * samples * 4 // 10
    histogram[int(np.searchsorted(HISTOGRAM_EDGES, 1.0))] = units * samples - units * samples * 4 // 10
    values = {
        "phase": "train",
        "rank": 0,
        "steps": changes.pop("seen", len(steps)),
        "samples": samples,
        "rows": samples * POSITIONS,
        "active": ints(sum(row[u] for row in active) for u in range(units)),
        "first_active": ints(f[0] if f else -1 for f in fired),
        "last_active": ints(f[-1] if f else -1 for f in fired),
        "sampled_rows": samples,
        "above": np.zeros(units, dtype=np.int64),
        "nonfinite": np.zeros(units, dtype=np.int64),
        "first_nonfinite": np.full(units, -1, dtype=np.int64),
        "mean": np.full(units, -1.0),
        "square": np.full(units, 2.0),
        "magnitude": np.full(units, 0.25),
        "peak": np.full(units, 0.5),
        "histogram": histogram,
        "output_histogram": None,
        "last_common": ints(f[-1] if f else -1 for f in fired),
    }
    return Window(site=site.number, first_step=first, last_step=last, **(values | changes))


def make_windows(
    site: Site, fired: Sequence[Sequence[int]], ends: Iterable[int], *, first: int = 0, **changes
) -> list[Window]:
    """Windows that end at `ends`; fired[s][u]: rows inside the gate in step s, or None where s was not seen at all.

    A window none of whose steps was seen is not written, as in a real run.
    """
    made = []
    for end in ends:
        steps = range(first, end + 1)
        seen = [step for step in steps if fired[step] is not None]
        if seen:
            rows = [fired[step] if fired[step] is not None else [0] * site.units for step in steps]
            made.append(
                make_window(site, first, end, rows, **({"samples": 11 * len(seen), "seen": len(seen)} | changes))
            )
        first = end + 1
    return made


def lives(units: int, steps: int, silent: dict[int, Sequence[tuple[int, int]]]) -> list[list[int]]:
    """fired[s][u]: active in every step, but for the spells (first, last) in which a unit was silent."""
    return [
        [0 if any(a <= step <= b for a, b in silent.get(unit, ())) else 5 + unit for unit in range(units)]
        for step in range(steps)
    ]


def ends_every(length: int, steps: int) -> list[int]:
    """Ends of windows of that length; the last may be short."""
    return sorted({*range(length - 1, steps, length), steps - 1})


def make_ticks(rates: Iterable[float | Sequence[float]], **changes) -> list[Tick]:
    ticks = []
    for step, rate in enumerate(rates):
        used = tuple(rate) if isinstance(rate, Sequence) else (rate,)
        ticks.append(Tick(step, 1.7e9 + step, used, **changes))
    return ticks


def make_run(
    sites: Iterable[Site] = (),
    windows: Iterable[Window] = (),
    ticks: Iterable[Tick] = (),
    gaps: Iterable[Gap] = (),
    **info,
) -> Run:
    made = make_info(sites, **info)
    return Run(StoredRun(made, tuple(windows), tuple(ticks), tuple(gaps)), made.run)


def ints(values: Iterable[int]) -> np.ndarray:
    return np.array(list(values), dtype=np.int64)


def same(left: object, right: object, *, relative: float = 0.0) -> bool:
    """Whether two records are equal, arrays and NaN included; floats in arrays up to a relative error."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        if not (isinstance(left, np.ndarray) and isinstance(right, np.ndarray)) or left.shape != right.shape:
            return False
        if left.dtype.kind != right.dtype.kind:
            return False
        if left.dtype.kind == "f":
            return bool(np.allclose(left, right, rtol=relative, atol=0.0, equal_nan=True))
        return bool(np.array_equal(left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same(a, b, relative=relative) for a, b in zip(left, right, strict=True))
    if hasattr(left, "__dataclass_fields__"):
        return type(left) is type(right) and all(
            same(getattr(left, name), getattr(right, name), relative=relative) for name in left.__dataclass_fields__
        )
    return left == right
