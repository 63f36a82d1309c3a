"""Learning rate schedules in words: "constant", "warmup:200", "cosine", "step:200:0.1", or some of them with "+"."""

from __future__ import annotations

import math
from collections.abc import Callable

from deadneuron.errors import LabError

Factor = Callable[[int], float]


def parse_schedule(words: str, steps: int) -> Factor:
    """What the rate of step s (from 0) is multiplied by, in a training of so many steps.

    constant: 1. warmup:N: rises evenly and reaches 1 in step N - 1. cosine: falls from 1 in step 0 along half a cosine
    that would reach 0 in step `steps`. step:N:F: times F after every N steps. "a+b": their product.

    Raises `LabError` for anything else.
    """
    factors = [_parse_one(word, words, steps) for word in words.split("+")]

    def product(step: int) -> float:
        return math.prod(factor(step) for factor in factors)

    return product


def _parse_one(word: str, words: str, steps: int) -> Factor:
    name, *values = word.split(":")
    try:
        if name == "constant" and not values:
            return lambda step: 1.0
        if name == "cosine" and not values:
            return lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        if name == "warmup" and len(values) == 1:
            length = _positive(values[0])
            return lambda step: min((step + 1) / length, 1.0)
        if name == "step" and len(values) == 2:
            length, factor = _positive(values[0]), float(values[1])
            if 0 < factor < math.inf:
                return lambda step: float(factor ** (step // length))
    except ValueError:
        pass
    todo = "give constant, warmup:N, cosine, step:N:FACTOR, or some of them with + between"
    raise LabError("unknown schedule", where=words, todo=todo)


def _positive(digits: str) -> int:
    number = int(digits)
    if number < 1:
        raise ValueError
    return number
