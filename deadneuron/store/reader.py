"""Reads a run folder: a finished one, one that still grows, one whose writer was killed.

What cannot be read becomes a `Gap`; only a folder that is no run at all is an error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow as pa

from deadneuron.causes import Trial
from deadneuron.errors import NotARunError
from deadneuron.records import BINS, Gap, Phase, RunInfo, Tick, Window
from deadneuron.store.layout import OPEN, OPTIONAL, RUN_FILE, SCHEMAS, Kind, Record, from_table, info_from_json
from deadneuron.store.parts import current_parts, missing_parts, open_part
from deadneuron.store.ranks import merge_ranks, merge_ticks
from deadneuron.store.trials import read_trials

_TRIES = 10  # a part may be merged away between listing and reading; each try reads only what is new
_PER_UNIT = (
    *("active", "first_active", "last_active", "above", "nonfinite", "first_nonfinite"),
    *("mean", "square", "magnitude", "peak", "last_common", "flow", "last_flow"),
)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Everything in a run folder, ranks merged, in order of steps."""

    info: RunInfo
    windows: tuple[Window, ...]
    ticks: tuple[Tick, ...]
    gaps: tuple[Gap, ...]
    trials: tuple[Trial, ...] = ()


def read_folder(path: str | Path) -> StoredRun:
    """Raises `NotARunError` or `NewerFormatError`; everything else that is wrong is a gap."""
    path = Path(path)
    todo = "give the folder that deadneuron.watch(run=…) wrote"
    try:
        text = (path / RUN_FILE).read_text("utf-8")
    except (OSError, ValueError):  # ValueError: bytes that are no UTF-8, a path with a NUL
        what = (
            "this is no run folder: it has no readable run.json" if os.path.exists(path) else "there is no such folder"
        )
        inside = sorted({str(found.parent) for depth in ("*", "*/*") for found in path.glob(f"{depth}/{RUN_FILE}")})
        if inside:
            what, todo = "this folder holds runs, and is none itself", f"give one of them, such as {inside[0]}"
        raise NotARunError(what, where=str(path), todo=todo) from None
    info = info_from_json(text, str(path / RUN_FILE))
    records: list[Record] = []
    gaps: list[Gap] = []
    for folder in sorted(path.glob("rank*-*")):
        if folder.is_dir():
            try:
                records += _read_rank(folder, gaps)
            except OSError as error:
                gaps.append(Gap(str(folder), f"this folder cannot be read ({error.strerror})", 0))
    units = {site.number: site.units for site in info.sites}
    windows = [record for record in records if isinstance(record, Window)]
    fitting = [window for window in windows if _fits(window, units.get(window.site))]
    if len(fitting) < len(windows):
        gaps.append(
            Gap("run folder", f"{len(windows) - len(fitting)} windows do not fit the sites that run.json lists", 0)
        )
    gaps += [record for record in records if isinstance(record, Gap)]
    ticks = merge_ticks(record for record in records if isinstance(record, Tick))
    trials = read_trials(path, gaps)
    return StoredRun(info, tuple(merge_ranks(fitting)), tuple(ticks), tuple(dict.fromkeys(gaps)), trials)


def _read_rank(folder: Path, problems: list[Gap]) -> list[Record]:
    """All records of one rank. What cannot be read is added to `problems`."""
    read: dict[Path, list[Record] | Gap | None] = {}
    for _ in range(_TRIES):
        # Before the listing: a window's part is written before the next open window, so that no window is missed.
        opened = _open_windows(folder)
        parts, foreign = current_parts(folder)
        for kind, paths in parts.items():
            read |= {path: _read_part_or_gap(kind, path) for path in paths if read.get(path) is None}
        current = [read[path] for paths in parts.values() for path in paths]
        lost = missing_parts(parts)
        if not lost and None not in current:  # else parts were merged meanwhile, or are gone
            break
    problems += [Gap(str(path), "not a part of this run, left out", 0) for path in foreign]
    problems += [Gap(str(folder), f"missing: {what}", 0) for what in lost]
    problems += [found for found in current if isinstance(found, Gap)]
    records = [record for found in current if isinstance(found, list) for record in found]
    sealed = max((record.last_step for record in records if isinstance(record, Window)), default=-1)
    # The window that was open at the last flush, unless it has been closed and written since.
    return records + [window for window in opened if isinstance(window, Window) and window.last_step > sealed]


def _read_part_or_gap(kind: Kind, part: Path) -> list[Record] | Gap | None:
    """None where the part is no longer there."""
    try:
        return _read_part(kind, part)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0][:120]
        return Gap(str(part), f"this part cannot be read ({reason})", 0)


def _read_part(kind: Kind, part: Path) -> list[Record]:
    table = open_part(part).read()
    columns = [column for column in SCHEMAS[kind] if column.name in table.column_names]
    names = [column.name for column in columns]
    missing = [c.name for c in SCHEMAS[kind] if c.name not in OPTIONAL and c.name not in names]
    if missing:
        raise ValueError(f"it has no column {missing[0]!r} of {kind}")
    table = table.select(names).cast(pa.schema(columns))  # another program may have written it anew
    empty = [name for name in names if name not in OPTIONAL and table.column(name).null_count]
    if empty:
        raise ValueError(f"its column {empty[0]!r} has empty cells")
    return from_table(kind, table)


def _open_windows(folder: Path) -> list[Record]:
    try:
        return _read_part("windows", folder / OPEN)
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError):
        return []  # it comes and goes; nothing is lost that was ever closed


def _fits(window: Window, units: int | None) -> bool:
    """Whether the window is one of a site of this run: its arrays have the site's length."""
    per_unit = [getattr(window, name) for name in _PER_UNIT]
    histograms = [window.histogram, window.output_histogram]
    return (
        all(array is None or len(array) == units for array in per_unit)
        and all(array is None or len(array) == BINS for array in histograms)
        and window.rows > 0
        and window.phase in get_args(Phase)
    )
