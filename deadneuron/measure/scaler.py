"""Steps that GradScaler skips.

Where a gradient overflowed, `GradScaler.step` never calls the optimizer, so no hook of the optimizer can tell. (Fused
optimizers are called and skip by themselves: the clock reads their `found_inf`.) torch offers no hook here; while a
monitor is open, `GradScaler.step` therefore passes through a function that watches whether the optimizer was called.
It changes neither arguments nor result, and the last monitor to close puts the method back.
"""

from __future__ import annotations

import functools
from typing import Any
from weakref import WeakSet

from torch.amp.grad_scaler import GradScaler

from deadneuron.errors import UsageError
from deadneuron.measure.clock import Clock
from deadneuron.measure.stepping import steppable

_clocks: WeakSet[Clock] = WeakSet()  # a monitor that is dropped unclosed takes its clock along
_original = GradScaler.step


@functools.wraps(_original)
def _watched_step(self: GradScaler, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
    watching = [(clock, index, clock.calls[index]) for clock in _clocks for index in _indices(clock, optimizer)]
    result = _original(self, optimizer, *args, **kwargs)
    for clock, index, calls in watching:
        if clock.calls[index] == calls:
            clock.skip(index)
    return result


def watch_scalers(clock: Clock) -> None:
    """Have this clock told of skipped steps."""
    if not _clocks:
        GradScaler.step = _watched_step  # type: ignore[method-assign]
    _clocks.add(clock)


def unwatch_scalers(clock: Clock) -> None:
    """Undo `watch_scalers`. If somebody else has wrapped the method since, ours stays and does nothing."""
    _clocks.discard(clock)
    if not _clocks and GradScaler.step is _watched_step:
        GradScaler.step = _original  # type: ignore[method-assign]


def _indices(clock: Clock, optimizer: Any) -> list[int]:
    try:
        inner = steppable(optimizer)
    except UsageError:  # somebody's own optimizer class, and none of ours
        return []
    return [index for index, own in enumerate(clock.optimizers) if own is inner]
