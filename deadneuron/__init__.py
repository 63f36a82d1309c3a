"""deadneuron: are my neurons dead, since when, and was it the learning rate?

>>> import deadneuron  # imports neither torch nor pandas; names are looked up at first use
>>> "watch" in dir(deadneuron)
True
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deadneuron.analysis.diagnosis import diagnose
    from deadneuron.checkpoints.scan import scan_checkpoints
    from deadneuron.errors import DeadneuronError
    from deadneuron.experiments.branch import probe_learning_rates
    from deadneuron.experiments.curve import Branch
    from deadneuron.experiments.dither import LRDither
    from deadneuron.frames import Run, read_run
    from deadneuron.monitor import Monitor
    from deadneuron.profiles import load_profile
    from deadneuron.records import Diagnosis, Finding, Gap, Verdict
    from deadneuron.sinks.tensorboard import TensorBoard
    from deadneuron.watching import watch

__version__ = "0.1.0"

__all__ = [
    "Branch",
    "DeadneuronError",
    "Diagnosis",
    "Finding",
    "Gap",
    "LRDither",
    "Monitor",
    "Run",
    "TensorBoard",
    "Verdict",
    "diagnose",
    "load_profile",
    "probe_learning_rates",
    "read_run",
    "scan_checkpoints",
    "watch",
]

_ROOMS = {
    "Branch": "deadneuron.experiments.curve",
    "DeadneuronError": "deadneuron.errors",
    "Diagnosis": "deadneuron.records",
    "Finding": "deadneuron.records",
    "Gap": "deadneuron.records",
    "LRDither": "deadneuron.experiments.dither",
    "Monitor": "deadneuron.monitor",
    "Run": "deadneuron.frames",
    "TensorBoard": "deadneuron.sinks.tensorboard",
    "Verdict": "deadneuron.records",
    "diagnose": "deadneuron.analysis.diagnosis",
    "load_profile": "deadneuron.profiles",
    "probe_learning_rates": "deadneuron.experiments.branch",
    "read_run": "deadneuron.frames",
    "scan_checkpoints": "deadneuron.checkpoints.scan",
    "watch": "deadneuron.watching",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'deadneuron' has no attribute {name!r}")
    value = getattr(import_module(_ROOMS[name]), name)
    globals()[name] = value
    _bind_displays()
    return value


def _bind_displays() -> None:
    """Records and tables know nothing of reports; here, above all rooms, they learn to show themselves in notebooks.

    Only what is loaded is bound, and drawing is loaded when something is shown.
    """
    if (room := sys.modules.get("deadneuron.records")) is not None:
        room.Diagnosis._repr_html_ = _diagnosis_html
    if (room := sys.modules.get("deadneuron.frames")) is not None:
        room.Run._repr_html_, room.Run.plot = _run_html, _plot


def _diagnosis_html(diagnosis: Diagnosis) -> str:
    shown: str = import_module("deadneuron.report.notebook").diagnosis_html(diagnosis)
    return shown


def _run_html(run: Run) -> str:
    shown: str = import_module("deadneuron.report.notebook").run_html(run)
    return shown


def _plot(run: Run, layer: str | None = None) -> Figure:
    """A matplotlib figure: the dead share of each layer over the steps below the learning rate, or one layer's units.

    Raises `MissingExtraError` without matplotlib, and `UsageError` where there is nothing to draw or no such layer.
    """
    figure: Figure = import_module("deadneuron.report.plot").plot_run(run, layer)
    return figure


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
