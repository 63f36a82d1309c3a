"""Optimizers that come later: a second phase of a training often makes a new one, and a monitor must not go blind.

One hook on all optimizers looks at each that it does not know: if it holds a parameter of the watched model, the clock
follows it from that very step on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from deadneuron.measure.clock import Clock

_abandoned: list[RemovableHandle] = []  # hooks of monitors that are gone; the next monitor removes them


class Newcomers:
    """Watches for optimizers of `model` that `clock` does not know; `note(where, reason)` tells of each."""

    def __init__(self, model: nn.Module, clock: Clock, note: Callable[[str, str], None]) -> None:
        self._model, self._clock, self._note = weakref.ref(model), weakref.ref(clock), note
        self._strangers: weakref.WeakSet[Any] = weakref.WeakSet()
        while _abandoned:
            _abandoned.pop().remove()
        self._orphaned = False
        self._handle = register_optimizer_step_pre_hook(self._look)

    def detach(self) -> None:
        self._handle.remove()

    def _look(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        clock, model = self._clock(), self._model()
        if clock is None or model is None:  # the monitor was dropped without being closed
            if not self._orphaned:  # torch walks through these hooks now: none may go from under it
                self._orphaned = True
                _abandoned.append(self._handle)
            return
        if clock.paused:
            return
        try:
            if any(own is optimizer for own in clock.optimizers) or optimizer in self._strangers:
                return
            own = {id(parameter) for parameter in model.parameters()}
            if any(id(member) in own for group in optimizer.param_groups for member in group["params"]):
                another = bool(clock.optimizers)
                clock.adopt(optimizer)
                if another:
                    kind = type(optimizer).__name__
                    reason = f"another one ({kind}) began to step the model after this: it is followed too"
                    self._note("optimizer", reason)
            else:
                self._strangers.add(optimizer)
        except Exception as error:  # the optimizer must step whatever happens here
            self._note("optimizer", f"{type(error).__name__} while looking at another optimizer: {error}")
