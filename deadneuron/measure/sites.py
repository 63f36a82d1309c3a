"""A site while it is measured: its unit axis, its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from deadneuron.measure.axes import NO_AXIS
from deadneuron.measure.gates import Gate
from deadneuron.measure.pool import Pool, Slot

_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")

# What the unit axis is behind these, where no autograd graph tells (frozen layers, no_grad).
_LAST_AXIS = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.Embedding)
_SECOND_AXIS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)


AxisFrom = Literal["producer", "registration", "shape", "user"]


@dataclass(slots=True)
class LiveSite:
    """A site while it is measured; `deadneuron.records.Site` is what is written of it."""

    number: int
    module: str
    call: int
    op: str
    source: Literal["module", "function"]
    units: int
    axis: int  # as first seen, and as it is reported
    axis_from: AxisFrom
    gate: Gate
    outputs: tuple[float, ...] | None  # at HISTOGRAM_EDGES; None: a histogram of the outputs is taken
    caller: str
    nth: int  # which call of the module in one pass it was when it was first seen
    feeder: Tensor | None = None
    path: tuple[int, ...] | None = None  # from the pre-activation to the feeder, through the autograd graph
    part: tuple[int, ...] = ()  # which of the feeder's units, if not all
    entry: int | None = None  # which entry of the feeder, where only one is used (an expert's weight)
    is_output: bool = False  # the model returns what it gives
    traced: bool = False  # a graph was searched; no feeder after that means that there is none
    low: Tensor | None = None  # [units] or [1], the gate's lower end where it is learned
    slots: dict[tuple[torch.device, str], Slot] = field(default_factory=dict)
    entered: int = -1  # the outermost call in which its examples were counted
    axes: dict[int, int] = field(default_factory=dict)  # rank of the pre-activation → unit axis

    def axis_in(self, x: Tensor) -> int:
        """The unit axis of this call's pre-activation: a layer may be given (N, F), (N, T, F), a lone (F,).

        NO_AXIS where the site is one single unit.
        """
        if self.axis == NO_AXIS:
            return NO_AXIS
        known = self.axes.get(x.dim())
        if known is not None:
            return known
        first = next(iter(self.axes), x.dim())  # the rank that `axis` is of
        return x.dim() - 1 if self.axis == first - 1 else self.axis

    def slot(self, pool: Pool) -> Slot:
        key = (pool.device, pool.phase)
        if key not in self.slots:
            self.slots[key] = pool.add(self.number, self.units)
        return self.slots[key]


def plain_name(name: str) -> str:
    """A module's or parameter's name without the layers that torch.compile, DDP and FSDP put around a model."""
    name += "."  # the wrapped model itself is called "module"
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("module.").removesuffix(".")


def guess_axis(model: nn.Module, activation: nn.Module | None, x: Tensor) -> tuple[int, AxisFrom]:
    """The unit axis without a graph: from the last layer registered before the activation, else from the rank.

    A function (None) has no place in the order of registration, so that only the rank is left.
    """
    previous = None
    for module in model.modules() if activation is not None else ():
        if module is activation:
            break
        if isinstance(module, (*_LAST_AXIS, *_SECOND_AXIS)):
            previous = module
    if x.dim() <= 1:
        lone = x.dim() == 0 or (isinstance(previous, nn.Linear) and previous.out_features == 1)
        return (NO_AXIS, "registration") if lone else (0, "shape")
    if isinstance(previous, _LAST_AXIS) or (isinstance(previous, _SECOND_AXIS) and x.dim() == 2):
        return x.dim() - 1, "registration"
    if isinstance(previous, _SECOND_AXIS):
        return 1, "registration"
    return (1 if x.dim() >= 4 else x.dim() - 1), "shape"


def site_names(sites: Sequence[LiveSite], parameters: Mapping[int, str]) -> list[str]:
    """A name for each site: its module's, and where a module has several sites what feeds each.

    A shared `relu` behind fc1 and fc2 gives "relu@fc1" and "relu@fc2"; what cannot be told apart so gets a number.
    """
    counts: dict[str, int] = {}
    for site in sites:
        counts[site.module] = counts.get(site.module, 0) + 1
    names: list[str] = []
    for site in sites:
        name = site.module
        if counts[site.module] > 1:
            feeder = parameters.get(id(site.feeder), "") if site.feeder is not None else ""
            # The layer's name tells; an entry of a stack of experts is told by the stack's own.
            feeder = feeder.rpartition(".")[0] if site.entry is None else f"{feeder}[{site.entry}]"
            name = f"{site.module}@{feeder}" if feeder else f"{site.module}#{site.call}"
        if name in names:
            name = f"{name}#{site.call}"
        names.append(name)
    return names
