"""What a user's setup function gives to `deadneuron branch`: a training as it stands at a checkpoint."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from deadneuron.errors import BranchError

_HOW = "give --setup module:function, or path/to/file.py:function"


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
    module_name, colon, function_name = place.rpartition(":")
    if not colon or not module_name or not function_name:
        raise BranchError("no function is named", where=f"--setup {place}", todo=_HOW)
    path = Path(module_name)
    if module_name.endswith(".py") and not path.is_file():
        raise BranchError("there is no such file", where=module_name, todo=_HOW)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = _import_file(path) if module_name.endswith(".py") else importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            raise BranchError("there is no such module", where=module_name, todo=_HOW) from None
        raise BranchError(_own(error, "importing it failed"), where=module_name, todo="mend it") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        there = f"it has {', '.join(near[:6])}" if near else "it has no function"
        raise BranchError(f"no function {function_name!r}", where=module_name, todo=there)
    named: Callable[[str], Any] = function
    return named


def call_setup(function: Callable[[str], Any], checkpoint: str) -> Setup:
    """What the function gives for a checkpoint: a dict, or an object with these attributes.

    Raises `BranchError` where it raises, or gives something else.
    """
    try:
        given = function(checkpoint)
    except Exception as error:
        raise BranchError(_own(error, "setup raised"), where=_name(function), todo="mend it") from error
    kind = type(given).__name__
    values: dict[str, Any] = {}
    for field in fields(Setup):
        values[field.name] = given.get(field.name) if isinstance(given, Mapping) else getattr(given, field.name, None)
    missing = [name for name in _NEEDED if values[name] is None]
    if missing:
        todo = f"return a dict with {', '.join(_NEEDED)} (and probe, scaler, extra, forward, multipliers if you like)"
        raise BranchError(f"what setup gave ({kind}) lacks {', '.join(missing)}", where=_name(function), todo=todo)
    unknown = sorted(set(given) - set(values)) if isinstance(given, Mapping) else []
    if unknown:
        known = ", ".join(values)
        raise BranchError(f"setup gave an unknown {unknown[0]!r}", where=_name(function), todo=f"it may give {known}")
    if not callable(values["step_fn"]):
        todo = "step_fn(batch) does one whole step and returns the loss"
        raise BranchError("step_fn is no function", where=_name(function), todo=todo)
    return Setup(**values)


def own_line(error: BaseException) -> str:
    """Where in the user's own code an exception began: the last frame outside of installed packages; may be empty."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def _own(error: BaseException, what: str) -> str:
    line = own_line(error)
    return f"{what}: {type(error).__name__}: {error}" + (f" at {line}" if line else "")


def _is_installed(filename: str) -> bool:
    parts = Path(filename).parts
    inside = Path(filename).is_relative_to(Path(__file__).parents[1]) or Path(filename).parent.name == "cli"
    return inside or "site-packages" in parts or filename.startswith("<") or filename == importlib.__file__


def _import_file(path: Path) -> Any:
    """A file as a module of its name; what lies beside it can be imported by it."""
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # pickles and dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def _name(function: Callable[[str], Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
