"""The same training twice from one seed, watched and unwatched, and what differs between the two bit for bit."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import BATCH, MODELS, OPTIMIZERS, SIZES, WIDTH, Cell, losses, train_once
from torch import Tensor, nn
from torch._dynamo.utils import counters

import deadneuron
from deadneuron.errors import DeadneuronWarning
from deadneuron.monitor import Monitor
from deadneuron.profiles import load_profile

STEPS = 30


@dataclass
class Training:
    """One training: everything that it leaves behind, by name, and what its monitors have seen."""

    left: dict[str, Any]
    sites: list[str]
    gaps: list[str]
    graphs: int  # that a compiler made of it


@dataclass
class Twins:
    """What differs between a watched training and the unwatched one."""

    plain: Training
    watched: Training
    differences: dict[str, float]  # by name; the size is relative to the largest value on either side

    def largest(self, what: str) -> float:
        """The largest difference among what has a name that begins so; 0 where all are the same."""
        return max((size for name, size in self.differences.items() if name.startswith(what)), default=0.0)


def ignore(_: object) -> None:
    pass


def twins(cell: Cell, folder: Path, intrude: Callable[[nn.Module], object] = ignore) -> Twins:
    """Train a cell unwatched and watched. `intrude` may disturb the watched one's first net: then they must differ."""
    plain = train(cell)
    watched = train(cell, folder, intrude)
    return Twins(plain, watched, compare(plain.left, watched.left))


def train(cell: Cell, folder: Path | None = None, intrude: Callable[[nn.Module], object] = ignore) -> Training:
    """Train a cell; watched, if there is a folder for its runs."""
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(17)
    np.random.seed(17)
    random.seed(17)
    nets = MODELS[cell.model](cell.checkpointed)
    optimizers = [OPTIMIZERS[cell.optimizer](net.parameters()) for net in nets]
    monitors: list[Monitor] = []
    history = []
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadneuronWarning)  # what is not measured is told by the gaps
        # The compiler hides this one of its own, but not from who turns warnings into errors.
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
        calls = nets if cell.watch_first else [compiled(net, cell) for net in nets]
        if folder is not None:
            monitors = [stack.enter_context(monitor) for monitor in watch(cell, calls, optimizers, folder)]
            intrude(nets[0])
        if cell.watch_first:
            calls = [compiled(net, cell) for net in nets]
        for _ in range(STEPS):
            step = zip(optimizers, losses(cell, calls), strict=True)
            history.append([train_once(cell, optimizer, loss) for optimizer, loss in step])
            for monitor in monitors:
                monitor.log(loss=history[-1][0])
    left = dict(leaves("loss", history))
    for number, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
        left |= leaves(f"net {number}", net.state_dict())
        left |= leaves(f"gradient {number}", [parameter.grad for parameter in net.parameters()])
        left |= leaves(f"optimizer {number}", optimizer.state_dict())
    left |= leaves("random", random_states())
    sites = [site.name for monitor in monitors for site in monitor.sites]
    gaps = [f"{gap.where}: {gap.reason}" for monitor in monitors for gap in monitor.gaps]
    return Training(left, sites, gaps, counters["stats"]["unique_graphs"])


def compiled(net: nn.Module, cell: Cell) -> Any:
    return torch.compile(net, backend=cell.compiler) if cell.compiler else net


def watch(cell: Cell, nets: list[Any], optimizers: list[Any], folder: Path) -> Iterator[Monitor]:
    """Monitors that do in 30 steps all that they ever do: full statistics, windows, snapshots, looks, references."""
    profile = load_profile()
    profile = replace(profile, sampling=replace(profile.sampling, window=7, flush_seconds=0.01))
    size = SIZES.get(cell.model, (BATCH, WIDTH))
    frozen = torch.randn(size, generator=torch.Generator().manual_seed(23))
    options = {"profile": profile, "every": 3, "on_finding": ignore}
    if cell.model == "gan":
        pair = nn.ModuleDict(zip(("generator", "discriminator"), nets, strict=True))
        both = deadneuron.watch(pair, optimizers, folder, reference=lambda pair: run_pair(pair, frozen), **options)
        yield both
        return
    for number, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
        run = folder / str(number)
        yield deadneuron.watch(net, optimizer, run, reference=frozen, **options)


def run_pair(pair: nn.Module, noise: Tensor) -> Tensor:
    return pair["discriminator"](pair["generator"](noise))


def random_states() -> dict[str, Any]:
    version, words, normal = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": (version, torch.tensor(words), normal),
    }


def leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value in nested containers, by its path."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(f"{name}.{key}", one)
    elif isinstance(value, (list, tuple)):
        yield f"{name}.length", len(value)
        for index, one in enumerate(value):
            yield from leaves(f"{name}.{index}", one)
    elif isinstance(value, (np.ndarray, float)):
        yield name, torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    else:
        yield name, value


def compare(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Names of what is not the same bit for bit, and how large the difference is."""
    names = dict.fromkeys([*one, *other])
    missing = object()
    pairs = {name: (one.get(name, missing), other.get(name, missing)) for name in names}
    return {name: size_of_difference(a, b) for name, (a, b) in pairs.items() if not same(a, b)}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(raw(a), raw(b))
    return type(a) is type(b) and a == b


def raw(values: Tensor) -> Tensor:
    """Bytes, which tell -0 from 0 and hold NaN to be the same as itself."""
    return values.detach().contiguous().reshape(-1).view(torch.uint8)


def size_of_difference(a: Any, b: Any) -> float:
    """Relative to the largest value of the two; infinite where they cannot be subtracted."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.shape != b.shape or not a.is_floating_point():
        return math.inf
    a, b = a.detach().double(), b.detach().double()
    size = ((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max())).item()
    return math.inf if math.isnan(size) else size
