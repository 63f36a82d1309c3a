"""What is learned while torch.compile traces a model: what feeds each of its activations.

Tensors are fake then, but have their autograd graph. When the compiled program runs, the real ones have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from deadneuron.measure.feeders import Producer, trace
from deadneuron.measure.layers import why_no_layer

Place = tuple[Any, nn.Module | None, int]  # (activation module's tap, or function and parameters; caller; which call)


class Rehearsal:
    """Runs along while torch.compile traces a model, to learn what feeds each of its activations."""

    def __init__(self, probe: Any) -> None:
        self.probe = probe
        self.running: list[Any] = []
        self.inside: Any = None  # the activation module that is being traced
        self.calls: dict[Any, int] = {}
        self._pass = 0
        self.producers: dict[Place, Producer] = {}
        self.refused: dict[Place, str] = {}  # calls of functions that are no layer's activation, and why

    def enter(self, hook: Any) -> None:
        if hook is not None and hook in self.running:  # a trace that was broken off began again
            del self.running[self.running.index(hook) :]
        if not self.running:
            self._begin_anew()
        self.running.append(hook)

    def leave(self, hook: Any) -> None:
        if self.running:
            self.running.pop()

    def begin(self, tap: Any, x: Tensor) -> None:
        """An activation module is traced."""
        self._look_at_pass()
        if self.inside is None:
            self.inside = tap
            self._observe(tap, x)

    def end(self, tap: Any) -> None:
        if self.inside is tap:
            self.inside = None

    def apply(self, key: tuple[str, tuple[float, ...]], x: Tensor) -> None:
        """A function is traced."""
        self._look_at_pass()
        if self.inside is not None:
            return
        caller = self._caller()
        nth = self._count((key, caller, "all"))
        reason = why_no_layer(x, trace(x), key[0])
        if reason:
            self.refused[key, caller, nth] = reason
        else:
            self._observe(key, x)

    def _look_at_pass(self) -> None:
        if not self.running and self._pass != self.probe.passes:  # the hooks of what is traced have run in earnest
            self._begin_anew()

    def _caller(self) -> nn.Module | None:
        hook = self.running[-1] if self.running else None
        caller: nn.Module | None = hook.module() if hook is not None else self.probe.stack.caller()
        return caller

    def _count(self, what: Any) -> int:
        number = self.calls.get(what, 0)
        self.calls[what] = number + 1
        return number

    def _observe(self, key: Any, x: Tensor) -> None:
        caller = self._caller()
        call = self._count((key, caller) if isinstance(key, tuple) else key)  # a function's are counted by caller
        producer = trace(x)
        if producer is None:
            return
        leaves = tuple(real for leaf in producer.parameters if (real := self._real(leaf)) is not None)
        if leaves or not producer.parameters:
            self.producers[key, caller, call] = replace(producer, parameters=leaves)

    def _real(self, leaf: Tensor) -> Tensor | None:
        return real_of(leaf, self.probe.model.parameters())

    def producer(self, key: Any, caller: nn.Module | None, call: int) -> Producer | None:
        """What was learned of a call, or of the same call in a layer that shares this one's compiled code."""
        known = self.producers.get((key, caller, call))
        if known is not None or caller is None:
            return known
        for theirs, other, nth in self.producers:
            if nth == call and other is not None and self._alike(theirs, other, key, caller):
                return self._translated(self.producers[theirs, other, nth], other, caller)
        return None

    def refusal(self, key: Any, caller: nn.Module, nth: int) -> str:
        """Why the nth call of a function is no layer's activation; empty if it is one, or if that is not known."""
        for theirs, other, number in self.refused:
            alike = other is caller or (other is not None and self._alike(theirs, other, key, caller))
            if theirs == key and number == nth and alike:
                return self.refused[theirs, other, number]
        return ""

    def _alike(self, theirs: Any, other: nn.Module, mine: Any, caller: nn.Module) -> bool:
        if type(other) is not type(caller):
            return False
        if isinstance(mine, tuple) or isinstance(theirs, tuple):
            return bool(mine == theirs)
        names = self.probe.names
        return bool(theirs.name.removeprefix(names.get(other, "")) == mine.name.removeprefix(names.get(caller, "")))

    def _translated(self, producer: Producer, other: nn.Module, caller: nn.Module) -> Producer | None:
        mine = dict(caller.named_parameters())
        names = {id(p): name for name, p in other.named_parameters()}
        leaves = tuple(mine[names[id(p)]] for p in producer.parameters if names.get(id(p)) in mine)
        return replace(producer, parameters=leaves) if len(leaves) == len(producer.parameters) else None

    def _begin_anew(self) -> None:
        self.calls.clear()
        self.inside, self._pass = None, self.probe.passes

    def clear(self) -> None:
        self.running.clear()
        self._begin_anew()
        self.producers.clear()
        self.refused.clear()


def real_of(fake: Tensor, candidates: Iterable[Tensor]) -> Tensor | None:
    """Which of the real tensors a fake one stands for; None if none, or where this torch keeps its notes elsewhere."""
    with suppress(AttributeError, TypeError):
        converter = fake.fake_mode.fake_tensor_converter.meta_converter  # type: ignore[attr-defined]
        for real in candidates:
            number = converter.describer.lookup_tensor.get(real)
            if number is not None and converter.tensor_memo.get(number) is fake:
                return real
    return None
