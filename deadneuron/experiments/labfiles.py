"""Reading lab files: configs/lab/*.toml and a user's own, with every mistake told in one line. Needs no torch."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deadneuron.errors import LabError
from deadneuron.experiments.columns import COLUMNS
from deadneuron.experiments.grid import (
    AXES,
    INITS,
    LAYERS,
    NORMS,
    OPTIMIZERS,
    About,
    Cell,
    Cost,
    Data,
    Grid,
    Lab,
    Net,
    Training,
)
from deadneuron.experiments.schedules import parse_schedule
from deadneuron.profiles import load_profile, profile_names

_NOT_LABS = ("base", "dying")  # what all labs share; the demo's three nets


def lab_names() -> list[str]:
    """Names of the labs that come with the package."""
    files = resources.files("deadneuron.configs").joinpath("lab").iterdir()
    names = {file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")}
    return sorted(names - set(_NOT_LABS))


def load_lab(config: str | Path) -> Lab:
    """The shipped lab of that name, or the lab in that TOML file; what it leaves out is as in configs/lab/base.toml.

    Raises `LabError` for an unknown name, an unreadable file, an unknown key or an impossible value, and
    `ProfileError` for the monitor's profile.
    """
    given = _read(config)
    base = _read_shipped("base")
    if isinstance(given.get("training"), dict) and {"steps", "rate_sum"} & set(given["training"]):
        base["training"] |= {"steps": None, "rate_sum": None}
    else:
        base["training"]["rate_sum"] = None
    for table, values in given.items():
        if table == "grid":
            grids = values if isinstance(values, list) else [values]
            base["grid"] = [_axes({**base["grid"], **g}) if isinstance(g, dict) else g for g in grids]
        elif isinstance(values, dict) and isinstance(base.get(table), dict):
            base[table].update(values)
        else:
            base[table] = values
    if isinstance(base["grid"], dict):
        base["grid"] = [_axes(base["grid"])]
    base["name"] = Path(config).stem
    checked = _checked(base, config)
    _check_values(checked, config)
    profile = Path(config).parent / checked.training.profile
    if checked.training.profile not in profile_names() and profile.is_file():  # beside the lab file
        base["training"]["profile"] = str(profile)
        checked = _checked(base, config)
    load_profile(checked.training.profile)
    return checked


def settings(lab: Lab, cell: Cell) -> dict[str, Any]:
    """All that a cell's result depends on, as JSON holds it: a result of other settings is no result of this cell."""
    profile = load_profile(lab.training.profile)
    made = {
        "cell": asdict(cell),
        "steps": lab.steps(cell),
        "data": asdict(lab.data),
        "net": asdict(lab.net),
        "training": {k: v for k, v in asdict(lab.training).items() if k not in ("steps", "rate_sum", "profile")},
        "profile": {"sampling": asdict(profile.sampling), "thresholds": asdict(profile.thresholds)},
    }
    again: dict[str, Any] = json.loads(json.dumps(made))
    return again


def _axes(grid: dict[str, Any]) -> dict[str, Any]:
    return {axis: values if isinstance(values, list) else [values] for axis, values in grid.items()}


def _read_shipped(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("deadneuron.configs").joinpath("lab", f"{name}.toml").read_text("utf-8"))


def _read(config: str | Path) -> dict[str, Any]:
    if str(config) in lab_names():
        return _read_shipped(str(config))
    path = Path(config)
    if path.suffix != ".toml":
        todo = f"give one of {', '.join(lab_names())} or the path of a .toml file"
        raise LabError("unknown lab", where=str(config), todo=todo)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML, a NUL in the path
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LabError(f"cannot read the lab: {what}", where=str(path), todo="check path and syntax") from None


def _checked(values: dict[str, Any], config: str | Path) -> Lab:
    try:
        # Strictly, so that "3" and true are no numbers; from JSON, where a table may still become a record.
        checked: Lab = TypeAdapter(Lab).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        kinds = {"unexpected_keyword_argument": "unknown key", "missing": "missing key"}
        what = kinds.get(first["type"], first["msg"].lower())
        raise LabError(f"{what}: {key}", where=f"lab {config}", todo=_known_keys(first["loc"])) from None
    return checked


def _known_keys(place: tuple[int | str, ...]) -> str:
    tables = {"lab": About, "data": Data, "training": Training, "net": Net, "grid": Grid, "cost": Cost}
    kind = tables.get(str(place[0])) if len(place) > 1 else None
    names = [field.name for field in fields(kind)] if kind else list(tables)
    return f"known keys are {', '.join(names)}"


def _check_values(lab: Lab, config: str | Path) -> None:
    where = f"lab {config}"
    for grid in lab.grid:
        for axis in AXES:
            values = getattr(grid, axis)
            if not values:
                raise LabError(f"grid.{axis} is empty", where=where, todo="give at least one value, or leave it out")
            if len(set(values)) < len(values):
                raise LabError(f"grid.{axis} names a value twice", where=where, todo="name each once")
        for axis, known in (("optimizer", OPTIMIZERS), ("init", INITS), ("norm", NORMS)):
            _check_words(f"grid.{axis}", getattr(grid, axis), known, where)
        for words in grid.schedule:
            parse_schedule(words, 1)
    _check_words("lab.columns", lab.lab.columns, tuple(COLUMNS), where)
    _check_words("lab.layers", lab.lab.layers, LAYERS, where)
    training = lab.training
    rules = {
        "grid is empty: give at least one": bool(lab.grid),
        "lab.columns must name a measure": bool(lab.lab.columns),
        "lab.layers must name one": bool(lab.lab.layers),
        "grid.lr must be above 0 and finite": all(0 < c.lr < math.inf for c in lab.cells),
        "grid.depth must lie between 1 and 100": all(1 <= c.depth <= 100 for c in lab.cells),
        "grid.seed must not be negative": all(0 <= c.seed < 2**63 for c in lab.cells),
        "training needs either steps or rate_sum": (training.steps is None) != (training.rate_sum is None),
        "training.steps must be at least 1": training.steps is None or training.steps >= 1,
        "training.rate_sum must be above 0 and finite": training.rate_sum is None or 0 < training.rate_sum < math.inf,
        "training.batch must be at least 1": training.batch >= 1,
        "training.momentum must lie between 0 and 1": 0 < training.momentum < 1,
        "training.look must be at least 1": training.look >= 1,
        "training.loss_bound must be above 0": training.loss_bound > 0,
        "data.test must be at least 1": lab.data.test >= 1,
        "data.scale must be above 0 and finite": 0 < lab.data.scale < math.inf,
        "net.width must be at least 1": lab.net.width >= 1,
        "cost must not be negative": min(asdict(lab.cost).values()) >= 0,
    }
    for rule, holds in rules.items():
        if not holds:
            raise LabError(rule, where=where, todo="change the value")


def _check_words(key: str, words: tuple[str, ...], known: tuple[str, ...], where: str) -> None:
    for word in words:
        if word not in known:
            raise LabError(f"{key} does not know {word!r}", where=where, todo=f"choose among {', '.join(known)}")
