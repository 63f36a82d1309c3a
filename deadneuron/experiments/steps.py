"""Steps of a branch: at the rates that it is to use, one optimizer step a call, with a loss that is a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from deadneuron.errors import BranchError
from deadneuron.measure.aside import aside
from deadneuron.measure.clock import group_names, list_groups

_WHOLE = "step_fn(batch) must do one whole step: zero_grad, forward, backward, one optimizer.step()"


class Rates:
    """The learning rate of every group, as it was and as a branch uses it."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        """Raises `BranchError` where there is no rate that could be multiplied."""
        self.names = group_names(optimizers, list_groups(optimizers))
        self._groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        missing = [name for name, group in zip(self.names, self._groups, strict=True) if group.get("lr") is None]
        if missing:
            raise BranchError("a parameter group without a learning rate", where=missing[0], todo="give it an lr")
        self._before = [_number(group["lr"]) for group in self._groups]
        if not any(self._before):
            todo = "probe where the rate is above 0 (behind the first step of a warm-up)"
            raise BranchError("every learning rate is 0 here", where=", ".join(self.names), todo=todo)

    def multiplied(self, multiplier: float) -> tuple[float, ...]:
        """The rate of each group in this branch."""
        return tuple(multiplier * rate for rate in self._before)

    def set(self, multiplier: float) -> None:
        """Give every group its rate; a rate that is a tensor stays the same tensor."""
        for group, rate in zip(self._groups, self.multiplied(multiplier), strict=True):
            if isinstance(group["lr"], Tensor):
                with aside(), torch.no_grad():
                    group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def check(self, multiplier: float) -> None:
        """Raises `BranchError` if a rate is not the one that was set: something else sets it within the step."""
        for name, group, rate in zip(self.names, self._groups, self.multiplied(multiplier), strict=True):
            now = _number(group.get("lr"))
            set_to = rate if not isinstance(group["lr"], Tensor) else torch.tensor(rate, dtype=group["lr"].dtype).item()
            if now != set_to:
                what = f"step_fn changed the learning rate to {now:.6g}, where a branch holds it at {set_to:.6g}"
                what += f" (×{multiplier:g})"
                todo = "leave out of step_fn the scheduler's step, or what sets the rate"
                raise BranchError(what, where=name, todo=todo)


class StepCount:
    """Counts the steps of some optimizers, until `remove()`."""

    def __init__(self, optimizers: Sequence[Any], scaler: Any) -> None:
        self._scaler = scaler
        self._counts = [0] * len(optimizers)
        self._running = [0] * len(optimizers)  # a subclass's step() may call its parent's
        self._handles = []
        for index, optimizer in enumerate(optimizers):
            self._handles.append(optimizer.register_step_pre_hook(self._before(index)))
            self._handles.append(optimizer.register_step_post_hook(self._after(index)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, step_fn: Callable[[Any], Any], batch: Any) -> float:
        """One step: its loss. Raises `BranchError` if it is not one step, or gives no number."""
        self._counts, self._running = [0] * len(self._counts), [0] * len(self._counts)
        scale = self._scale()
        loss = step_fn(batch)
        self._check(scale)
        return as_loss(loss)

    def _check(self, scale: float) -> None:
        if max(self._counts) > 1:
            todo = f"{_WHOLE}, and no more"
            raise BranchError(f"step_fn made {max(self._counts)} optimizer steps in one call", todo=todo)
        skipped = self._scaler is not None and self._scale() < scale  # an overflow: the step was taken, and skipped
        if not any(self._counts) and not skipped:
            gathers = "; if it gathers gradients over several calls, let one call do all of them"
            raise BranchError("step_fn made no optimizer step", todo=_WHOLE + gathers)

    def _scale(self) -> float:
        return math.inf if self._scaler is None else float(self._scaler.get_scale())

    def _before(self, index: int) -> Callable[..., None]:
        def hook(*args: Any) -> None:
            self._running[index] += 1
            self._counts[index] += self._running[index] == 1

        return hook

    def _after(self, index: int) -> Callable[..., None]:
        def hook(*args: Any) -> None:
            self._running[index] -= 1

        return hook


def as_loss(loss: Any) -> float:
    """What step_fn gave, as a number, maybe NaN or Inf. Raises `BranchError` for anything else."""
    if loss is None:
        raise BranchError("step_fn gave no loss", where="None", todo="let it return the loss of its step")
    if isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex():
        with aside():
            return float(loss.detach())
    if isinstance(loss, (Tensor, bool, str)) or not hasattr(loss, "__float__"):
        where = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise BranchError("step_fn gave no number for its loss", where=where, todo="let it return the mean loss")
    return float(loss)


def _number(rate: Any) -> float:
    if isinstance(rate, Tensor):
        with aside():
            return float(rate.detach())
    return math.nan if rate is None else float(rate)
