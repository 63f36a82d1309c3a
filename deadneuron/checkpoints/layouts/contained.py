"""What lies where in a file: weights, optimizers, schedulers and counters, whatever its maker called them.

Optimizers and schedulers are told by their form, weights by their form and the key that leads to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deadneuron.checkpoints.contents import Opaque, Stored, Tree
from deadneuron.checkpoints.layouts.foreign import decline_root
from deadneuron.checkpoints.layouts.optimizers import Saved, saved_optimizer
from deadneuron.checkpoints.layouts.steps import counters_in, epoch_in
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap

Weights = Mapping[str, Stored]

# Keys under which the trained weights of the one model lie, most usual first.
_MODEL = (
    *("current_model_state", "state_dict", "model_state_dict", "model", "net", "module", "network", "params"),
    *("weights", "model_state", "net_state_dict", "network_state_dict", "model_params", "parameters"),
)
# Of weights that no optimizer moves: averages over steps, and the copies that reinforcement learning aims at.
_FOLLOWERS = frozenset({"ema", "emas", "averaged", "average", "avg", "swa", "shadow", "teacher", "target"})
# What may hold tensors by name and is no model.
_NO_MODEL = frozenset(
    {
        *("callbacks", "loops", "hyper_parameters", "hparams", "config", "cfg", "args", "metrics", "metric", "history"),
        *("logs", "log", "losses", "loss", "stats", "scaler", "grad_scaler", "amp", "rng", "rng_state", "random_state"),
    }
)
_COUNTER_HOLDERS = ("meta", "state", "trainer", "progress", "extra_state", "train_state", "training_state", "info")
_DEPTH = 4  # of dicts and lists around what is looked for
_WIDTH = 256  # entries of a list that are looked at


@dataclass(frozen=True, slots=True)
class Found:
    """One checkpoint, with the names that its file has."""

    format: str
    models: Mapping[str, Weights]  # by the prefix that their names get: "" for the one model
    sorted: bool = False  # the file's order of names is not the model's
    averaged: bool = False
    optimizers: tuple[Saved, ...] = ()
    schedulers: tuple[Mapping[str, Any], ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    rates: tuple[tuple[int, float], ...] = ()
    epoch: int | None = None
    epoch_ended: bool = False
    gaps: tuple[Gap, ...] = ()


def layout_of(tree: Tree) -> Found:
    """Where a file's weights and states lie. Raises `CheckpointError` where it holds no weights."""
    root = tree.root
    if tree.kind == "safetensors":
        return Found("safetensors", {"": root["tensors"]}, sorted=True, gaps=tree.gaps)
    if isinstance(root, Opaque):
        raise _pickled(root, tree.place)
    if not isinstance(root, Mapping):
        raise CheckpointError("this file holds no weights by name", where=tree.place, todo=_TODO)
    if _is_state_dict(root):
        return Found("torch state dict", {"": _weights(root)}, averaged="n_averaged" in root, gaps=tree.gaps)
    decline_root(root, tree.place)
    optimizers, schedulers = states_in(root)
    models = {path: value for path, value in _walk(root) if _is_model(path, value)}
    chosen, averaged, gaps = _choose(models, tree.place)
    if not chosen:
        if (module := next((v for k, v in root.items() if k in _MODEL and isinstance(v, Opaque)), None)) is not None:
            raise _pickled(module, tree.place)
        keys = ", ".join(str(key) for key in list(root)[:8]) or "nothing"
        raise CheckpointError(f"this file holds no weights: it holds {keys}", where=tree.place, todo=_TODO)
    counters = _counters(root)
    lightning = "pytorch-lightning_version" in root
    if lightning and len(optimizers) > 1:
        reason = "Lightning's global_step counts the updates of all its optimizers together"
        gaps = (*gaps, Gap("global_step", reason, 0))
    return Found(
        "Lightning"
        if lightning
        else "timm"
        if {"arch", "state_dict", "version"} <= set(root)
        else "torch training dict",
        chosen,
        averaged=averaged,
        optimizers=_paired(optimizers, chosen),
        schedulers=schedulers,
        counters=counters,
        epoch=epoch_in(root),
        epoch_ended=_epoch_ended(root, counters),
        gaps=(*tree.gaps, *gaps),
    )


def states_in(root: object, place: str = "") -> tuple[tuple[Saved, ...], tuple[Mapping[str, Any], ...]]:
    """All optimizers' and all schedulers' state dicts in a file, in its order."""
    optimizers: list[Saved] = []
    schedulers: list[Mapping[str, Any]] = []
    for path, value in _walk(root):
        if (one := saved_optimizer(_words(path) or place, value)) is not None:
            optimizers.append(one)
        elif isinstance(value, Mapping) and _is_scheduler(value):
            schedulers.append(value)
    return tuple(optimizers), tuple(schedulers)


_TODO = "give a file that holds a model's state dict"

_Path = tuple[str | int, ...]


def _walk(value: object, path: _Path = ()) -> Iterator[tuple[_Path, object]]:
    """Everything that may be a state dict: dicts in dicts and lists, not what lies in an optimizer's or scheduler's."""
    if isinstance(value, Mapping):
        yield path, value
        if saved_optimizer("", value) is not None or _is_scheduler(value) or (path and _is_state_dict(value)):
            return
        inside: list[tuple[str | int, object]] = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        inside = list(enumerate(value[:_WIDTH]))
    else:
        return
    if len(path) < _DEPTH:
        for key, inner in inside:
            yield from _walk(inner, (*path, key))


