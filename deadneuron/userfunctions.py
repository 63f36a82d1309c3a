"""Functions of the user's that an option names: `module:function`, or `path/to/file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deadneuron.errors import DeadneuronError


def load_function(place: str, option: str, kind: type[DeadneuronError]) -> Callable[..., Any]:
    """The function that `place` names; modules are found in the folder that one is in, too.

    Raises `kind` where there is none, or importing it fails; `option` is what the user gave it by ("--setup").
    """
    how = f"give {option} module:function, or path/to/file.py:function"
    module_name, colon, function_name = place.rpartition(":")
    if not colon or not module_name or not function_name:
        raise kind("no function is named", where=f"{option} {place}", todo=how)
    path = Path(module_name)
    if module_name.endswith(".py") and not path.is_file():
        raise kind("there is no such file", where=module_name, todo=how)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = _import_file(path) if module_name.endswith(".py") else importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and module_name.startswith(error.name):
            raise kind("there is no such module", where=module_name, todo=how) from None
        raise kind(said(error, "importing it failed"), where=module_name, todo="mend it") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        there = f"it has {', '.join(near[:6])}" if near else "it has no function"
        raise kind(f"no function {function_name!r}", where=module_name, todo=there)
    named: Callable[..., Any] = function
    return named


def said(error: BaseException, what: str) -> str:
    """`what` happened in the user's code, with the exception and the line that it began in."""
    line = own_line(error)
    return f"{what}: {type(error).__name__}: {error}" + (f" at {line}" if line else "")


def own_line(error: BaseException) -> str:
    """Where in the user's own code an exception began: the last frame outside of installed packages; may be empty."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""


def name_of(function: Callable[..., Any]) -> str:
    """How people know the function."""
    return getattr(function, "__qualname__", repr(function))


def _is_installed(filename: str) -> bool:
    parts = Path(filename).parts
    inside = Path(filename).is_relative_to(Path(__file__).parent) or Path(filename).parent.name == "cli"
    return inside or "site-packages" in parts or filename.startswith("<") or filename == importlib.__file__


def _import_file(path: Path) -> Any:
    """A file as a module of its name, run once; what lies beside it can be imported by it."""
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # pickles and dataclasses look their module up
    try:
        specification.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem, None)  # half of a module is none
        raise
    return module
