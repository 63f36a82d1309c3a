"""Keeping a model as it is around a forward pass that is not the training's."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deadneuron.measure.aside import aside, is_without_data
from deadneuron.measure.rng import recall_generator, rng_state, set_rng_state

MAPS = (dict, OrderedDict, defaultdict)
_CONTAINERS = (*MAPS, list, deque, set, tuple)
_PLAIN = (type(None), bool, int, float, str)
Undo = Callable[[], object]


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Whatever forward passes in here change of the model is as before afterwards, also after an exception.

    That is: training flags; values of buffers, of tensors in plain attributes, and of embeddings that a forward pass
    renormalizes (bit-exact, in the same tensors); which buffers, parameters, submodules and other attributes each
    module has; the contents of its plain lists, dicts, sets and deques, and of those in them; its own random generators
    and the global ones of every device; the grad mode. An enclosing autocast keeps no casts of weights that were made
    in here.

    Not kept: parameters that are changed by anything else than a renormalizing embedding (see `Snapshot`), lazy modules
    that take shape, and what hooks of the user change outside the model. Costs a copy of the buffers.
    """
    with aside(), torch.no_grad():
        undo = [step for module in model.modules() for step in attributes_of(module)]
        undo += [partial(write_back, one, one.data, one.data.clone()) for one in tensors_of(model)]
    numbers, grad, cache = rng_state(), torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cache)
        failed: list[Exception] = []
        with aside():
            with torch.no_grad():
                for step in undo:
                    try:
                        step()
                    except Exception as error:  # the others must be done all the same
                        failed.append(error)
            torch.set_grad_enabled(grad)
        set_rng_state(numbers)
        if failed:
            raise failed[0]


def attributes_of(module: nn.Module) -> Iterator[Undo]:
    """What brings back all of one module but the values of tensors, in the order in which it is to be done.

    Each may be called many times.
    """
    if isinstance(module, torch.jit.ScriptModule):  # its attributes live elsewhere
        yield partial(setattr, module, "training", module.training)
    else:
        yield partial(put_back, vars(module), dict(vars(module)))
        held: set[int] = set()
        for value in list(vars(module).values()):
            yield from _of_attribute(value, held)


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Tensors, each once, whose values a forward pass may change: buffers, and plain attributes or what is in them."""
    found: dict[int, Tensor] = {}
    for module in model.modules():
        tensors: list[Tensor] = list(module.buffers(recurse=False))
        held: set[int] = set()
        tensors += [one for value in vars(module).values() for one in _tensors_in(value, held)]
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            tensors.append(module.weight)
        found |= {id(one): one for one in tensors if not torch.nn.parameter.is_lazy(one) and has_memory(one)}
    return list(found.values())


def _of_attribute(value: Any, held: set[int]) -> Iterator[Undo]:
    kind = type(value)
    if kind in _CONTAINERS:
        if id(value) in held:
            return
        held.add(id(value))
        if kind in MAPS:
            yield partial(put_back, value, dict(value))
        elif kind in (list, deque):
            yield partial(_fill, value, list(value))
        elif kind is set:
            yield partial(_fill_set, value, set(value))
        for inner in list(value.values() if kind in MAPS else value):
            yield from _of_attribute(inner, held)
    elif kind not in _PLAIN:
        recall = recall_generator(value)
        if recall is not None:
            yield recall


def _tensors_in(value: Any, held: set[int]) -> Iterator[Tensor]:
    """Those in a container, and in the containers in it; parameters there are changed by no forward pass."""
    if type(value) in _CONTAINERS and id(value) not in held:
        held.add(id(value))
        for inner in value.values() if type(value) in MAPS else value:
            yield from _tensors_in(inner, held)
    elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        yield value


def put_back(mapping: dict[Any, Any], before: dict[Any, Any]) -> None:
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


def write_back(tensor: Tensor, alias: Tensor, values: Tensor) -> None:
    """Write through `alias`: it shares the memory but not the version counter, and autograd may need the tensor."""
    with torch.inference_mode(alias.is_inference()):
        if not has_memory(alias):  # freed since: torch would write there all the same
            alias.untyped_storage().resize_(_end(alias))
        _once(alias).copy_(_once(values, alias))
        if _place(tensor) != _place(alias):
            tensor.data = alias


def _once(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """A view of an expanded tensor that shows each place of its memory once (of one that is `like` it, the same)."""
    like = tensor if like is None else like
    if like.layout is torch.strided and type(like.data) is Tensor:
        for axis, stride in enumerate(like.stride()):
            tensor = tensor.narrow(axis, 0, 1) if stride == 0 and tensor.shape[axis] > 1 else tensor
    return tensor


def has_memory(tensor: Tensor) -> bool:
    """Whether there are values behind a tensor: not if its storage was freed (FSDP does that between passes)."""
    if is_without_data(tensor):
        return False
    ordinary = tensor.layout is torch.strided and type(tensor.data) is Tensor
    return not ordinary or tensor.untyped_storage().nbytes() >= _end(tensor)


def _end(tensor: Tensor) -> int:
    """The byte of its storage behind the tensor's last one."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset() + last + 1) * tensor.element_size() if tensor.numel() else 0


def _place(tensor: Tensor) -> object:
    """Which memory a tensor shows, and how; sparse ones and wrappers have none of their own."""
    where = tensor.data_ptr() if tensor.layout is torch.strided and type(tensor.data) is Tensor else 0
    return where, tensor.shape, tensor.dtype
