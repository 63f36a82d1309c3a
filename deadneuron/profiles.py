"""Profiles: the numbers of configs/*.toml, checked. No threshold has a default in code."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from deadneuron.errors import ProfileError
from deadneuron.records import Forensics, Sampling, Thresholds


@dataclass(frozen=True, slots=True)
class Profile:
    """How to measure and how to judge."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    sampling: Sampling
    thresholds: Thresholds
    checkpoints: Forensics


def load_profile(profile: str | Path | Profile = "default") -> Profile:
    """The profile of that name, or of that TOML file; keys that it leaves out are those of "default".

    Raises `ProfileError` for an unknown name, an unreadable file, an unknown key or an impossible value.
    """
    if isinstance(profile, Profile):
        return profile
    base = _read_shipped("default")
    given = _read(profile)
    name = Path(profile).stem
    for table, values in given.items():
        if isinstance(values, dict) and isinstance(base.get(table), dict):
            base[table].update(values)
        else:
            base[table] = values
    base["name"] = name
    try:
        # Strictly, so that "10" and true are no numbers; from JSON, where a table may still become a record.
        checked: Profile = TypeAdapter(Profile).validate_json(json.dumps(base, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "unexpected_keyword_argument"
        what = "unknown key" if unknown else first["msg"].lower()
        todo = _what_was_meant(key) if unknown else "change the value"
        raise ProfileError(f"{what}: {key}", where=f"profile {profile}", todo=todo) from None
    _check_ranges(checked)
    return checked


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    files = resources.files("deadneuron.configs").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def _read(profile: str | Path) -> dict[str, Any]:
    if str(profile) in profile_names():
        return _read_shipped(str(profile))
    path = Path(profile)
    if path.suffix != ".toml":
        todo = f"give one of {', '.join(profile_names())} or the path of a .toml file"
        raise ProfileError("unknown profile", where=str(profile), todo=todo)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no TOML, a NUL in the path
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ProfileError(f"cannot read the profile: {what}", where=str(path), todo="check path and syntax") from None


def _read_shipped(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("deadneuron.configs").joinpath(f"{name}.toml").read_text("utf-8"))


def _what_was_meant(key: str) -> str:
    known = [f"{table}.{name}" for table, values in _read_shipped("default").items() for name in values]
    names = {one.partition(".")[2]: one for one in known}
    near = get_close_matches(key.rpartition(".")[2], names, n=1)
    meant = f"did you mean {names[near[0]]} ([{names[near[0]].partition('.')[0]}])? " if near else ""
    return meant + "known keys are " + ", ".join(known)


def _check_ranges(profile: Profile) -> None:
    sampling, thresholds, checkpoints = profile.sampling, profile.thresholds, profile.checkpoints
    rules = {
        "sampling.every must be at least 1": sampling.every >= 1,
        "sampling.window must be at least 1": sampling.window >= 1,
        "sampling.epsilon must lie between 0 and 0.25": 0 < sampling.epsilon < 0.25,  # sigmoid' never exceeds 1/4
        "sampling.common must lie between 0 and 1": 0 < sampling.common < 1,
        "sampling.recent must be at least 1": sampling.recent >= 1,
        "sampling.flush_seconds must lie between 0 and 86400": 0 < sampling.flush_seconds <= 86400,
        # Silent spells inside one window are not kept (Window has only its first and last active step). A spell of
        # `patience` steps always crosses a window's end if patience ≥ window; otherwise deaths could be missed.
        "thresholds.patience must be at least sampling.window": thresholds.patience >= sampling.window,
        "thresholds.samples must be at least 1": thresholds.samples >= 1,
        "thresholds.rare must lie between 0 and 1": 0 <= thresholds.rare <= 1,
        "thresholds.warning must lie between 0 and 1": 0 < thresholds.warning <= 1,
        "thresholds.severe must lie between 0 and 1": 0 < thresholds.severe <= 1,
        "thresholds.stuck_windows must be at least 1": thresholds.stuck_windows >= 1,
        "thresholds.revival_windows must be at least 1": thresholds.revival_windows >= 1,
        "thresholds.born_excess must lie between 0 and 1": 0 <= thresholds.born_excess <= 1,
        "thresholds.dormant must lie between 0 and 1": 0 <= thresholds.dormant <= 1,
        "thresholds.spike must lie between 0 and 1": 0 < thresholds.spike <= 1,
        "thresholds.spike_shift must lie between 0 and 1": 0 < thresholds.spike_shift <= 1,
        "thresholds.fading must lie between 0 and 1": 0 < thresholds.fading <= 1,
        "thresholds.saturated must lie between 0 and 1": 0 < thresholds.saturated <= 1,
        "thresholds.established must lie between 0 and 1": 0 <= thresholds.established < 1,
        "thresholds.kick_steps must be at least 1": thresholds.kick_steps >= 1,
        "thresholds.kick_rate must lie between 0 and 1": 0 < thresholds.kick_rate <= 1,
        "thresholds.kick_rise must be above 1": thresholds.kick_rise > 1,
        "thresholds.gradual_steps must exceed kick_steps": thresholds.gradual_steps > thresholds.kick_steps,
        "thresholds.shift must lie between 0 and 1": 0 <= thresholds.shift < 1,
        "thresholds.branch must lie between 0 and 1": 0 < thresholds.branch <= 1,
        "checkpoints.tolerance must lie between 0 and 1": 0 <= checkpoints.tolerance < 1,
        "checkpoints.slack must lie between 0 and 1": 0 < checkpoints.slack < 1,
        "checkpoints.norm_closed must be below 0": checkpoints.norm_closed < 0,
    }
    for rule, holds in rules.items():
        if not holds:
            raise ProfileError(rule, where=f"profile {profile.name}", todo="change the value")
