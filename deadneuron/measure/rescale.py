"""Learning rates that are multiplied while an optimizer steps, and only then.

A step's pre-hook multiplies, its post-hook puts back what was there: between steps a scheduler, a checkpoint and the
user see the rate that they set. Several multipliers of one optimizer share one pair of hooks, so that they compose;
the clock asks here for the rate that a step really used, because its own hooks may run before or after these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Real
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import Tensor

from deadneuron.errors import UsageError
from deadneuron.measure.aside import aside
from deadneuron.measure.stepping import depth, is_nested, steppable

Reading = tuple[Any, float]
"""A group's rate, and what a dither multiplied it by: NaN where none did."""


class Rescale:
    """Multiplies the rates of all groups of an optimizer by `draw()` in each of its steps, until `remove()`.

    `dither`: the numbers are random, and go into the run beside the rates. Raises `UsageError` for what is no torch
    optimizer, in the middle of a step, and for a second dither.
    """

    def __init__(self, optimizer: Any, draw: Callable[[], float], *, dither: bool = False) -> None:
        inner = steppable(optimizer)
        self.draw, self.dither = draw, dither
        self._optimizer = ref(inner)  # the registry's values must not keep its keys alive
        kind = type(inner).__name__
        if depth(inner, math.inf):
            raise UsageError("the optimizer is stepping", where=kind, todo="do this between two steps")
        scaling = _scalings.get(inner)
        if scaling is None:
            scaling = _scalings[inner] = _Scaling(inner)
        if dither and any(other.dither for other in scaling.members):
            raise UsageError("its learning rate is dithered already", where=kind, todo="close() the first dither")
        scaling.members.append(self)

    def remove(self) -> None:
        """Multiply no more. A step that is running ends as it began."""
        optimizer = self._optimizer()
        scaling = None if optimizer is None else _scalings.get(optimizer)
        if scaling is not None and self in scaling.members:
            scaling.members.remove(self)
            if not depth(optimizer, math.inf):  # else its hooks are being walked through: they stay, and do nothing
                scaling.restore()
                if not scaling.members:
                    scaling.detach()
                    del _scalings[optimizer]


@contextmanager
def undithered(optimizer: Any) -> Iterator[None]:
    """Steps in here neither use nor draw numbers of a dither. One optimizer or a sequence of them."""
    many: Sequence[Any] = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    with ExitStack() as stack:
        for scaling in filter(None, (_scalings.get(steppable(one)) for one in many)):
            scaling.paused += 1
            stack.callback(scaling.resume)
        yield


def rates_in_use(optimizer: Any, *, ended: bool) -> list[Reading]:
    """The rate of each group, as the step that is running uses it, or used it if it has `ended`."""
    scaling = _scalings.get(optimizer)
    if scaling is None:
        return [(group.get("lr"), math.nan) for group in optimizer.param_groups]
    # While these hooks have not run, or where they did nothing, the rates are what they are.
    return scaling.used if ended and scaling.used is not None else scaling.read(optimizer)


@dataclass(slots=True)
class _Held:
    """One group's rate as it was before the step, and as it was set for it."""

    group: dict[str, Any]
    before: Any  # the object itself; a copy of a tensor that was multiplied in place
    set: Any
    version: int | None  # of a tensor that was multiplied in place

    def is_ours(self) -> bool:
        """Whether nobody has set another rate since."""
        now = self.group.get("lr")
        return now is self.set and (self.version is None or now._version == self.version)

    def put_back(self) -> None:
        if not self.is_ours():
            return
        if self.version is None:
            self.group["lr"] = self.before
        else:
            with aside():
                self.set.detach().copy_(self.before)  # the tensor stays the same one: graphs were captured with it


class _Scaling:
    """All multipliers of one optimizer. It holds no reference to it: the optimizer holds this by its hooks."""

    def __init__(self, optimizer: Any) -> None:
        self.members: list[Rescale] = []
        self.paused = 0  # dithers only
        self.held: list[_Held] | None = None  # while a step runs
        self.factor = math.nan  # of the dither, in that step
        self.used: list[Reading] | None = None  # by the last step; None if nothing was multiplied in it
        self._handles = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            optimizer.register_state_dict_pre_hook(self._before_saving),
        )

    def resume(self) -> None:
        self.paused -= 1

    def read(self, optimizer: Any) -> list[Reading]:
        ours = {id(held.group) for held in self.held or () if held.is_ours()}
        return [(g.get("lr"), self.factor if id(g) in ours else math.nan) for g in optimizer.param_groups]

    def restore(self) -> None:
        """Put back what was there before the step that is running, or that has raised."""
        for held in self.held or ():
            held.put_back()
        self.held = None

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_nested(optimizer):
            return None
        self.restore()  # the last step may have raised: then no post-hook ran
        self.used = None
        acting = [member for member in self.members if not (member.dither and self.paused)]
        if not acting:
            return None
        self.factor, total = math.nan, 1.0
        for member in acting:
            drawn = member.draw()
            total *= drawn
            if member.dither:
                self.factor = drawn
        self.held = []
        for group in optimizer.param_groups:
            rate = group.get("lr")
            shared = next((one for one in self.held if one.version is not None and one.set is rate), None)
            if shared is not None:
                self.held.append(replace(shared, group=group))
            elif isinstance(rate, (Real, Tensor)):
                self.held.append(_multiply(group, total))
        if len(args) > 1 and callable(args[1]):  # behind the optimizer itself
            return (args[0], self._guarded(args[1]), *args[2:]), kwargs
        return (args, kwargs | {"closure": self._guarded(kwargs["closure"])}) if kwargs.get("closure") else None

    def _guarded(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        """If it raises no post-hook runs, and a loop that catches that may go on with its scheduler."""

        @wraps(closure)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return closure(*args, **kwargs)
            except BaseException:
                self.restore()
                raise

        return guarded

    def _after(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.held is None or is_nested(optimizer):
            return
        self.used = [(_copy(rate), factor) for rate, factor in self.read(optimizer)]
        self.restore()

    def _before_saving(self, optimizer: Any) -> None:
        # After a step that raised, or that Ctrl-C broke off, a checkpoint must not keep the multiplied rate.
        if not depth(optimizer, math.inf):
            self.restore()


_scalings: WeakKeyDictionary[Any, _Scaling] = WeakKeyDictionary()


def _multiply(group: dict[str, Any], factor: float) -> _Held:
    rate = group["lr"]
    if not isinstance(rate, Tensor) or not rate.is_floating_point():
        with aside():
            group["lr"] = rate * factor
        return _Held(group, rate, group["lr"], None)
    with aside():
        before = rate.detach().clone()
        rate.detach().mul_(factor)
    return _Held(group, before, rate, rate._version)


def _copy(rate: Any) -> Any:
    if not isinstance(rate, Tensor):
        return rate
    with aside():
        return rate.detach().clone()
