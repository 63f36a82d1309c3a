"""Random networks whose activation sites are known before they run: blocks, what is in them, and how they are trained.

Widths, batch sizes and lengths are different primes, so that a mixed-up axis changes a shape or a count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from phrases import SPELLINGS, Spelling
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from zoo import NEVER

INPUTS, WIDTHS, BATCHES, TIME, SIDES = 3, (5, 11), (2, 7), 13, (17, 19)
SHAPES = {"features": (), "tokens": (TIME,), "sequences": (TIME,), "images": SIDES, "nhwc": SIDES}
NORMS = {
    "features": ("", "batch", "layer", "group"),
    "tokens": ("", "layer"),
    "sequences": ("", "batch", "group"),
    "images": ("", "batch", "group"),
    "nhwc": ("", "layer"),
}


@dataclass(frozen=True)
class Spec:
    """One block: how often which layers are applied, and what stands around each activation."""

    spelling: str
    width: int
    layers: int  # in a loop, with one activation for all
    rounds: int  # through the layers
    norm: str
    bias: bool
    residual: str  # "", "before" the activation or "after" it
    dropout: str
    pool: str
    checkpoint: str
    recurrent: bool
    shared: bool  # the activation is the model's one shared module
    frozen: bool
    dead: int  # planted units


@dataclass(frozen=True)
class Plan:
    """A network, and the loop that trains it."""

    layout: str
    channels_last: bool
    dtype: str
    stem: str  # spelling of an activation in the model's own forward, or ""
    blocks: tuple[Spec, ...]
    batches: tuple[int, ...]  # one a step
    accumulate: int
    evaluate: str  # "", "first" or "after"
    inference: bool
    compile: str


@dataclass(frozen=True)
class Place:
    """Where an activation is applied: what is known of its site beforehand."""

    tap: str
    caller: str
    feeder: str | None
    spelling: Spelling
    axis: int
    heard_in: str | None  # the module that the oracle names; None for one that is made in forward
    dead: int
    graphless: bool  # it runs without a graph even in training
    call: int = 0  # where no parameter that is trained feeds it: which call of its activation

    @property
    def gap(self) -> str:
        """What it is called where it may not be counted."""
        return f"{self.caller}.{self.spelling.op}()".removeprefix(".")


def layer_of(layout: str, inputs: int, width: int, bias: bool) -> nn.Module:
    if layout in ("features", "tokens"):
        return nn.Linear(inputs, width, bias)
    kind = nn.Conv1d if layout == "sequences" else nn.Conv2d
    return kind(inputs, width, 3, padding=1, bias=bias)


def norm_of(name: str, layout: str, width: int) -> nn.Module:
    batch = nn.BatchNorm2d if layout == "images" else nn.BatchNorm1d
    if name == "group":
        return nn.GroupNorm(1, width)
    return batch(width) if name == "batch" else nn.LayerNorm(width) if name else nn.Identity()


class Block(nn.Module):
    """Layers, each with the same activation behind it."""

    def __init__(self, spec: Spec, layout: str, inputs: int, shared: nn.Module | None):
        super().__init__()
        self.spec, self.layout, self.spelling = spec, layout, SPELLINGS[spec.spelling]
        widths = [inputs] + [spec.width] * (spec.layers - 1)
        self.layers = nn.ModuleList(layer_of(layout, w, spec.width, spec.bias) for w in widths)
        self.norms = nn.ModuleList(norm_of(spec.norm, layout, spec.width) for _ in widths)
        if spec.recurrent:
            self.back = nn.Linear(spec.width, spec.width)
        if self.spelling.module is not None:
            self.act = shared if spec.shared else self.spelling.module()
        with torch.no_grad():
            for feeder in (n if spec.norm else layer for layer, n in zip(self.layers, self.norms, strict=True)):
                if feeder.bias is not None and not self.spelling.leaks:
                    feeder.bias[: spec.dead] = -NEVER
        if spec.frozen:
            self.requires_grad_(False)

    def activate(self, h: Tensor) -> Tensor:
        return self.act(h) if self.spelling.module is not None else self.spelling.apply(h)

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.recurrent:
            h, steps = x.new_zeros(len(x), self.spec.width), []
            for t in range(x.shape[1]):
                h = self.activate(self.layers[0](x[:, t]) + self.back(h))
                steps.append(h)
            return torch.stack(steps, 1)
        for _ in range(self.spec.rounds):
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = self.apply_one(layer, norm, x)
        return x

    def apply_one(self, layer: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
        h = layer(x)
        h = norm(h.permute(0, 2, 3, 1) if self.layout == "nhwc" else h)
        if self.spec.dropout == "before":
            h = F.dropout(h, 0.3, self.training)
        if self.spec.residual == "before":
            h = h + (x.permute(0, 2, 3, 1) if self.layout == "nhwc" else x)
        if self.spec.pool == "before":
            h = self.pooled(h)
        h = self.activate(h)
        if self.layout == "nhwc":
            h = h.permute(0, 3, 1, 2)
        if self.spec.dropout == "after":
            h = F.dropout(h, 0.3, self.training)
        if self.spec.residual == "after":
            h = x + h
        return self.pooled(h) if self.spec.pool == "after" else h

    def pooled(self, h: Tensor) -> Tensor:
        return F.max_pool1d(h, 2) if h.dim() == 3 else F.avg_pool2d(h, 2)

    def places(self, name: str, shared_name: str) -> list[Place]:
        """In the order of the calls of one forward pass."""
        spec, spelling = self.spec, self.spelling
        tap = f"{name}.{spelling.name}()" if spelling.module is None else shared_name if spec.shared else f"{name}.act"
        heard_in = tap if spelling.module is not None else None if spec.spelling.startswith("fresh") else name
        axis = 1 if spec.recurrent else {"tokens": 2, "nhwc": 3}.get(self.layout, 1)
        found = []
        for index, layer in enumerate(self.layers):
            feeder = self.norms[index] if spec.norm else layer
            where = f"{name}.{'norms' if spec.norm else 'layers'}.{index}."
            where += "weight" if feeder.bias is None else "bias"
            survives = feeder.bias is None or spelling.leaks or spec.dropout == "before"  # what is dropped is zero
            dead = 0 if survives else spec.dead
            reentrant = spec.checkpoint == "reentrant"
            found.append(Place(tap, name, None if spec.frozen else where, spelling, axis, heard_in, dead, reentrant))
        return found * (TIME if spec.recurrent else spec.rounds)


class Net(nn.Module):
    """A stem, blocks, and a head on the mean over all positions."""

    def __init__(self, plan: Plan):
        super().__init__()
        self.plan = plan
        shared = next((SPELLINGS[s.spelling].module for s in plan.blocks if s.shared), None)
        self.shared = shared() if shared is not None else None
        self.stem = layer_of(plan.layout, INPUTS, WIDTHS[0], True)
        widths = [WIDTHS[0], *(spec.width for spec in plan.blocks)]
        self.blocks = nn.ModuleList(
            Block(spec, plan.layout, width, self.shared) for spec, width in zip(plan.blocks, widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.plan.stem:
            x = SPELLINGS[self.plan.stem].apply(x)
        for block in self.blocks:
            if block.spec.checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=block.spec.checkpoint == "reentrant")
            else:
                x = block(x)
        if self.plan.layout == "tokens":
            x = x.mean(1)
        elif x.dim() > 2:
            x = x.flatten(2).mean(-1)
        return self.head(x)

    def places(self) -> list[Place]:
        found = []
        if self.plan.stem:
            spelling = SPELLINGS[self.plan.stem]
            heard_in = None if self.plan.stem.startswith("fresh") else ""
            axis = 2 if self.plan.layout == "tokens" else 1
            found.append(Place(f"{spelling.name}()", "", "stem.bias", spelling, axis, heard_in, 0, False))
        for index, block in enumerate(self.blocks):
            found += block.places(f"blocks.{index}", "shared")
        calls: Counter[str] = Counter()
        for index, place in enumerate(found):
            if place.feeder is None:
                found[index] = replace(place, call=calls[place.tap])
            calls[place.tap] += 1
        return found
