"""The frozen reference batch: which units fire on examples that never change.

It is run at each drain, in eval mode and without gradient, and counted as a phase of its own. A unit that is silent in
training and fires here has not died: its data went elsewhere. What a pass may change (flags, buffers, plain attributes
of modules, random numbers) is as before afterwards; what the model's own forward does beyond that, it does once more.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from deadneuron.errors import UsageError
from deadneuron.measure.keeping import kept
from deadneuron.measure.probe import Probe
from deadneuron.records import Reference


class ReferenceBatch:
    """A copy of the user's batch, and what its passes took."""

    def __init__(self, batch: Any) -> None:
        """Raises `UsageError` for a batch that holds no tensor and is no function."""
        self.batch = batch if callable(batch) and not isinstance(batch, Tensor) else _frozen(batch)
        if not callable(self.batch) and not _holds_tensor(self.batch):
            todo = "give a tensor, a tuple whose first entry is the model's input, a dict of arguments, or a function"
            raise UsageError("the reference batch holds no tensor", where=type(batch).__name__, todo=todo)
        self.cost = Reference(passes=0, seconds=0.0, of_seconds=0.0)
        self._began = time.monotonic()
        self._moved = False

    def run(self, probe: Probe, step: int) -> None:
        """One pass, booked as `step`'s. Raises what the model raises; the model is then as it was all the same."""
        began = time.monotonic()
        if not self._moved:
            self._move_to(probe.model)
        model = probe.model
        if isinstance(model, nn.parallel.DistributedDataParallel):  # it exchanges buffers; its inner module does not
            model = model.module
        with kept(model), probe.reference(step), torch.no_grad(), eager():
            model.eval()
            call_on(model, self.batch)
        now = time.monotonic()
        spent = self.cost.seconds + now - began
        self.cost = Reference(passes=self.cost.passes + 1, seconds=spent, of_seconds=now - self._began)

    def _move_to(self, model: nn.Module) -> None:
        self._moved = True
        first = next(iter(model.parameters()), None)
        if first is not None and not callable(self.batch):
            self.batch = _map(self.batch, lambda x: x.to(first.device))


def call_on(model: nn.Module, batch: Any) -> Any:
    """Run the model on a batch as loaders make them.

    A tensor is its input; of a tuple or list the first entry is; a dict holds arguments of `forward`, of which those
    that it does not take (labels, perhaps) are left out; a function is called with the model.
    """
    if callable(batch) and not isinstance(batch, Tensor):
        return batch(model)
    if isinstance(batch, Mapping):
        return model(**_accepted(model.forward, batch))
    return model(batch[0] if isinstance(batch, (tuple, list)) else batch)


def _accepted(forward: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(forward).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    return {name: value for name, value in arguments.items() if name in parameters}


def eager() -> AbstractContextManager[object]:
    """A pass without compiled code: eval mode and other sizes would make it compile anew."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _frozen(batch: Any) -> Any:
    return _map(batch, lambda x: x.detach().clone())


def _holds_tensor(batch: Any) -> bool:
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return isinstance(batch, Tensor) or any(_holds_tensor(value) for value in values)


def _map(batch: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        return {name: _map(value, change) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [_map(value, change) for value in batch]
    return batch
