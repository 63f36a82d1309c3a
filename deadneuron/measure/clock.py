"""Steps and learning rates: what every parameter group used in the very step that used it.

The rate is read in the optimizer's step *pre*-hook: after the step a scheduler may have moved on. With several
optimizers a step lasts until one of them steps again, so that an alternating pair (a GAN, Muon beside AdamW) counts
one step a round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from deadneuron.measure.aside import aside
from deadneuron.measure.rescale import rates_in_use
from deadneuron.measure.stepping import depth, is_nested
from deadneuron.measure.stepping import steppable as steppable
from deadneuron.records import Tick

_RETIRED = 100  # steps after which no step waits any longer for an optimizer that took part in none of them
Number = float | Tensor | None  # a tensor stays on its device until the tick is written, off the training thread


@dataclass(slots=True)
class LiveTick:
    """A tick that may still gain a loss or a second optimizer's rates."""

    step: int
    rates: list[Number]  # of every group that is known so far
    time: float = field(default_factory=time.time)
    skipped: dict[int, bool | Tensor] = field(default_factory=dict)  # by optimizer, of those that took part
    owners: list[int] = field(default_factory=list)  # the optimizer of each rate
    drawn: list[float] = field(default_factory=list)  # what a dither multiplied each rate by; NaN for none
    loss: Number = None
    grad_norm: Number = None
    finite: Tensor | None = None  # one bool: whether the model's outputs were

    def finished(self) -> Tick:
        """As a record; this waits for the device where a value is a tensor.

        The step was skipped if every optimizer skipped it; where some did, their rates are NaN.
        """
        skipped = {index for index, flag in self.skipped.items() if bool(flag)}
        everyone = bool(skipped) and len(skipped) == len(self.skipped)
        idle = set() if everyone else skipped
        owners = self.owners or [-1] * len(self.rates)
        drawn = tuple(math.nan if owner in idle else d for d, owner in zip(self.drawn, owners, strict=False))
        return Tick(
            step=self.step,
            time=self.time,
            rates=tuple(
                math.nan if owner in idle else _number(rate, math.nan)
                for rate, owner in zip(self.rates, owners, strict=True)
            ),
            skipped=everyone,
            multipliers=None if all(map(math.isnan, drawn)) else drawn,
            loss=None if self.loss is None else _number(self.loss, math.nan),
            grad_norm=None if self.grad_norm is None else _number(self.grad_norm, math.nan),
            finite=None if self.finite is None else bool(self.finite),
        )


