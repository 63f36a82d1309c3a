"""A folder that is one checkpoint: transformers' Trainer, Accelerate, weights in shards with an index."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.checkpoints.layouts.contained import Found, layout_of, states_in
from deadneuron.checkpoints.layouts.foreign import decline_folder
from deadneuron.checkpoints.layouts.names import natural
from deadneuron.checkpoints.layouts.optimizers import Saved
from deadneuron.checkpoints.layouts.scalars import number_in
from deadneuron.checkpoints.layouts.steps import counters_in
from deadneuron.checkpoints.layouts.trainer import logged_rates
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap

_STATE = "trainer_state.json"
_LARGEST_JSON = 2**28  # bytes; a log of a million entries has half of that
# Whole models before adapters, safetensors before pickles, the whole before shards.
_WEIGHTS = tuple(
    f"{stem}{end}"
    for stem in ("model", "pytorch_model", "diffusion_pytorch_model", "adapter_model")
    for end in (".safetensors", ".bin", ".safetensors.index.json", ".bin.index.json")
)
_SECOND_MODEL = re.compile(r"^(?:model|pytorch_model)_\d+\.(?:safetensors|bin)$")
_OPTIMIZER = re.compile(r"^optimizer(?:_\d+)?\.(?:pt|bin)$")
_SCHEDULER = re.compile(r"^scheduler(?:_\d+)?\.(?:pt|bin)$")
_BESIDE = re.compile(
    r"^(?:optimizer|scheduler|rng_state|random_states|training_args|scaler|sampler|dl_state_dict|custom_checkpoint)"
    r"(?:_[0-9]+)*\.(?:pt|pth|bin|pkl)$"
)
"""Lies beside the weights of a checkpoint, and is none alone."""
SHARD = re.compile(r"-\d{5}-of-\d{5}\.(?:safetensors|bin|pt|pth)$")


def lies_beside(name: str) -> bool:
    return _BESIDE.match(name) is not None


def is_read(name: str) -> bool:
    """Whether a file of a checkpoint folder is opened, or its being there tells what the folder is."""
    known = {_STATE, "config.json", ".metadata", "latest", "zero_to_fp32.py", "latest_checkpointed_iteration.txt"}
    return name in known or name in _WEIGHTS or bool(_OPTIMIZER.match(name) or _SCHEDULER.match(name))


def is_checkpoint(names: Collection[str]) -> bool:
    """Whether a folder of these entries is one checkpoint."""
    return bool({_STATE, *_WEIGHTS} & set(names))


def read_folder(folder: Path, allow: Collection[str] = ()) -> Found:
    """What lies where in a checkpoint folder. Raises `CheckpointError`; what lies beside the weights and cannot be
    read is a gap."""
    names = sorted(entry.name for entry in os.scandir(folder))
    decline_folder(names, str(folder))
    weights = next((name for name in _WEIGHTS if name in names), None)
    if weights is None:
        what = "this folder holds a checkpoint without weights"
        todo = f"{_STATE} is there, but none of {', '.join(_WEIGHTS[:4])}"
        raise CheckpointError(what, where=str(folder), todo=todo)
    gaps: list[Gap] = []
    found = _shards(folder, weights, names, allow) if weights.endswith(".json") else _weights(folder / weights, allow)
    second = sorted((name for name in names if _SECOND_MODEL.match(name)), key=natural)
    if second:  # Accelerate's further models
        each = {name: _weights(folder / name, allow) for name in second}
        models = {name.partition(".")[0] + ".": one.models[""] for name, one in each.items()}
        found = replace(found, models={weights.partition(".")[0] + ".": found.models[""], **models})
    optimizers: list[Saved] = []
    schedulers: list[Mapping[str, Any]] = []
    for name in sorted((name for name in names if _OPTIMIZER.match(name) or _SCHEDULER.match(name)), key=natural):
        try:
            tree = read_tree(folder / name, allow)
        except CheckpointError as error:
            gaps.append(Gap(name, f"it is not read: {error}", 0))
            continue
        one, other = states_in(tree.root, name)
        gaps += tree.gaps
        optimizers += one
        schedulers += other
        if not one and not other:
            gaps.append(Gap(name, "it holds no state of an optimizer or scheduler", 0))
    state = _json(folder / _STATE, gaps) if _STATE in names else {}
    config = _json(folder / "config.json", []) if "config.json" in names and state else {}
    recorded = number_in(optimizers[0].groups[0].get("lr")) if optimizers else None
    version = config.get("transformers_version")
    rates, unclear = logged_rates(state, recorded, version if isinstance(version, str) else None)
    accelerate = any(re.match(r"random_states_\d+\.pkl$|optimizer(_\d+)?\.bin$", name) for name in names)
    kind = "Hugging Face Trainer" if state else "Accelerate" if accelerate else "Hugging Face model"
    if "adapter_model" in weights:
        gaps.append(Gap("weights", "only the adapter's weights are there, not those of the model below it", 0))
    return replace(
        found,
        format=kind,
        optimizers=(*found.optimizers, *optimizers),
        schedulers=(*found.schedulers, *schedulers),
        counters={f"{_STATE}'s {name}": count for name, count in counters_in(state).items() if name == "global_step"},
        rates=rates,
        gaps=(*found.gaps, *gaps, *unclear),
    )


def _weights(file: Path, allow: Collection[str]) -> Found:
    found = layout_of(read_tree(file, allow))
    if list(found.models) != [""]:
        raise CheckpointError("this file holds several models", where=str(file), todo="give a file of one model")
    return found


def _shards(folder: Path, index: str, names: Collection[str], allow: Collection[str]) -> Found:
    """Raises `CheckpointError` where the index is broken, leads out of the folder, or names what is not there."""
    problems: list[Gap] = []
    listed = _json(folder / index, problems).get("weight_map")
    if problems or not isinstance(listed, Mapping) or not listed:
        reason = problems[0].reason if problems else "it has no weight_map"
        raise CheckpointError(f"the index of the shards cannot be read ({reason})", where=str(folder / index))
    if not all(isinstance(shard, str) for shard in listed.values()):
        raise CheckpointError("the index of the shards names something that is no file", where=str(folder / index))
    shards = sorted(set(listed.values()), key=natural)
    for shard in shards:
        if shard in {"", ".", ".."} or re.search(r"[/\\\x00:]", shard):
            what = f"the index names a shard outside its folder: {shard[:80]!r}"
            raise CheckpointError(what, where=str(folder / index), todo="do not trust this checkpoint")
    if missing := [shard for shard in shards if shard not in names]:
        what = f"{len(missing)} of {len(shards)} shards are missing: {', '.join(missing[:4])}"
        raise CheckpointError(what, where=str(folder), todo="fetch the missing files")
    weights: dict[str, Stored] = {}
    gaps: list[Gap] = []
    by_name = True
    for shard in shards:
        found = _weights(folder / shard, allow)
        by_name = by_name and found.sorted
        gaps += found.gaps
        weights |= {name: stored for name, stored in found.models[""].items() if listed.get(name) == shard}
    if absent := [name for name in listed if name not in weights]:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        gaps.append(Gap(index, f"no shard holds {absent[0]}{more}, which the index lists", 0))
    return Found("sharded", {"": weights}, sorted=by_name, gaps=tuple(gaps))


def _json(file: Path, gaps: list[Gap]) -> Mapping[str, Any]:
    """A JSON object; empty, with a gap, where it cannot be read."""
    try:
        if not file.is_file():  # a pipe would never end
            raise ValueError("it is no regular file")
        with file.open("rb") as stream:
            text = stream.read(_LARGEST_JSON + 1)
        if len(text) > _LARGEST_JSON:
            raise ValueError("it is too large")
        value = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        gaps.append(Gap(file.name, f"it cannot be read ({str(error)[:120] or type(error).__name__})", 0))
        return {}
    if not isinstance(value, dict):
        gaps.append(Gap(file.name, "it is no JSON object", 0))
        return {}
    return value
