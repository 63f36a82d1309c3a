"""The dither: a learning rate that is multiplied by a random number in each step, so that its effect can be told.

On a schedule rate and time move together, and no statistics can part them. A coin that is tossed at every step can:
whatever else happens at a time happens to high and low steps alike, so that a difference between their deaths is the
rate's doing. The price is that the training is another one: see `LRDither`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from deadneuron.errors import UsageError
from deadneuron.measure.rescale import Rescale
from deadneuron.measure.stepping import steppable


class LRDither:
    """Multiplies the learning rate of each optimizer step by `low` or `high`, at random and 1 on average.

    Use it as `with deadneuron.LRDither(optimizer): …` around the training, or call `close()`. The rate is multiplied
    while the optimizer steps and put back bit for bit after it: any scheduler, checkpoint or log sees the rate that it
    would see without. All groups of an optimizer get the same number; `watch()`, before or after, notes it.

    Not free: the training is no longer the one without the dither. The rate has a noise of
    ((1 - low)(high - 1))^½ of its size (0.5 by default), the highest rate is `high` times the one that was set, and
    what dies of that is dead. Random numbers of the training are left alone. Measured on digits (MLP of three layers,
    24 seeds, 500 steps; benchmarks/proof_dither.py): with Adam at 0.01 and SGD with momentum at 0.1 no change of the
    accuracy that stood out from the seeds' noise, and 16 % instead of 15 % (5.9 % instead of 3.4 %) of the units dead
    at the end; with SGD at 0.5, near the rate at which it diverges, 33 % instead of 4 % dead and 68 % accuracy instead
    of 98 %. So `high` times the rate should be one that the training survives; bounds nearer to 1 cost less, and need
    more deaths to show an effect.

    Args:
        optimizer: a torch optimizer, or a list of them: one draw a step of each.
        low: above 0 and below 1.
        high: above 1. The chance of `low` is (high - 1)/(high - low): then the mean is 1.
        seed: of the dither's own generator. Give all processes of one distributed training the same.

    Raises:
        UsageError: bounds that do not enclose 1, no torch optimizer, or one that is dithered already.
    """

    def __init__(self, optimizer: Any, low: float = 0.5, high: float = 1.5, seed: int = 0) -> None:
        many = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        optimizers = [steppable(one) for one in many]
        if not optimizers or len({id(one) for one in optimizers}) != len(optimizers):
            what = "an optimizer is given twice" if optimizers else "there is no optimizer to dither"
            raise UsageError(what, where="LRDither", todo="give each optimizer once")
        self._set(low, high, seed)
        self._sources = [_Source(self, number) for number in range(len(optimizers))]
        self._rescales: list[Rescale] = []
        try:
            for one, source in zip(optimizers, self._sources, strict=True):
                self._rescales.append(Rescale(one, source, dither=True))
        except UsageError:
            self.close()
            raise

    @property
    def low(self) -> float:
        return self._low

    @property
    def high(self) -> float:
        return self._high

    @property
    def seed(self) -> int:
        return self._seed

    def close(self) -> None:
        """Leave the rates alone from now on. Safe to call twice."""
        for rescale in self._rescales:
            rescale.remove()
        self._rescales.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs so that a resumed training goes on with the same draws: plain numbers."""
        drawn = [source.drawn for source in self._sources]
        return {"low": self.low, "high": self.high, "seed": self.seed, "drawn": drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict()` was taken. Raises `UsageError` for the state of something else."""
        try:
            low, high, seed, drawn = (state[key] for key in ("low", "high", "seed", "drawn"))
            fits = len(drawn) == len(self._sources) and all(isinstance(n, int) and n >= 0 for n in drawn)
        except (KeyError, TypeError):
            fits = False
        if not fits:
            todo = f"give what state_dict() returned for {len(self._sources)} optimizer(s)"
            raise UsageError("this is no state of this dither", where="LRDither", todo=todo)
        self._set(low, high, seed)
        for source, count in zip(self._sources, drawn, strict=True):
            source.restart(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    def __repr__(self) -> str:
        state = "" if self._rescales else ", closed"
        return f"LRDither(low={self.low}, high={self.high}, seed={self.seed}{state})"

    def _set(self, low: float, high: float, seed: int) -> None:
        numbers = all(isinstance(end, (int, float)) and math.isfinite(end) for end in (low, high))
        if not numbers or not 0 < low < 1 < high:
            todo = "the defaults are 0.5 and 1.5"
            raise UsageError("a dither needs 0 < low < 1 < high", where=f"low={low!r}, high={high!r}", todo=todo)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise UsageError("a seed is a whole number", where=f"seed={seed!r}", todo="give an int")
        self._low, self._high, self._seed = float(low), float(high), seed


class _Source:
    """The draws of one optimizer."""

    def __init__(self, dither: LRDither, number: int) -> None:
        self.dither, self.number = dither, number
        self.restart(0)

    def restart(self, drawn: int) -> None:
        # A text seeds through SHA-512: neighbouring seeds and optimizers have nothing in common.
        self.random = random.Random(f"{self.dither.seed}/{self.number}")
        self.drawn = drawn
        for _ in range(drawn):
            self.random.random()

    def __call__(self) -> float:
        low, high = self.dither.low, self.dither.high
        self.drawn += 1
        return low if self.random.random() < (high - 1) / (high - low) else high
