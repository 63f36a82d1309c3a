"""deadneuron: are my neurons dead, since when, and was it the learning rate?

>>> import deadneuron  # imports neither torch nor pandas; names are looked up at first use
>>> "watch" in dir(deadneuron)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
