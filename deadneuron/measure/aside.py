"""Aside: what the monitor computes for itself is hidden from modes that watch the user's program.

A mode of the user's would count it (FLOPs), and selective checkpointing would keep its results for the model's own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes


def aside() -> AbstractContextManager[object]:
    """A context in which no mode sees what torch is asked for."""
    functions: AbstractContextManager[object] = torch._C.DisableTorchFunction()
    if not torch._C._len_torch_dispatch_stack():
        return functions
    both = ExitStack()
    both.enter_context(functions)
    both.enter_context(_disable_current_modes())
    return both


def is_without_data(x: Tensor) -> bool:
    """Whether `x` is only the shape of a tensor: nothing is computed in a pass that estimates or traces."""
    return x.is_meta or isinstance(x, FakeTensor)
