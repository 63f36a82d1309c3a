"""Finds what a script trains: the optimizers it makes, and the models whose parameters they hold.

torch has no hook for the making of an optimizer, so `Optimizer.__init__` passes through a function, and `__setstate__`,
by which copies and pickles are made. And it has a global hook for calls of modules, but that is called too late for
hooks that are registered in it, without the keyword arguments, and makes torch.compile warn the user; so
`nn.Module.__call__` passes through a function until there is nothing left to find: usually that is before the first
call goes on.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deadneuron.errors import DeadneuronError, ScriptError
from deadneuron.integrations.patches import Patches
from deadneuron.monitor import Monitor

_LOOKS = 1000  # calls of models in train mode without news after which no further one is looked for
Attach = Callable[[nn.Module, list[Any]], Monitor]


class Finder:
    """Calls `attach(model, its optimizers)` for each model that is found, before its first pass begins.

    `rescale(optimizer, factor)` is called for each optimizer if `lr` is given: the rate that the first group of the
    first optimizer shall have where the script's is the one that it was made with.
    """

    def __init__(
        self, patches: Patches, attach: Attach, rescale: Callable[[Any, float], None], lr: float | None
    ) -> None:
        self._patches, self._attach, self._rescale, self._lr = patches, attach, rescale, lr
        self._factor: float | None = None
        self._optimizers: list[weakref.ref[Any]] = []
        self._done: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # watched, or never to be
        self._inside = threading.local()
        self._looks = 0
        self._looking = False
        self.monitors: list[Monitor] = []
        self.refused: dict[str, str] = {}  # why a model is not watched
        self.made = 0  # optimizers
        patches.replace(torch.optim.Optimizer, "__init__", self._watched_init)
        patches.replace(torch.optim.Optimizer, "__setstate__", self._watched_init)  # copied, or read from a file
        self._look_out()

    @property
    def optimizers(self) -> list[Any]:
        """Those that are still alive."""
        return [optimizer for reference in self._optimizers if (optimizer := reference()) is not None]

    # ── optimizers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _watched_init(self, original: Any) -> Any:
        @functools.wraps(original)
        def made(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if not self._patches.active:
                return
            try:
                self._note_optimizer(optimizer)
            except ScriptError:
                raise
            except Exception as error:  # the script goes on whatever happens here, unless it asked for a rate
                kind, reason = type(optimizer).__name__, f"{type(error).__name__}: {error}"
                if self._lr is not None:
                    what = f"the rate of {kind} cannot be set ({reason})"
                    raise ScriptError(what, where="--lr", todo="set it in the script") from None
                self.refused.setdefault(kind, reason)

        return made

    def _note_optimizer(self, optimizer: Any) -> None:
        if any(own is optimizer for own in self.optimizers):
            return
        self.made += 1
        self._optimizers.append(weakref.ref(optimizer))
        if self._lr is not None:
            if self._factor is None:
                self._factor = self._lr / _rate_of(optimizer)
            self._rescale(optimizer, self._factor)
        held = _members(optimizer)
        for monitor in self.monitors:
            if not monitor.optimizers and held & _trainable(monitor.model):
                monitor.follow(optimizer)
        if self._something_left():
            self._look_out()
        else:
            self._look_away()

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_out(self) -> None:
        self._looks = _LOOKS
        if not self._looking:
            self._looking = True
            self._calls = Patches()
            self._calls.replace(nn.Module, "__call__", self._watched_call)

    def _look_away(self) -> None:
        if self._looking:
            self._looking = False
            self._calls.restore()

    stop = _look_away

    def _watched_call(self, original: Any) -> Any:
        calls = self._calls

        @functools.wraps(original)
        def looked_at(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not calls.active or getattr(self._inside, "on", False):
                return original(module, *args, **kwargs)
            self._look_at(module)
            self._inside.on = True
            try:
                return original(module, *args, **kwargs)
            finally:
                self._inside.on = False

        return looked_at

    def _look_at(self, module: nn.Module) -> None:
        """An outermost module is called."""
        try:
            root = _root(module)
            if not root.training or torch._C._is_tracing():
                return
            if root not in self._done:
                own = _trainable(root)
                if not own:  # a loss, a transform of images: they may be called very often before any training
                    return
                self._consider(root, own)
            self._looks -= 1
            if self._looks < 0:
                self._look_away()
        except Exception as error:  # the script goes on whatever happens here
            self.refused.setdefault(type(module).__name__, f"{type(error).__name__}: {error}")

    def _consider(self, root: nn.Module, own: set[int]) -> None:
        """A module with parameters to train is called in train mode for the first time, or was not known before."""
        optimizers = self.optimizers
        held = [optimizer for optimizer in optimizers if own & _members(optimizer)]
        if (optimizers and not held) or (not optimizers and not torch.is_grad_enabled()) or own <= self._covered():
            return
        self._done.add(root)
        whole = set(root.parameters())  # frozen ones too: another model may be frozen at the moment
        for before in [one for one in self.monitors if one.steps == 0 and set(one.model.parameters()) <= whole]:
            before.close()  # a part of this model was called by itself before: it is counted with the whole
            self.monitors.remove(before)
        try:
            monitor = self._attach(root, held)
            monitor.join_step()  # the pass may be a closure's, and the optimizer stepping already
            self.monitors.append(monitor)
            self._looks = _LOOKS
        except DeadneuronError as error:
            self.refused[type(root).__name__] = error.what
        if not self._something_left():
            self._look_away()

    def _covered(self) -> set[int]:
        return {number for root in self._done for number in _trainable(root)}

    def _something_left(self) -> bool:
        """Whether an optimizer holds parameters of a model that was not found yet."""
        covered, optimizers = self._covered(), self.optimizers
        return not optimizers or any(not _members(optimizer) <= covered for optimizer in optimizers)


def _root(module: nn.Module) -> nn.Module:
    """The model inside what torch wraps it in."""
    while True:
        inner = getattr(module, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(module, (nn.DataParallel, DistributedDataParallel)):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _trainable(module: nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters() if parameter.requires_grad}


def _members(optimizer: Any) -> set[int]:
    return {id(member) for group in optimizer.param_groups for member in group["params"] if member.requires_grad}


def _rate_of(optimizer: Any) -> float:
    rate = optimizer.param_groups[0].get("lr")
    if rate is None or not 0 < float(rate) < math.inf:
        what = f"the first optimizer ({type(optimizer).__name__}) was made with lr={rate}: no factor leads from there"
        raise ScriptError(what, where="--lr", todo="make it with a rate above 0; a schedule may begin at 0")
    return float(rate)
