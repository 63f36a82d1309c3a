"""Names of parameters as the model's author wrote them, and what names alone tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch

from deadneuron.checkpoints.contents import Stored
from deadneuron.measure.sites import plain_name

_Value = TypeVar("_Value")

# What normalization layers keep beside their parameters; every other buffer is told by counts and shapes.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_NO_PARAMETERS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
_NUMBER = re.compile(r"(\d{1,18})")


def without_wrappers(weights: Mapping[str, _Value]) -> dict[str, _Value]:
    """The same entries, in the same order, without the prefixes of torch.compile, DDP, FSDP and AveragedModel.

    "module." goes only where every entry has it: then it is a wrapper's and not an attribute of the model. The count
    of `AveragedModel` goes with its wrapper. Where two names would become one, all stay as they are.
    """
    averaged = "n_averaged" in weights and all(name.startswith("module.") for name in weights if name != "n_averaged")
    entries = {
        name.removeprefix("module.") if averaged else name: value
        for name, value in weights.items()
        if not (averaged and name == "n_averaged")
    }
    names = plain_names(entries)
    return dict(zip(names, entries.values(), strict=True)) if len(set(names)) == len(names) else entries


def plain_names(names: Iterable[str]) -> list[str]:
    """Each name without wrappers, "module." in front only where every name has it there."""
    # plain_name takes one "module." from the front: the one added here, so that an attribute's own stays.
    inner = [plain_name(f"module.{name}") for name in names]
    wrapped = bool(inner) and all(name.startswith("module.") for name in inner)
    return [name.removeprefix("module.") for name in inner] if wrapped else inner


def may_be_trained(name: str, stored: Stored) -> bool:
    """Whether an entry of a state dict can be a parameter with a gradient: it is no buffer that its name or type tells.

    A buffer of another name (a mask, a positional table) passes: the optimizer's counts and shapes tell those.
    """
    trainable = (stored.dtype.is_floating_point or stored.dtype.is_complex) and stored.dtype not in _NO_PARAMETERS
    return trainable and name.rpartition(".")[2] not in _BUFFERS


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts numbers in names by size: "layer.2" before "layer.10"."""
    pieces = _NUMBER.split(text)
    return tuple((0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in pieces if piece)


def stem_and_number(word: str) -> tuple[str, int | None]:
    """("conv", 2) of "conv2", ("", 10) of "10", ("head", None) of "head"."""
    digits = re.search(r"\d{1,18}$", word)
    return (word[: digits.start()], int(digits.group())) if digits else (word, None)
