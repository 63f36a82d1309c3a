"""How many updates had been made when a checkpoint was written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from deadneuron.checkpoints.contents import Optimizer
from deadneuron.checkpoints.layouts.scalars import number_in

# In order of trust. An epoch is no step; "it" and "i" are too often something else.
COUNTERS = (
    *("global_step", "step", "steps", "iteration", "iter", "num_updates", "update", "updates", "num_steps"),
    *("global_iter", "train_step", "train_steps", "current_step", "n_iter", "iterations", "iter_num", "step_count"),
)
_ENDS = r"(?![0-9.]*[0-9A-Za-z])"  # a number that goes on ("step_1.5", "step_10M") is not understood
_COUNTED = r"(?:steps?|iter(?:ation)?s?|updates?)"
_IN_NAME = (
    re.compile(rf"(?:^|[^a-z]){_COUNTED}[=_\-.]?(\d{{1,15}})(k?){_ENDS}", re.IGNORECASE),
    re.compile(rf"(?:^|[^a-z0-9])(\d{{1,15}})(k?)[_-]?{_COUNTED}(?![a-z])", re.IGNORECASE),
)
# transformers calls its folders so. "checkpoint_5" may be the fifth time that it was saved, "checkpoint-5.pth.tar" is
# what timm writes after epoch 5.
_FOLDER = re.compile(r"^checkpoint-(\d{1,15})$")
_EPOCH = re.compile(r"(?:^|[^a-z])(?:epoch|ep|e)[=_\-.]?(\d{1,9})(?![0-9.]*[0-9A-Za-z])", re.IGNORECASE)
_SUFFIXES = re.compile(r"(?:\.(?:pt|pth|ckpt|bin|safetensors|tar|model))+$", re.IGNORECASE)


def step_of(
    optimizers: Sequence[Optimizer], counters: Mapping[str, int], names: Sequence[str]
) -> tuple[int | None, str]:
    """(updates made, what told it). The optimizer's own count is believed first: it skips what GradScaler skips.

    `counters` are numbers that the file states, most trusted first; `names` of the file and of its folder.
    """
    own = [state.get("step") for one in optimizers for state in one.states.values()]
    counts = [int(count) for count in own if isinstance(count, float) and math.isfinite(count)]
    stated = next(iter(counters.items()), None)
    if counts:
        step, source = max(counts), "the optimizer's state"
        if stated is not None and stated[1] != step:
            source += f" ({stated[0]} says {stated[1]})"
        return step, source
    if stated is not None:
        return stated[1], stated[0]
    for kind, name in zip(("the file's name", "the folder's name"), names, strict=False):
        if (step_in_name := _step_in(name)) is not None:
            return step_in_name, kind
    return None, ""


def counters_in(root: Mapping[Any, Any]) -> dict[str, int]:
    """Counters of updates among the plain entries of a dict, most trusted first."""
    found: dict[str, int] = {}
    for key in COUNTERS:
        value = number_in(root.get(key))
        if value is not None and 0 <= value < 2**53 and value == int(value):
            found[key] = int(value)
    return found


def epoch_in(root: Mapping[Any, Any]) -> int | None:
    """The epoch that a training dict states."""
    value = number_in(root.get("epoch"))
    return int(value) if value is not None and 0 <= value < 2**31 and value == int(value) else None


def epoch_named(names: Sequence[str]) -> int | None:
    """The epoch that a file's or its folder's name tells."""
    for name in names:
        found = {int(digits) for digits in _EPOCH.findall(_SUFFIXES.sub("", name))}
        if len(found) == 1:
            return found.pop()
    return None


def _step_in(name: str) -> int | None:
    """Digits of a step in a file's or folder's name, without its suffix; None where it has two that differ."""
    if folder := _FOLDER.match(name):
        return int(folder[1])
    stem = _SUFFIXES.sub("", name)
    for pattern in _IN_NAME:
        found = {int(digits) * (1000 if thousand else 1) for digits, thousand in pattern.findall(stem)}
        if found:
            return found.pop() if len(found) == 1 else None
    return None
