"""What is recognised and declined, with the way to something that can be read."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from deadneuron.errors import CheckpointError

_SAVE_TORCH = "save the model's state dict with torch.save or safetensors"
_SUFFIXES = {
    ".msgpack": ("a Flax checkpoint", "load it with transformers (from_flax=True) and save_pretrained it"),
    ".h5": ("a Keras or HDF5 file", _SAVE_TORCH),
    ".hdf5": ("a Keras or HDF5 file", _SAVE_TORCH),
    ".keras": ("a Keras model", _SAVE_TORCH),
    ".pb": ("a TensorFlow graph", _SAVE_TORCH),
    ".tflite": ("a TensorFlow Lite model", _SAVE_TORCH),
    ".gguf": ("a GGUF file, whose weights are quantised for inference", "give the checkpoints that it was made from"),
    ".ggml": ("a GGML file, whose weights are quantised for inference", "give the checkpoints that it was made from"),
    ".onnx": ("an ONNX graph", "give the checkpoints that it was exported from"),
    ".npy": ("a numpy array", _SAVE_TORCH),
    ".npz": ("numpy arrays", _SAVE_TORCH),
    ".pkl": ("a pickle that is not torch's", _SAVE_TORCH),
    ".pickle": ("a pickle that is not torch's", _SAVE_TORCH),
    ".joblib": ("a joblib file", _SAVE_TORCH),
    ".pte": ("an ExecuTorch program", "give the checkpoints that it was exported from"),
    ".mlmodel": ("a Core ML model", "give the checkpoints that it was exported from"),
    ".distcp": ("one shard of a distributed checkpoint", "give its folder, converted"),
}
_DCP = "convert it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} checkpoint.pt"
_ZERO = "gather it: python zero_to_fp32.py {folder} checkpoint.bin (the script lies in the folder)"
_ZERO_FILE = re.compile(
    r"(?:bf16_|fp16_)?zero_pp_rank_\d+|mp_rank_\d+_model_states|zero_to_fp32\.py$|layer_\d+-model_\d+"
)
_SHARDED_FSDP = re.compile(r"^(?:pytorch_model_fsdp|optimizer)_\d+$")
_RANK_FILE = re.compile(r"^(?:pytorch_model_fsdp|optimizer|local_state_dict|model)_rank_?\d+.*\.(?:pt|bin|pth)$")


def decline_file(name: str, where: str) -> None:
    """Raises `CheckpointError` for files of other makers, told by their name. Nothing is read."""
    if _ZERO_FILE.search(name):
        raise _error("this is a part of a sharded DeepSpeed checkpoint", where, _ZERO, PurePath(where).parent)
    if _RANK_FILE.match(name):
        raise CheckpointError(
            "this is one rank's shard", where=where, todo="save a full state dict (gathered to rank 0)"
        )
    if re.search(r"\.data-\d+-of-\d+$|\.index$|\.meta$", name):
        raise CheckpointError("this is a part of a TensorFlow checkpoint", where=where, todo=_SAVE_TORCH)
    what = _SUFFIXES.get(PurePath(name).suffix.lower())
    if what is not None:
        raise CheckpointError(f"this is {what[0]}, which is not read", where=where, todo=what[1])


def decline_folder(names: Collection[str], where: str) -> None:
    """Raises `CheckpointError` for folders of other makers, told by what lies in them. Nothing is read.

    `names` are of the folder's entries; the metadata of a distributed checkpoint is a pickle, and is not opened.
    """
    shards = any(name.endswith(".distcp") for name in names)
    if ".metadata" in names or shards:
        raise _error("this is a distributed checkpoint (DCP), whose reader unpickles freely", where, _DCP, where)
    if sharded := [name for name in sorted(names) if _SHARDED_FSDP.match(name)]:
        todo = "merge its weights: accelerate merge-weights {folder} OUTPUT; or " + _DCP
        inner = PurePath(where) / next((name for name in sharded if "model" in name), sharded[0])
        raise _error("this checkpoint's weights are sharded by FSDP", where, todo, inner)
    if any(_ZERO_FILE.search(name) for name in names):
        raise _error("this is a sharded DeepSpeed checkpoint", where, _ZERO, where)
    if "latest" in names and any(re.fullmatch(r"global_step\d+", name) for name in names):
        raise _error("this is a sharded DeepSpeed checkpoint", where, _ZERO, where)
    if "latest_checkpointed_iteration.txt" in names or any(re.match(r"mp_rank_\d\d(?:_\d+)*$", name) for name in names):
        todo = "convert it with Megatron's tools/checkpoint/convert.py"
        raise CheckpointError("this is a Megatron checkpoint, sharded over ranks", where=where, todo=todo)
    if {"_CHECKPOINT_METADATA", "_METADATA"} & set(names) or "manifest.ocdbt" in names:
        raise CheckpointError("this is an Orbax checkpoint (JAX), which is not read", where=where, todo=_SAVE_TORCH)
    if "saved_model.pb" in names or any(re.search(r"\.data-\d+-of-\d+$", name) for name in names):
        raise CheckpointError("this is a TensorFlow checkpoint, which is not read", where=where, todo=_SAVE_TORCH)


def decline_root(root: Mapping[Any, Any], where: str) -> None:
    """Raises `CheckpointError` for a file that holds one rank's share, told by its keys."""
    keys = set(root)
    if keys & {"ds_config", "ds_version"}:
        raise _error("this is a part of a sharded DeepSpeed checkpoint", where, _ZERO, PurePath(where).parent)
    if {"checkpoint_version", "model"} <= keys and keys & {"rng_state", "opt_param_scheduler", "rerun_state_machine"}:
        todo = "convert it with Megatron's tools/checkpoint/convert.py"
        raise CheckpointError("this is a Megatron checkpoint, sharded over ranks", where=where, todo=todo)


def _error(what: str, where: str, todo: str, folder: object) -> CheckpointError:
    return CheckpointError(what, where=where, todo=todo.replace("{folder}", str(folder)))