def _is_scheduler(value: Mapping[Any, Any]) -> bool:
    return "last_epoch" in value or ("_schedulers" in value and "_last_lr" in value)


def _is_state_dict(value: Mapping[Any, Any]) -> bool:
    """Only names and tensors, at least one of them with an axis; modules may add an "_extra_state" of any kind."""
    entries = [inner for name, inner in value.items() if not str(name).endswith("_extra_state")]
    return (
        all(isinstance(name, str) for name in value)
        and all(isinstance(inner, Stored) for inner in entries)
        and any(isinstance(inner, Stored) and inner.shape and inner.dtype.is_floating_point for inner in entries)
    )


def _weights(value: Mapping[str, Any]) -> Weights:
    return {name: inner for name, inner in value.items() if isinstance(inner, Stored)}


def _is_model(path: _Path, value: object) -> bool:
    if not isinstance(value, Mapping) or not path or not _is_state_dict(value) or _NO_MODEL & {*map(str, path)}:
        return False
    # Under a key that says nothing, names must look like a module's.
    return path[-1] in _MODEL or any("." in name or name in {"weight", "bias"} for name in value)


def _choose(models: Mapping[_Path, Any], place: str) -> tuple[dict[str, Weights], bool, tuple[Gap, ...]]:
    """(models by prefix, whether they are averages, gaps): the trained weights before their averages."""
    followers = {path: value for path, value in models.items() if _FOLLOWERS & {*_split(path)}}
    if ("current_model_state",) in models:  # Lightning's WeightAveraging puts its average under the usual key
        followers |= {path: value for path, value in models.items() if path == ("state_dict",)}
    trained = {path: value for path, value in models.items() if path not in followers}
    pool = trained or followers
    if not pool:
        return {}, False, ()
    usual = [path for key in _MODEL for path in pool if path[-1] == key and not _is_part(path)]
    # The one under the usual key, nearest to the root; where none has one, all stand side by side.
    chosen = [min(usual, key=lambda path: (len(path), _MODEL.index(str(path[-1]))))] if usual else list(pool)
    left = [path for path in pool if path not in chosen]
    gaps = tuple(Gap(place, f"the weights under {_words(path)} are not looked at", 0) for path in left)
    if len(chosen) == 1:
        return {"": _weights(pool[chosen[0]])}, not trained, gaps
    return {f"{_model_name(path)}.": _weights(pool[path]) for path in chosen}, not trained, gaps


def _is_part(path: _Path) -> bool:
    """Whether a key outside says that this is one model of several: {"actor": {"state_dict": …}, "critic": …}."""
    usual = {*_MODEL, "state", "checkpoint", "ckpt"}
    return any(isinstance(key, str) and key not in usual and not _FOLLOWERS & {*_split((key,))} for key in path[:-1])


def _paired(optimizers: tuple[Saved, ...], models: Mapping[str, Weights]) -> tuple[Saved, ...]:
    """Each optimizer with the model that its key names ("optimizer_G" with "G."), where all keys do so one to one."""
    cores = [re.sub(r"(?i)optim(?:izer)?s?|state_?dict|opt(?![a-z])|[^0-9a-z]", "", one.place) for one in optimizers]
    prefix_of = {re.sub(r"(?i)^(?:net|model)|[^0-9a-z]", "", prefix).lower(): prefix for prefix in models if prefix}
    keys = [re.sub(r"^(?:net|model)", "", core.lower()) for core in cores]
    if not keys or len(prefix_of) < len(models) or len(set(keys)) < len(keys) or not set(keys) <= prefix_of.keys():
        return optimizers
    return tuple(
        Saved(one.place, one.groups, one.states, prefix_of[key]) for one, key in zip(optimizers, keys, strict=True)
    )


def _counters(root: Mapping[Any, Any]) -> dict[str, int]:
    found = counters_in(root)
    for key in _COUNTER_HOLDERS:
        if isinstance(inner := root.get(key), Mapping):
            found |= {f"{key}.{name}": count for name, count in counters_in(inner).items()}
    return found


def _epoch_ended(root: Mapping[Any, Any], counters: Mapping[str, int]) -> bool:
    """Lightning says it. Else who writes within epochs counts updates, to know where to go on: an epoch alone tells."""
    loops = root.get("loops")
    if isinstance(loops, Mapping):
        fit = loops.get("fit_loop")
        progress = fit.get("epoch_loop.batch_progress") if isinstance(fit, Mapping) else None
        return isinstance(progress, Mapping) and progress.get("is_last_batch") is True
    return isinstance(root.get("epoch"), int) and not counters


def _split(path: _Path) -> Iterator[str]:
    for key in path:
        yield from re.split(r"[^a-z0-9]+", str(key).lower())


def _model_name(path: _Path) -> str:
    words = [re.sub(r"_?(?:model_)?(?:state_dict|weights|params)$", "", str(key)) for key in path]
    return ".".join(word for word in words if word and word not in {"state", "checkpoint", "models"}) or _words(path)


def _words(path: _Path) -> str:
    """The path as people write it: optimizer_states[0]."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _pickled(module: Opaque, place: str) -> CheckpointError:
    todo = "save model.state_dict() instead: reading this would run the code of its classes"
    return CheckpointError(f"this file holds a whole pickled object ({module.name})", where=place, todo=todo)
