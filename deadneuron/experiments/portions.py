"""The batches of a learning-rate probe: what the branches train on, and what is held out to look at the units."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from deadneuron.errors import BranchError, UsageError

_HELD_OUT = 4  # where there are fewer batches than steps: one in so many is held out


@dataclass(frozen=True, slots=True)
class Portions:
    """Batches, each taken from the loader once."""

    branch: tuple[Any, ...]  # one a step; where there are fewer they come round again
    probe: tuple[Any, ...]
    held_out: bool  # the branches do not train on the probe
    notes: tuple[str, ...] = ()  # what was not as it should be

    def of_step(self, step: int) -> Any:
        """A copy: a step that changes its batch in place must not change the next branch's."""
        batch = self.branch[step % len(self.branch)]
        try:
            return copy.deepcopy(batch)
        except Exception:  # a tensor with a graph, an object with an open file
            return batch


def divide(batches: Iterable[Any], steps: int, samples: int, probe: Iterable[Any] | None) -> Portions:
    """Take what is needed: `steps` batches to train on, and behind them the probe, unless one is given.

    The probe is as many batches again, or as many as hold `samples` examples, if those are more. Raises `BranchError`
    if there is no batch at all.
    """
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        todo = "give a DataLoader, or a list of batches, and step_fn before it"
        raise UsageError("batches is no sequence of batches", where=type(batches).__name__, todo=todo)
    source = iter(batches)
    branch = list(islice(source, steps))
    if not branch:
        raise BranchError("there is no batch", where="batches", todo="give a DataLoader, or a list of batches")
    notes = [f"{len(branch)} batches came round again in {steps} steps"] if len(branch) < steps else []
    if probe is not None:
        given = (probe,) if isinstance(probe, (Tensor, Mapping)) else tuple(probe)
        if not given:
            raise BranchError("there is no batch", where="probe", todo="give a list of batches, or leave it out")
        return Portions(tuple(branch), given, held_out=True, notes=tuple(notes))
    held: list[Any] = []
    for batch in source:
        held.append(batch)
        if len(held) >= steps and sum(map(_examples, held)) >= samples:
            break
    if held:
        return Portions(tuple(branch), tuple(held), held_out=True, notes=tuple(notes))
    if len(branch) == 1:
        notes = ["one batch was all there was: the units are looked at on what the branches trained on"]
        return Portions(tuple(branch), tuple(branch), held_out=False, notes=tuple(notes))
    last = max(1, len(branch) // _HELD_OUT)
    rest = len(branch) - last
    notes = [f"of {len(branch)} batches {last} were held out; the other {rest} came round again in {steps} steps"]
    return Portions(tuple(branch[:rest]), tuple(branch[rest:]), held_out=True, notes=tuple(notes))


def _examples(batch: Any) -> int:
    """How many examples a batch holds, as far as its first tensor tells; 1 if it has none."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.dim() else 1
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (tuple, list)):
        return next((_examples(one) for one in batch if isinstance(one, (Tensor, tuple, list, Mapping))), 1)
    return 1
