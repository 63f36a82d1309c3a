"""What a model's graph holds that nobody sees into: autograd functions of the user's own."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction

_VISITS = 100_000  # nodes; a graph is walked through once, in the first pass


def custom_functions(output: Tensor) -> list[str]:
    """Names of the autograd functions in the graph of `output` that are written in Python and are not torch's own."""
    if output.grad_fn is None:
        return []
    names: set[str] = set()
    queue: deque[Any] = deque([output.grad_fn])
    seen = {output.grad_fn}
    while queue and len(seen) < _VISITS:
        node = queue.popleft()
        if isinstance(node, BackwardCFunction):
            kind = getattr(type(node), "_forward_cls", type(node))
            if not kind.__module__.startswith("torch."):
                names.add(kind.__name__)
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return sorted(names)
