"""What a module is, as far as the names and shapes of its tensors tell: it has rows of units, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.evidence.blocks import is_real

_NORM = re.compile(r"norm|(^|[._])(bn|ln|gn|rms)(\d|[._]|$)|layer_?norm", re.IGNORECASE)
_VOCABULARY = re.compile(
    r"emb|wte|wpe|token|vocab|position|lm_head|relative_\w*bias|(^|[._])(shared|pos)([._]|$)", re.IGNORECASE
)
_PROJECTION = re.compile(  # of attention: queries, keys and values, together or apart
    r"[qkv]|query|key|value|query_key_value|wqkv|(q|k|v|kv|qkv|in)_proj|to_(q|k|v|kv|qkv)|[cq]_attn|[qkv]_lin|w[qkv]"
)
_OUTPUT = re.compile(r"(o|out|out_proj|o_proj|proj|c_proj|to_out|to_out\.0|dense|out_lin|wo)$")  # of attention
_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(_l\d+)?(_reverse)?$")
_SIDE = re.compile(r"(running_mean|running_var|num_batches_tracked|weight_u|weight_v|_u|_v)$")  # buffers of norms

Role = Literal["rows", "batch norm", "norm", "none"]


@dataclass(frozen=True, slots=True)
class Module:
    """The tensors that stand under one module's name, by the last part of their names."""

    name: str
    tensors: dict[str, str] = field(default_factory=dict)  # leaf → the full name


@dataclass(frozen=True, slots=True)
class Judged:
    """A module's role; with rows: how they lie."""

    role: Role
    reason: str = ""  # why it has no rows
    units: int = 0
    axis: int = 0  # of the weight
    weights: tuple[str, ...] = ()  # full names of the tensors whose rows are exact
    bias: str | None = None
    dimensions: int = 0  # of the weight
    square: bool = False  # the weight has as many entries along the other axis: the shape does not tell which is which


def modules_of(weights: Mapping[str, Stored]) -> list[Module]:
    """Modules in order of their first tensor. What a parametrization holds belongs to the module that has it."""
    found: dict[str, Module] = {}
    for name in weights:
        owner, dot, inner = name.partition(".parametrizations.")
        if name.startswith("parametrizations."):
            owner, dot, inner = "", ".", name.removeprefix("parametrizations.")
        prefix, leaf = (owner, f"parametrizations.{inner}") if dot else (name.rpartition(".")[0], name.split(".")[-1])
        found.setdefault(prefix, Module(prefix)).tensors[leaf] = name
    return list(found.values())


def judge(module: Module, weights: Mapping[str, Stored]) -> Judged:
    """What the module is. Axis 0 holds the units of a square weight unless the whole model tells otherwise."""
    tensors = module.tensors
    last = module.name.rpartition(".")[2].lower()
    if "running_mean" in tensors:
        return _norm(module, weights, "batch norm")
    if any(_RECURRENT.fullmatch(leaf) for leaf in tensors):
        return Judged("none", "a recurrent cell: the rows of its gates are stacked, and no ReLU stands behind them")
    if any(leaf.startswith("in_proj") for leaf in tensors) or _PROJECTION.fullmatch(last):
        return Judged("none", "a projection of attention: no gate stands behind it")
    if (end := _OUTPUT.search(module.name)) and _ATTENTION.search(module.name[: end.start()]):
        return Judged("none", "the output of attention: no gate stands behind it")
    if "lora_" in module.name or any("lora_" in leaf for leaf in tensors):
        return Judged("none", "a low-rank adapter: its rows are no units, and the units' own weights do not train")
    names = _weights(tensors, weights)
    main = weights[names[-1]] if names else None
    bias = tensors.get("bias")
    if bias is not None and len(weights[bias].shape) == 2 and any(len(weights[t].shape) == 3 for t in tensors.values()):
        return Judged("none", "a stack of layers (experts): which axis holds its units cannot be told")
    if bias is not None and (not is_real(weights[bias]) or len(weights[bias].shape) != 1):
        bias = None  # GPT-2 keeps a mask under that name
    if main is None or len(main.shape) < 2:
        if main is None and bias is not None and _parametrized(tensors):
            units = weights[bias].length  # spectral norm mixes the rows of the weight; the bias is as it ever was
            shape = _shape_behind(tensors, weights)
            return Judged("rows", units=units, bias=bias, dimensions=len(shape)) if units > 1 else _ODD
        if main is not None and (bias is not None or _NORM.search(module.name)):
            return _norm(module, weights, "norm")
        return _ODD
    if not is_real(main):
        return Judged("none", f"its weights are {str(main.dtype).removeprefix('torch.')}: quantised")
    if bias is None and len(main.shape) == 2 and _VOCABULARY.search(module.name):
        return Judged("none", "an embedding: its rows are entries of a vocabulary or positions, no units")
    return _rows(main, names, bias, weights)


_ODD = Judged("none", "neither a weight with rows of units nor a norm")


def _rows(main: Stored, names: list[str], bias: str | None, weights: Mapping[str, Stored]) -> Judged:
    units = weights[bias].length if bias is not None else main.shape[0]
    if units not in main.shape[:2]:
        return Judged(
            "none", f"a bias of {units} beside a weight of shape {list(main.shape)}: its units cannot be told"
        )
    axis = 0 if main.shape[0] == units else 1
    if units < 2:
        return Judged("none", "one unit only")
    fitting = tuple(n for n in names if len(weights[n].shape) > axis and weights[n].shape[axis] == units)
    return Judged("rows", "", units, axis, fitting, bias, len(main.shape), main.shape[0] == main.shape[1])


def _norm(module: Module, weights: Mapping[str, Stored], role: Role) -> Judged:
    names = [module.tensors[leaf] for leaf in ("bias", "weight") if leaf in module.tensors]
    names = [name for name in names if len(weights[name].shape) == 1 and is_real(weights[name])]
    if not names or weights[names[0]].length < 2:
        return Judged("none", "a norm without weights of its own" if not names else "one unit only")
    bias = names[0] if "bias" in module.tensors else None
    return Judged(role, "", weights[names[0]].length, 0, tuple(n for n in names if n != bias), bias, 1)


def _weights(tensors: Mapping[str, str], weights: Mapping[str, Stored]) -> list[str]:
    """The tensors whose rows are exact (theory: weight, or both halves of a weight norm), the whole-sized one last."""
    if "weight" in tensors:
        return [tensors["weight"]]
    for magnitude, direction in (("weight_g", "weight_v"), (_PARAMETRIZED + "0", _PARAMETRIZED + "1")):
        if magnitude in tensors and direction in tensors:
            return [tensors[magnitude], tensors[direction]]
    return []


_PARAMETRIZED = "parametrizations.weight.original"


def _parametrized(tensors: Mapping[str, str]) -> bool:
    return "weight_orig" in tensors or _PARAMETRIZED in tensors


def _shape_behind(tensors: Mapping[str, str], weights: Mapping[str, Stored]) -> tuple[int, ...]:
    name = tensors.get("weight_orig") or tensors.get(_PARAMETRIZED)
    return weights[name].shape if name is not None else ()


def is_side(name: str) -> bool:
    """Whether a tensor is a buffer of a norm, which needs no mention of its own."""
    return _SIDE.search(name) is not None
