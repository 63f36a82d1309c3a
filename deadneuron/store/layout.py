"""What a run folder looks like. docs/run-folder.md tells it to people.

    runs/lr0.1/
      run.json                             RunInfo with its sites; replaced whole
      rank0-<pid>-<word>/windows-000001-000001.parquet   one row a (window, site); arrays over units are lists
      rank0-<pid>-<word>/ticks-000001-000016.parquet     parts 1 to 16, merged into one
      rank0-<pid>-<word>/gaps-…
      rank0-<pid>-<word>/windows-open.parquet     the window that is still open, replaced every few seconds
  trials/branch-1.json                        results of experiments on the learning rate

Formats: 1, the first.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from deadneuron.errors import NewerFormatError, NotARunError
from deadneuron.profiles import load_profile
from deadneuron.records import Gap, RunInfo, Site, Tick, Window

FORMAT = 1
RUN_FILE = "run.json"
Kind = Literal["windows", "ticks", "gaps"]
KINDS: tuple[Kind, ...] = ("windows", "ticks", "gaps")
PART = re.compile(r"(windows|ticks|gaps)-(\d{6,})-(\d{6,})\.parquet")
OPEN = "windows-open.parquet"

_ints = pa.large_list(pa.int64())
_floats = pa.large_list(pa.float32())

SCHEMAS: dict[Kind, pa.Schema] = {
    "windows": pa.schema(
        [
            ("site", pa.int32()),
            ("phase", pa.string()),
            ("rank", pa.int32()),
            ("first_step", pa.int64()),
            ("last_step", pa.int64()),
            ("steps", pa.int64()),
            ("samples", pa.int64()),
            ("rows", pa.int64()),
            ("active", _ints),
            ("first_active", _ints),
            ("last_active", _ints),
            ("sampled_rows", pa.int64()),
            ("above", _ints),
            ("nonfinite", _ints),
            ("first_nonfinite", _ints),
            ("mean", _floats),
            ("square", _floats),
            ("magnitude", _floats),
            ("peak", _floats),
            ("histogram", _ints),
            ("output_histogram", _ints),
            ("last_common", _ints),
            ("flow", _ints),
            ("last_flow", _ints),
        ]
    ),
    "ticks": pa.schema(
        [
            ("step", pa.int64()),
            ("time", pa.float64()),
            ("rates", pa.large_list(pa.float64())),
            ("skipped", pa.bool_()),
            ("multipliers", pa.large_list(pa.float64())),
            ("loss", pa.float64()),
            ("grad_norm", pa.float64()),
            ("finite", pa.bool_()),
        ]
    ),
    "gaps": pa.schema([("where", pa.string()), ("reason", pa.string()), ("first_step", pa.int64())]),
}

OPTIONAL = frozenset(
    {"peak", "output_histogram", "last_common", "flow", "last_flow"} | {"multipliers", "loss", "grad_norm", "finite"}
)
"""Columns that may be missing or empty."""

Record = Window | Tick | Gap


def to_table(kind: Kind, records: Sequence[Record]) -> pa.Table:
    """Records of one kind as an Arrow table. Per-unit floats keep 10 bits of mantissa, 3 decimal digits: they are
    statistics, and their zeroed bits compress."""
    columns = {}
    for column in SCHEMAS[kind]:
        values = [getattr(record, column.name) for record in records]
        if pa.types.is_large_list(column.type):
            dtype = column.type.value_type.to_pandas_dtype()
            with np.errstate(over="ignore"):  # squares of a diverged net exceed float32: they become Inf
                arrays = [None if v is None else np.asarray(v, dtype=dtype) for v in values]
            if dtype is np.float32:
                arrays = [None if v is None else round_mantissa(v) for v in arrays]
            columns[column.name] = pa.array(arrays, type=column.type)
        else:
            columns[column.name] = pa.array(values, type=column.type)
    return pa.table(columns, schema=SCHEMAS[kind])


def from_table(kind: Kind, table: pa.Table) -> list[Record]:
    """Records from an Arrow table; a column that an older writer did not have is None."""
    maker: type[Record] = {"windows": Window, "ticks": Tick, "gaps": Gap}[kind]
    names = [column.name for column in SCHEMAS[kind] if column.name in table.column_names]
    columns = [_values(table.column(name)) for name in names]
    made = [maker(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    if kind == "ticks":
        return [_with_tuples(tick) for tick in made if isinstance(tick, Tick)]
    return made


def _with_tuples(tick: Tick) -> Tick:
    drawn = tick.multipliers
    return replace(
        tick,
        rates=tuple(float(rate) for rate in tick.rates),
        multipliers=None if drawn is None else tuple(float(number) for number in drawn),
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    if not pa.types.is_large_list(column.type):
        return list(column.to_pylist())
    arrays: list[Any] = []
    for chunk in column.chunks:
        offsets, flat = chunk.offsets.to_numpy(), chunk.values.to_numpy(zero_copy_only=False)
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        for i, is_valid in enumerate(valid):
            array = flat[offsets[i] : offsets[i + 1]] if is_valid else None
            arrays.append(array.astype(np.float64) if array is not None and array.dtype == np.float32 else array)
    return arrays


def round_mantissa(values: np.ndarray[Any, np.dtype[np.float32]], bits: int = 10) -> np.ndarray[Any, Any]:
    """The nearest float32 with that many bits of mantissa (relative error at most 2^-(bits+1)); NaN and Inf stay."""
    drop = 23 - bits
    raw = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (raw + np.uint32((1 << (drop - 1)) - 1) + ((raw >> drop) & 1)) & np.uint32(
        0xFFFFFFFF << drop & 0xFFFFFFFF
    )
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def info_to_json(info: RunInfo) -> str:
    document = asdict(info)
    for site in document["sites"]:
        for name in ("gate", "outputs"):  # JSON has no Infinity
            site[name] = site[name] and [str(end) if np.isinf(end) else end for end in site[name]]
    sites = ",\n".join(f"  {json.dumps(site)}" for site in document["sites"])  # a line each
    document["sites"] = []
    return json.dumps(document, indent=1).replace('"sites": []', f'"sites": [\n{sites}\n ]' if sites else '"sites": []')


def info_from_json(text: str, where: str) -> RunInfo:
    """Raises `NotARunError` for anything else than a run.json and `NewerFormatError` for a later format."""
    todo = "give the folder that deadneuron.watch(run=…) wrote"
    try:
        document: dict[str, Any] = json.loads(text)
        written = int(document["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise NotARunError("run.json is not deadneuron's", where=where, todo=todo) from None
    if written > FORMAT:
        what = f"the run has format {written}; this deadneuron reads up to {FORMAT}"
        raise NewerFormatError(what, where=where, todo="upgrade deadneuron")
    shipped = load_profile("default")  # an older writer knew fewer thresholds: what it lacks is today's default
    for name, default in (("sampling", shipped.sampling), ("thresholds", shipped.thresholds)):
        if isinstance(document.get(name), dict):
            document[name] = asdict(default) | _known(type(default), document[name])
    try:
        return _adapter().validate_python(
            _known(RunInfo, document) | {"sites": [_known(Site, site) for site in document["sites"]]}
        )
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].lower()}"
    except (KeyError, TypeError) as error:
        what = str(error)
    raise NotARunError(f"run.json is damaged ({what})", where=where, todo=todo)


@cache
def _adapter() -> TypeAdapter[RunInfo]:
    return TypeAdapter(RunInfo)


def _known(kind: type, document: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: document[field.name] for field in fields(kind) if field.name in document}


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that readers see the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
