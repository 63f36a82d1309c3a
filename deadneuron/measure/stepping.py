"""An optimizer's step() as hooks see it: whose it is, and whether another step() of the same one made the call."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from deadneuron.errors import UsageError

_FRAMES = 12  # between a nested step and the one that called it: hook, wrapper, step, a decorator or two, wrapper


def is_nested(optimizer: Any) -> bool:
    """Whether this call of step() is made by another step() of the same optimizer.

    torch wraps `step` in each class: where a subclass calls super().step(), hooks run twice.
    """
    return depth(optimizer, _FRAMES) > 1


def depth(optimizer: Any, frames: float) -> int:
    """How many calls of this optimizer's step() are running, as far as the innermost `frames` of the stack tell.

    The frames of torch's wrapper tell; should torch name it otherwise, there are none.
    """
    frame: FrameType | None = sys._getframe(1)
    calls = seen = 0
    while frame is not None and seen < frames:
        seen += 1
        if frame.f_code.co_name == "wrapper" and frame.f_globals.get("__name__") == "torch.optim.optimizer":
            args = frame.f_locals.get("args") or (None,)
            calls += args[0] is optimizer
        frame = frame.f_back
    return calls


def steppable(optimizer: Any) -> Any:
    """The torch optimizer inside what was given (Accelerate wraps it); `UsageError` if there is none."""
    inner = optimizer
    for _ in range(4):
        # Wrappers such as Lookahead are optimizers by class only: they never ran Optimizer.__init__, and have no hooks.
        if hasattr(inner, "_optimizer_step_pre_hooks") and hasattr(inner, "param_groups"):
            return inner
        inner = getattr(inner, "optimizer", None)
    todo = "give a torch.optim.Optimizer, a list of them, or None and call monitor.step(lr=…)"
    raise UsageError("this is no torch optimizer", where=type(optimizer).__name__, todo=todo)