class Clock:
    """Counts steps.

    `on_step(step, complete)` is called when all passes of a step have run, `on_tick` when the step is over.
    """

    def __init__(
        self,
        optimizers: Sequence[Any],
        on_step: Callable[[int, bool], None],
        on_tick: Callable[[LiveTick], None],
        fail: Callable[[str, str], None],
    ) -> None:
        self.optimizers = [steppable(optimizer) for optimizer in optimizers]
        self.groups = list_groups(self.optimizers)
        self.on_step, self.on_tick, self.fail = on_step, on_tick, fail
        self.current: LiveTick | None = None
        self.stepped: set[int] = set()  # optimizers that took part in the current step
        self.calls = [0] * len(self.optimizers)  # of each optimizer's step, skipped ones left out
        self.last = [-1] * len(self.optimizers)  # the last step that each took part in
        self.inside = False  # a step with a closure is running: its passes belong to it
        self.upcoming: dict[str, Number] = {}  # logged before the step it belongs to
        self.detached = False
        self.paused = False
        self._handles: list[Any] = []
        self._ids: list[int] = []  # of our pre-hooks
        for index in range(len(self.optimizers)):
            self._hook(index)

    @property
    def step(self) -> int:
        """Number of the last step, -1 before the first."""
        return self.current.step if self.current else -1

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Steps in here are not the training's."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def adopt(self, optimizer: Any) -> None:
        """Follow one more optimizer, whose step begins now: a second phase of a training often makes a new one.

        It takes the place of an earlier one of its kind that held the same parameters, and its groups theirs.
        """
        self.stepped.clear()  # its first step is a step of its own
        for index, before in enumerate(self.optimizers):
            if type(before) is type(optimizer) and _members(before) == _members(optimizer):
                for handle in self._handles[2 * index : 2 * index + 2]:
                    handle.remove()
                self.optimizers[index] = optimizer
                self._hook(index)
                return
        self.optimizers.append(optimizer)
        self.calls.append(0)
        self.last.append(self.step)
        self._hook(len(self.optimizers) - 1)

    def _hook(self, index: int) -> None:
        optimizer = self.optimizers[index]
        before = optimizer.register_step_pre_hook(_StepHook(self, self._before, index))
        after = optimizer.register_step_post_hook(_StepHook(self, self._after, index))
        self._handles[2 * index : 2 * index + 2] = [before, after]
        self._ids[index : index + 1] = [before.id]

    def join(self) -> None:
        """Begin the step of an optimizer whose closure is running: its pre-hooks were called before ours was there."""
        for index, optimizer in enumerate(self.optimizers):
            if depth(optimizer, math.inf):
                self._before(index, (), {"closure": True})

    def detach(self) -> None:
        self.detached = True
        for index, optimizer in enumerate(self.optimizers):
            if not depth(optimizer, math.inf):  # while it steps it walks through its hooks: none may go from under it
                for handle in self._handles[2 * index : 2 * index + 2]:
                    handle.remove()
        self.finish()
        self.optimizers.clear()

    def finish(self) -> None:
        """Hand out the tick that is still open."""
        if self.current is not None:
            self.on_tick(self.current)
            self.current = LiveTick(self.current.step, [])
            self.stepped.clear()

    def manual(self, rates: Sequence[Number]) -> None:
        """A step of a loop that has no torch optimizer."""
        if self.paused:
            return
        self._advance()
        assert self.current is not None
        self.current.rates = [_keep(rate) for rate in rates]
        self.on_step(self.step, True)

    def skip(self, index: int) -> None:
        """A step that GradScaler did not let its optimizer take."""
        if self.paused:
            return
        try:
            self._begin(index)
            assert self.current is not None
            self.current.skipped[index] = True
            self._complete()
        except Exception as error:
            self.fail("clock", f"{type(error).__name__} while noting a skipped step: {error}")

    def log(self, values: dict[str, Number], *, passes_since: bool) -> None:
        """Note values with the step they belong to: the coming one if a pass has run since the last step."""
        if self.paused:
            return
        kept = {name: _keep(value) for name, value in values.items() if value is not None}
        if self.current is None or (passes_since and not self.inside):
            self.upcoming.update(kept)
        else:
            _note(self.current, kept)

    def _leave(self, index: int) -> None:
        """Remove the hooks that `detach` left because their optimizer was stepping; called by the post-hook."""
        before, after = self._handles[2 * index : 2 * index + 2]
        before.remove()
        hooks = after.hooks_dict_ref()
        if hooks and next(reversed(hooks)) == after.id:  # the walk ends here
            after.remove()

    def _before(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.detached or self.paused or is_nested(self.optimizers[index]):
            return
        self.calls[index] += 1
        self._begin(index)
        self.inside = _closure(args, kwargs) is not None
        if not self.inside:
            self._complete()
            self._read_rates(index)  # on_finding may have lowered them just now

    def _after(self, index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.detached:
            self._leave(index)
            return
        if self.paused or is_nested(self.optimizers[index]):
            return
        if self.inside or not self._is_last(index):
            self._read_rates(index, ended=True)  # the closure, or a hook that ran behind ours, may have set them
        if self.inside:
            self.inside = False
            self._complete()

    def _is_last(self, index: int) -> bool:
        """Whether our hook ran behind all others before this step; if not, it will from the next step on."""
        hooks = getattr(self.optimizers[index], "_optimizer_step_pre_hooks", None)
        if not hooks or next(reversed(hooks)) == self._ids[index]:
            return True
        hooks.move_to_end(self._ids[index])
        return False

    def _begin(self, index: int) -> None:
        if self.current is None or index in self.stepped or not self.stepped:
            self._advance()
        assert self.current is not None
        self.stepped.add(index)
        self.last[index] = self.step
        self._read_rates(index)
        found = getattr(self.optimizers[index], "found_inf", None)  # set by GradScaler around a fused step
        self.current.skipped[index] = _flag(found) if isinstance(found, Tensor) else False

    def _read_rates(self, index: int, *, ended: bool = False) -> None:
        if index >= len(self.optimizers):  # on_finding closed the monitor in the middle of this step
            return
        optimizer, tick = self.optimizers[index], self.current
        assert tick is not None
        self._add_new_groups(index)
        tick.rates += [math.nan] * (len(self.groups) - len(tick.rates))
        tick.owners = [owner for owner, _ in self.groups]
        tick.drawn += [math.nan] * (len(self.groups) - len(tick.drawn))
        readings = rates_in_use(optimizer, ended=ended)
        for place, (owner, group) in enumerate(self.groups):
            if owner == index and group < len(readings):
                rate, tick.drawn[place] = readings[group]
                tick.rates[place] = _keep(rate)

    def _add_new_groups(self, index: int) -> None:
        """Groups of `add_param_group` come last, so that the places of the others stay."""
        known = sum(owner == index for owner, _ in self.groups)
        self.groups += [(index, group) for group in range(known, len(self.optimizers[index].param_groups))]

    def _complete(self) -> None:
        waited_for = (i for i, last in enumerate(self.last) if self.step - last <= _RETIRED)
        self.on_step(self.step, all(index in self.stepped for index in waited_for))

    def _advance(self) -> None:
        step = self.step + 1
        if self.current is not None and self.current.rates:
            self.on_tick(self.current)
        self.current = LiveTick(step, [])
        self.stepped.clear()
        _note(self.current, self.upcoming)
        self.upcoming.clear()


class _StepHook:
    """A hook of one optimizer. Optimizers leave their hooks out of pickles and copies."""

    def __init__(self, clock: Clock, act: Callable[[int, tuple[Any, ...], dict[str, Any]], None], index: int) -> None:
        self.clock, self.act, self.index = clock, act, index

    def __call__(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.act(self.index, args, kwargs)
        except Exception as error:  # the optimizer must step whatever happens here
            self.clock.fail("clock", f"{type(error).__name__} while noting a step: {error}")


Groups = Sequence[tuple[int, int]]
"""(optimizer, its group) of each parameter group of a run, in the order of a tick's rates."""


def list_groups(optimizers: Sequence[Any]) -> list[tuple[int, int]]:
    return [(index, group) for index, one in enumerate(optimizers) for group in range(len(one.param_groups))]


def group_names(optimizers: Sequence[Any], groups: Groups) -> tuple[str, ...]:
    """ "SGD[0]", "SGD[1]", "AdamW[0]": one name a parameter group."""
    counts: dict[str, int] = {}
    names = []
    for index, _ in groups:
        kind = type(optimizers[index]).__name__
        names.append(f"{kind}[{counts.get(kind, 0)}]")
        counts[kind] = counts.get(kind, 0) + 1
    return tuple(names)


def groups_by_parameter(optimizers: Sequence[Any], groups: Groups) -> dict[int, tuple[int, ...]]:
    """Places of the groups that hold each parameter, by the parameter's id. Several where optimizers share it."""
    places: dict[int, tuple[int, ...]] = {}
    for place, (index, group) in enumerate(groups):
        own = optimizers[index].param_groups
        for member in own[group]["params"] if group < len(own) else ():
            places[id(member)] = (*places.get(id(member), ()), place)
    return places


def _members(optimizer: Any) -> list[list[int]]:
    return [[id(member) for member in group["params"]] for group in optimizer.param_groups]


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # torch hands the hook the arguments of step() with the optimizer itself in front.
    rest = [arg for arg in args if not hasattr(arg, "param_groups")]
    return rest[0] if rest else kwargs.get("closure")


def _keep(value: Any) -> Number:
    if isinstance(value, Tensor):
        with aside():
            if value.numel() != 1:  # told now: when the tick is written it would take others down with it
                raise ValueError(f"expected one number, got a tensor of shape {tuple(value.shape)}")
            return value.detach().clone()
    return None if value is None else float(value)


def _flag(found: Tensor) -> Tensor:
    with aside():
        return found.detach().clone()


def _number(value: Number, missing: float) -> float:
    return missing if value is None else float(value)


def _note(tick: LiveTick, values: dict[str, Number]) -> None:
    tick.loss = values.get("loss", tick.loss)
    tick.grad_norm = values.get("grad_norm", tick.grad_norm)
