"""What a user's setup function gives to `deadneuron branch`: a training as it stands at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from deadneuron.errors import BranchError
from deadneuron.userfunctions import load_function, name_of, said


@dataclass(frozen=True, slots=True)
class Setup:
    """Arguments of `probe_learning_rates`; what is None is left to its default."""

    model: Any
    optimizer: Any
    step_fn: Callable[[Any], Any]
    batches: Any
    probe: Any = None
    scaler: Any = None
    extra: Any = None
    forward: Any = None
    multipliers: Any = None

    def arguments(self) -> dict[str, Any]:
        """Those that were given."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}


_NEEDED = ("model", "optimizer", "step_fn", "batches")


def load_setup(place: str) -> Callable[[str], Any]:
    """The function that `module:function` or `path/to/file.py:function` names; modules are found in this folder too.

    Raises `BranchError` where there is none, or importing it fails.
    """
    return load_function(place, "--setup", BranchError)


def call_setup(function: Callable[[str], Any], checkpoint: str) -> Setup:
    """What the function gives for a checkpoint: a dict, or an object with these attributes.

    Raises `BranchError` where it raises, or gives something else.
    """
    try:
        given = function(checkpoint)
    except Exception as error:
        raise BranchError(said(error, "setup raised"), where=name_of(function), todo="mend it") from error
    kind = type(given).__name__
    values: dict[str, Any] = {}
    for field in fields(Setup):
        values[field.name] = given.get(field.name) if isinstance(given, Mapping) else getattr(given, field.name, None)
    missing = [name for name in _NEEDED if values[name] is None]
    if missing:
        todo = f"return a dict with {', '.join(_NEEDED)} (and probe, scaler, extra, forward, multipliers if you like)"
        raise BranchError(f"what setup gave ({kind}) lacks {', '.join(missing)}", where=name_of(function), todo=todo)
    unknown = sorted(set(given) - set(values)) if isinstance(given, Mapping) else []
    if unknown:
        known = ", ".join(values)
        raise BranchError(f"setup gave an unknown {unknown[0]!r}", where=name_of(function), todo=f"it may give {known}")
    if not callable(values["step_fn"]):
        todo = "step_fn(batch) does one whole step and returns the loss"
        raise BranchError("step_fn is no function", where=name_of(function), todo=todo)
    return Setup(**values)
