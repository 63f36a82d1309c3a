"""Which module's forward is running now, and how many examples it was given.

A shared `nn.ReLU` is one object with one registered name, and `F.relu` has none at all; whose it is can be told only
while its user runs. So a pre-hook and an `always_call` forward hook on every module whose forward may apply an
activation keep a stack of running modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import enumerate as enumerate_threads
from threading import get_ident
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from deadneuron.measure.aside import aside

OnEnter = Callable[[Callable[[], Tensor | None]], int | None]  # given what picks the mask; how many examples it has


class CallStack:
    """The stack of running containers of one watched model."""

    def __init__(
        self,
        on_enter: Callable[[Callable[[], Tensor | None]], int | None],
        on_leave: Callable[[Any], None],
        batch_axis: int,
    ) -> None:
        self.on_enter = on_enter  # called when an outermost container enters; may know better how many examples it has
        self.on_leave = on_leave  # called with its output when it leaves
        self.batch_axis = batch_axis
        self.running: list[nn.Module] = []
        self.heard: set[nn.Module] = set()  # containers that ran, ever
        self.unheard: set[nn.Module] = set()  # that may apply functions, and did not run yet in a pass that counts
        self.counted = False  # the pass that runs counts
        self._owner: dict[str, int] = {}  # the thread whose pass is being counted; setdefault is atomic
        self._passed_over: dict[int, int] = {}  # depth of a pass that is not counted, by thread
        self.examples: int | None = None  # batch size of the outermost call, None if it could not be told
        self.calls: dict[int, int] = {}  # calls of each activation since the outermost container entered

    def caller(self) -> nn.Module | None:
        """The innermost container that is running, or None outside of all."""
        return self.running[-1] if self.running else None

    def next_call(self, activation: object) -> int:
        """How often this activation was applied before, since the outermost container entered."""
        key = id(activation)
        count = self.calls.get(key, 0)
        self.calls[key] = count + 1
        return count

    def mine(self) -> bool:
        """Whether this thread's pass is the one that is counted: two at a time would share counters and buffers."""
        me = get_ident()
        return me not in self._passed_over and self._owner.get("thread", me) == me

    def reset(self) -> None:
        """Forget what runs. Called at each step: a KeyboardInterrupt inside forward skips even `always_call` hooks."""
        me = get_ident()
        self._passed_over.pop(me, None)
        owner = self._owner.get("thread", me)
        if owner != me and any(thread.ident == owner for thread in enumerate_threads()):
            return  # its pass goes on
        self._owner.clear()
        self.running.clear()
        self.calls.clear()
        self.examples = None

    def enter(self, module: nn.Module, examples: Callable[[], int | None], mask: Callable[[], Tensor | None]) -> None:
        me = get_ident()
        if me in self._passed_over or self._owner.setdefault("thread", me) != me:
            self._passed_over[me] = self._passed_over.get(me, 0) + 1
            return
        if not self.running:
            self.calls.clear()
            try:
                with aside():
                    self.examples = examples()
            except Exception:  # inputs of any kind pass through here; a nested tensor refuses to tell its shape
                self.examples = None
            masked = self.on_enter(mask)
            self.examples = self.examples if masked is None else masked
        self.running.append(module)
        self.heard.add(module)
        if self.counted:
            self.unheard.discard(module)

    def leave(self, module: nn.Module, output: Any) -> None:
        me = get_ident()
        if me in self._passed_over:
            self._passed_over[me] -= 1
            if not self._passed_over[me]:
                del self._passed_over[me]
            return
        # Calls nest, so the top is this module. Should a hook of somebody else's have raised between the two hooks,
        # stale entries lie above it: drop them too. A module that is not on the stack at all entered before `attach`.
        if module not in self.running:
            return
        while self.running[-1] is not module:
            self.running.pop()
        if len(self.running) == 1:
            self.on_leave(output)  # what it still counts belongs to this pass
            self._owner.clear()
        self.running.pop()


def count_examples(inputs: Any, batch_axis: int) -> int | None:
    """Number of independent examples in a model's inputs: the batch size of the first tensor, depth first.

    A tensor with a batch axis of size 1 (a time step, a temperature) tells only if there is no other; a list of
    tensors (images of several sizes) is one example an entry.
    """
    single = None
    for value in _leaves(inputs):
        if isinstance(value, PackedSequence):
            return int(value.batch_sizes[0])  # always on the host: no sync
        if isinstance(value, list):
            return len(value)
        if isinstance(value, Tensor) and -value.dim() <= batch_axis < value.dim():
            size = int(value.shape[batch_axis])
            if size != 1:
                return size
            single = 1
    return single


def first_floats(output: Any) -> Tensor | None:
    """The first tensor of floats in a model's output, depth first, or None."""
    for value in _leaves(output):
        value = value[0] if isinstance(value, list) else value
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            return value
    return None


def _leaves(values: Any) -> Iterator[Any]:
    """Everything in nested containers; a list of several tensors stays one thing."""
    if isinstance(values, list) and len(values) > 1 and all(isinstance(value, Tensor) for value in values):
        yield values
        return
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, (tuple, list)) and not isinstance(values, PackedSequence):
        for value in values:
            yield from _leaves(value)
    else:
        yield values
