"""scikit-learn's digits: 1,797 real scans of 8 × 8 pixels, shipped inside that package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deadneuron.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Digits:
    """Images [n, 64] float32 in [0, 1] and labels [n] int64, split."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def load_digits(test: int, scale: float, generator: torch.Generator) -> Digits:
    """The digits, shuffled by the generator, with `test` images held out.

    Raises `MissingExtraError` if scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtraError(
            "scikit-learn is not installed", where="digits", todo="pip install 'deadneuron[demo]'"
        ) from None
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=generator)
    x = torch.tensor(pixels / scale, dtype=torch.float32)[order]
    y = torch.tensor(labels, dtype=torch.int64)[order]
    return Digits(x[:-test], y[:-test], x[-test:], y[-test:])


def batches(digits: Digits, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless training batches, epoch after epoch in a new order; what is left of an epoch below `size` is dropped."""
    while True:
        order = torch.randperm(len(digits.train_x), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            index = order[start : start + size]
            yield digits.train_x[index], digits.train_y[index]
