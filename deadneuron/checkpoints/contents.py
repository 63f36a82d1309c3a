"""What a checkpoint holds, as far as it is judged: tensors that still lie on disk, the optimizer's state, rates.

Readers make these records, evidence and replay read them. A *layer* is what shares its units: a module's weight and
bias; a batch norm stands for the layer before it. A *row* is what belongs to one unit. "Step s" of a checkpoint means
that s updates have been made: it was written after update s - 1 and before forward s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from deadneuron.records import Bools, Floats, Gap


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a checkpoint, not read yet."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[int, int], Tensor]
    """(first, last) → entries first … last-1 of the first axis: a fresh contiguous CPU tensor
    [last - first, *shape[1:]]. A scalar is read as shape [1] by (0, 1). Raises `CheckpointError` where the file has
    changed or ends too early."""

    @property
    def length(self) -> int:
        """Entries along the first axis; 1 for a scalar."""
        return self.shape[0] if self.shape else 1

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def whole(self) -> Tensor:
        return self.read(0, self.length).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class Opaque:
    """What stands in a checkpoint for an object that was not built: nothing of its class was imported or run."""

    name: str  # of its class or function, "argparse.Namespace"


@dataclass(frozen=True, slots=True)
class Tree:
    """One file as it lies on disk: nested dicts, lists and tuples of plain values, `Stored` and `Opaque`."""

    place: str
    kind: Literal["safetensors", "torch zip", "torch legacy"]
    root: Any  # of a safetensors file: {"tensors": {name: Stored}, "metadata": {name: text}}
    gaps: tuple[Gap, ...] = ()


State = Mapping[str, Stored | float]
"""Of one parameter: "exp_avg", "momentum_buffer" … Scalars ("step", "mu_product") are plain numbers."""


@dataclass(frozen=True, slots=True)
class Group:
    """One parameter group of an optimizer."""

    name: str  # "Adam[0]", or "optimizer[0]" where the class is not known
    settings: Mapping[str, Any]  # lr, betas, weight_decay …: plain numbers, bools, strings, None and tuples of them
    parameters: tuple[str, ...]  # names as in `weights`, in the group's order


@dataclass(frozen=True, slots=True)
class Optimizer:
    """The state of one optimizer."""

    kind: str | None  # the class, where settings and state tell it: "Adam", "SGD" …; "Adam or AdamW" is None
    groups: tuple[Group, ...]
    states: Mapping[str, State]  # by the parameter's name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint, of whatever format."""

    place: str  # path or URL, as people read it
    format: str  # "safetensors", "torch state dict", "torch training dict", "Lightning", "Hugging Face Trainer" …
    step: int | None  # updates made before it was written
    step_from: (
        str  # what told the step: "the optimizer's state", "global_step", "trainer_state.json", "the file's name"
    )
    weights: Mapping[str, Stored]  # buffers too, in the model's order; names without the wrappers' prefixes
    averaged: bool = False  # the weights are an average over steps (EMA), not those that the optimizer moves
    optimizers: tuple[Optimizer, ...] = ()
    schedulers: tuple[Mapping[str, Any], ...] = ()  # state dicts of schedulers, plain values only
    rates: tuple[tuple[int, float], ...] = ()  # logged learning rates: (step, the rate that update step-1 used)
    gaps: tuple[Gap, ...] = ()  # what could not be read or told, and why
    stated: int | None = None  # updates as the training counted them, where it did: the optimizer may have begun anew
    epoch: int | None = None  # as its file or its name counts them: no step, but so many of them make one
    epoch_ended: bool = False  # its file tells that it was written at the end of an epoch
    ordered: bool = True  # `weights` stand in the model's order; False: safetensors sorted them, and nothing tells more


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter of a layer."""

    name: str
    axis: int  # along which its units lie


@dataclass(frozen=True, slots=True)
class Layer:
    """What shares its units: the rows that get no gradient while a unit behind them is silent."""

    name: str  # the module's
    op: str  # "linear", "conv", "norm", "conv + norm" …: as far as names and shapes tell
    units: int
    parts: tuple[Part, ...]  # bias or norm's bias first: the feeder
    previous: str | None = None  # the layer whose units are its inputs, where shapes and order tell


@dataclass(frozen=True, slots=True)
class Traces:
    """What one checkpoint alone says of a layer's units. Arrays have shape [units]; None where it says nothing."""

    layer: str
    step: int | None
    never: Bools | None = None  # no gradient since the optimizer's state began
    age: Floats | None = None  # estimated steps since the last gradient; inf for never, NaN for unknown
    age_most: Floats | None = None  # proved: the last gradient came at most so many steps ago; inf where nothing is
    saturates: float | None = None  # ages from here on are "at least" this
    closed: Bools | None = None  # closed by its weights alone, for every input (certificate) or nearly so (norm)
    evidence: tuple[str, ...] = ()  # what `never` and the ages rest on and how reliable they are, a sentence each
    closing: str = ""  # the same of `closed`


@dataclass(frozen=True, slots=True)
class Interval:
    """What two checkpoints say of a layer's units: whether any gradient reached them in between."""

    layer: str
    first: int | None  # the updates first … last-1 lie between the two
    last: int | None
    still: Bools | None  # [units] no gradient in between; None where that cannot be told
    evidence: str = ""  # "zero-gradient replay of Adam over 100 steps: state bit for bit, weights to 1e-5"
    reason: str = ""  # why it cannot be told
    rates: tuple[float, float] | None = None  # lowest and highest rate of the layer's group in between, where known


@dataclass(frozen=True, slots=True)
class Rates:
    """The learning rates that the updates between two checkpoints used."""

    by_update: Floats  # [updates, groups], in order of the optimizer's groups
    evidence: str  # "the rate is the same at both ends", "rebuilt from CosineAnnealingLR's state" …
    exact: bool  # the very numbers that training used, not interpolated ones
    momenta: Floats | None = None  # [updates, groups] momentum or beta1 of each update, where a schedule moves it


@dataclass(frozen=True, slots=True)
class Progress:
    """Who wants to know how far a long reading is: told (bytes done, bytes in all)."""

    advance: Callable[[int, int], None] = field(default=lambda done, total: None)
