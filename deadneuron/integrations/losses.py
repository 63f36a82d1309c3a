"""The loss of each step, read where the script calls `loss.backward()`.

torch has no hook for that, so `torch.autograd.backward`, which `Tensor.backward` calls, passes through a function that
looks at the scalar it is given. With several backward passes in a step (gradient accumulation) the last one's stands. A
loss that was scaled for mixed precision is noted unscaled.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from deadneuron.integrations.patches import Patches

_in_backward: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class LossReader:
    """Hands each scalar that is differentiated to `note`, which must not keep its graph."""

    def __init__(self, patches: Patches, note: Callable[[Tensor], None]) -> None:
        self._patches, self._note = patches, note
        self._scaled: tuple[weakref.ref[Tensor], Tensor] | None = None  # a scaled loss, and what it was made of
        self.seen = False
        patches.replace(torch.autograd, "backward", self._watched_backward)
        patches.replace(GradScaler, "scale", self._watched_scale)

    def _watched_backward(self, original: Any) -> Any:
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            # Inside a backward pass it is gradient checkpointing that computes a part anew.
            if self._patches.active and not torch.compiler.is_compiling() and _in_backward() == -1:
                self._look(tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors)
            return original(tensors, *args, **kwargs)

        return backward

    def _watched_scale(self, original: Any) -> Any:
        @functools.wraps(original)
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if self._patches.active and isinstance(outputs, Tensor) and isinstance(scaled, Tensor):
                self._scaled = (weakref.ref(scaled), outputs.detach())
            return scaled

        return scale

    def _look(self, tensor: Any) -> None:
        try:
            if isinstance(tensor, Tensor) and tensor.numel() == 1:
                self.seen = True
                scaled, self._scaled = self._scaled, None
                mine = scaled is not None and scaled[0]() is tensor
                self._note(scaled[1] if scaled is not None and mine else tensor.detach())
        except Exception:  # the loss is a convenience: the backward pass goes on without it
            self._scaled = None
