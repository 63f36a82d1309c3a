"""Which rows are padding: they are left out of every count.

One synchronisation a pass finds the places of the real tokens; every site then selects them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deadneuron.errors import UsageError

MaskSource = str | Tensor | Callable[..., Tensor | None]


class Mask:
    """The mask of the pass that is running: true where a token is real."""

    def __init__(self, model: nn.Module, source: MaskSource | None, batch_axis: int) -> None:
        self.source, self.batch_axis = source, batch_axis
        self.name, self.position = "", -1
        self._shape: tuple[int, ...] = ()
        self._places: Tensor | None = None  # of the real tokens in the flattened mask
        if isinstance(source, str):
            self.name, self.position = source, _position(model, source)
        elif isinstance(source, Tensor):
            _check(source)
        elif source is not None and not callable(source):
            raise UsageError(
                "a mask is an argument's name, a tensor or a function",
                where=f"mask={source!r}",
                todo='e.g. mask="attention_mask"',
            )

    def pick(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        """The mask tensor of a call of the model, or None if it was given none."""
        if self.source is None:
            return None
        if isinstance(self.source, Tensor):
            return self.source
        if isinstance(self.source, str):
            found = kwargs.get(self.name, args[self.position] if 0 <= self.position < len(args) else None)
        else:
            found = self.source(*args, **kwargs)
        return found if isinstance(found, Tensor) else None

    def begin(self, mask: Tensor | None) -> int | None:
        """A pass with this mask begins; the number of its examples that have a token, None without a mask."""
        self._places = None
        if mask is None:
            return None
        _check(mask)
        real = mask.detach() != 0
        if self.name.endswith("padding_mask"):  # in torch.nn's own words true, and -inf, is padding
            real = ~real
        elif mask.is_floating_point() and bool((mask.detach() < 0).any()):
            todo = "give mask= a function of forward's arguments that returns true where a token is real"
            raise UsageError("a mask that is added to scores is not 1 where a token is real", where="mask", todo=todo)
        if self.batch_axis == 1 and isinstance(self.source, Tensor):
            real = real.t()
        self._shape = tuple(real.shape)
        self._places = real.flatten().nonzero()[:, 0]
        if not len(self._places):
            todo = "true or 1 is a real token"
            raise UsageError("a pass in which no token is real counts nothing", where="mask", todo=todo)
        return int(real.any(1).sum())

    def select(self, x: Tensor, axis: int) -> tuple[Tensor, int]:
        """`x` without the rows that are padding, and its unit axis; `x` itself where it has no axis of tokens.

        Raises `ValueError` where x has tokens that this mask does not fit.
        """
        if self._places is None:
            return x, axis
        last = x.movedim(axis, -1)
        examples, tokens = self._shape
        if last.dim() >= 3 and self.batch_axis == 1 and last.shape[:2] == (tokens, examples):
            last = last.transpose(0, 1)
        if last.dim() >= 3 and tuple(last.shape[:2]) == self._shape:
            flat = last.flatten(0, 1)
        elif last.dim() >= 2 and last.shape[0] == examples * tokens:
            flat = last
        elif last.dim() <= 2:
            return x, axis  # one row an example: pooled, or a head's
        else:
            raise ValueError(f"the mask of shape {self._shape} does not fit an activation of shape {tuple(x.shape)}")
        rows = flat.index_select(0, self._places.to(flat.device))
        return rows, rows.dim() - 1

    def clear(self) -> None:
        self._places = None


def _position(model: nn.Module, name: str) -> int:
    """Where the model's forward takes the argument; -1 if only by name. Raises `UsageError` if it takes none such."""
    inner = getattr(model, "module", model) if type(model).__name__.endswith("DataParallel") else model
    parameters = list(inspect.signature(inner.forward).parameters.values())
    for index, parameter in enumerate(parameters):
        if parameter.name == name:
            return -1 if parameter.kind is inspect.Parameter.KEYWORD_ONLY else index
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return -1
    known = ", ".join(parameter.name for parameter in parameters)
    raise UsageError("the model's forward takes no such argument", where=f"mask={name!r}", todo=f"it takes {known}")


def _check(mask: Tensor) -> None:
    if mask.dim() != 2 or mask.is_complex():
        shape = tuple(mask.shape)
        raise UsageError("a mask has two axes (examples, tokens)", where=f"a mask of shape {shape}", todo="reshape it")
    if mask.is_floating_point() and torch.is_grad_enabled() and mask.requires_grad:
        raise UsageError("a mask is data, not a parameter", where="mask", todo="give 0 and 1, or false and true")
