"""Keeping a model as it is around a forward pass that is not the training's."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadneuron.measure.aside import aside, is_without_data
from deadneuron.measure.rng import rng_state, set_rng_state

_MAPS = (dict, OrderedDict, defaultdict)
_Undo = Callable[[], object]


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Whatever forward passes in here change of the model is as before afterwards, also after an exception.

    That is: training flags; values of buffers, of tensors that are plain attributes, and of embeddings that a forward
    pass renormalizes (bit-exact, in the same tensors); which buffers, parameters, submodules and other attributes each
    module has; the contents of its plain lists, dicts, sets and deques; its own random generators and the global ones
    of every device; the grad mode. Autocast makes no casts in here that later passes would reuse: those of a pass
    without gradient have none, and a training pass that met them would lose its weights' gradient.

    Not kept: parameters that are changed by anything else than a renormalizing embedding (see `Snapshot`), lazy modules
    that take shape, and what hooks of the user change outside the model. Costs a copy of the buffers.
    """
    with aside(), torch.no_grad():
        undo = [step for module in model.modules() for step in _of_module(module)]
    numbers, grad, cache = rng_state(), torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cache)
        with aside():
            with torch.no_grad():
                for step in undo:
                    step()
            torch.set_grad_enabled(grad)
        set_rng_state(numbers)


def _of_module(module: nn.Module) -> Iterator[_Undo]:
    """What brings one module back, in the order in which it is to be done."""
    if isinstance(module, torch.jit.ScriptModule):  # its attributes live elsewhere
        yield partial(setattr, module, "training", module.training)
    else:
        yield partial(_put_back, vars(module), dict(vars(module)))
        for value in list(vars(module).values()):
            yield from _of_attribute(value)
    for tensor in _written_by_forward(module):
        if tensor is not None and not is_without_data(tensor) and not torch.nn.parameter.is_lazy(tensor):
            yield partial(_write_back, tensor, tensor.data, tensor.data.clone())


def _of_attribute(value: Any) -> Iterator[_Undo]:
    kind = type(value)
    if kind in _MAPS:
        yield partial(_put_back, value, dict(value))
    elif kind in (list, deque):
        yield partial(_fill, value, list(value))
    elif kind is set:
        yield partial(_fill_set, value, set(value))
    elif isinstance(value, torch.Generator):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, np.random.Generator):
        yield partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    elif isinstance(value, np.random.RandomState):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, random.Random):
        yield partial(value.setstate, value.getstate())


def _written_by_forward(module: nn.Module) -> list[Tensor | None]:
    tensors: list[Tensor | None] = list(module.buffers(recurse=False))
    tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
        tensors.append(module.weight)
    return tensors


def _put_back(mapping: dict[Any, Any], before: dict[Any, Any]) -> None:
    """The very items and their order. Where nothing changed nothing is touched: compiled code guards on such dicts."""
    same = len(mapping) == len(before) and all(
        a is b and mapping[a] is before[b] for a, b in zip(mapping, before, strict=True)
    )
    if not same:
        mapping.clear()
        mapping.update(before)


def _fill(values: Any, before: list[Any]) -> None:
    if len(values) != len(before) or any(a is not b for a, b in zip(values, before, strict=True)):
        values.clear()
        values.extend(before)


def _fill_set(values: set[Any], before: set[Any]) -> None:
    values.clear()
    values.update(before)


def _write_back(tensor: Tensor, alias: Tensor, values: Tensor) -> None:
    """Write through `alias`: it shares the memory but not the version counter, and autograd may need the tensor."""
    with torch.inference_mode(alias.is_inference()):
        alias.copy_(values)
        if _place(tensor) != _place(alias):
            tensor.data = alias


def _place(tensor: Tensor) -> object:
    """Which memory a tensor shows, and how; sparse ones and wrappers have none of their own."""
    where = tensor.data_ptr() if tensor.layout is torch.strided and type(tensor.data) is Tensor else 0
    return where, tensor.shape, tensor.dtype
