"""Trainings that exercise what watching might disturb: each cell is one model trained one way.

The models use activation modules and functional ones, in place and not, and draw random numbers in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

BATCH, WIDTH, CHANNELS, TOKENS, FEATURES, PIXELS = 11, 17, 5, 7, 8, 9


class Blocks(nn.Module):
    """Blocks in a row, each of them computed again in the backward pass if `checkpointed`."""

    def __init__(self, blocks, checkpointed):
        super().__init__()
        self.blocks, self.checkpointed = nn.ModuleList(blocks), checkpointed

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return x


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.act, self.drop = nn.ReLU(), nn.Dropout(0.2)

    def forward(self, x):
        h = self.drop(self.act(self.first(x)))
        h = functional.dropout(functional.relu(self.second(h)), 0.1, self.training)
        return self.third(h).relu_()


class Convolution(nn.Module):
    def __init__(self, inputs, act):
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, CHANNELS, 3), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm1, self.norm2 = nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)
        self.act, self.drop = act, nn.Dropout2d(0.2)

    def forward(self, x):
        h = functional.leaky_relu(self.norm1(self.first(x)), 0.1, inplace=True)
        h = self.drop(self.act(self.norm2(self.second(h))))
        return torch.relu(h + 0.1)


def mlp(checkpointed):
    return [Blocks([Dense(), Dense(), nn.Linear(WIDTH, 2)], checkpointed)]


def conv(checkpointed):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 2))
    return [Blocks([Convolution(3, nn.RReLU()), Convolution(CHANNELS, nn.ReLU(inplace=True)), head], checkpointed)]


def transformer(checkpointed):
    layers = [
        nn.TransformerEncoderLayer(FEATURES, 2, WIDTH, activation=a, batch_first=True) for a in ("gelu", nn.ELU())
    ]
    head = nn.Sequential(nn.Flatten(), nn.Linear(TOKENS * FEATURES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 2))
    return [Blocks([*layers, head], checkpointed)]


def gan(checkpointed):
    generator = [Dense(), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())]
    discriminator = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2)), Dense(), nn.Linear(WIDTH, 1)]
    return [Blocks(generator, checkpointed), Blocks(discriminator, checkpointed)]


MODELS: dict[str, Callable[[bool], list[nn.Module]]] = {
    "mlp": mlp,
    "conv": conv,
    "transformer": transformer,
    "gan": gan,
    "gan, two monitors": gan,
}
SIZES = {
    "mlp": (BATCH, WIDTH),
    "conv": (BATCH, 3, PIXELS, PIXELS),
    "transformer": (BATCH, TOKENS, FEATURES),
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=3),
}
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Cell:
    """What is trained and how; `watch_first` says whether it is watched before it is compiled."""

    model: str
    optimizer: str
    compiler: str = ""
    watch_first: bool = True
    precision: str = "fp32"
    checkpointed: bool = False

    @property
    def way(self) -> str:
        if not self.compiler:
            return "eager"
        return f"watch, {self.compiler}" if self.watch_first else f"{self.compiler}, watch"

    def __str__(self) -> str:
        return ", ".join([self.model, self.optimizer, self.way, self.precision, *["checkpoints"] * self.checkpointed])


def all_cells() -> list[Cell]:
    """The whole matrix."""
    ways = (("", True), *product(("aot_eager", "inductor"), (True, False)))
    return [
        Cell(model, optimizer, *way, precision, checkpointed)
        for way, model, checkpointed, precision, optimizer in product(
            ways, MODELS, (False, True), PRECISIONS, OPTIMIZERS
        )
    ]


def losses(cell: Cell, nets: list[Callable[[Tensor], Tensor]]) -> Iterator[Callable[[], Tensor]]:
    """The losses of one step on fresh examples, one for each optimizer."""
    if cell.model not in SIZES:
        generate, judge = nets
        noise, real = torch.randn(BATCH, WIDTH), torch.rand(BATCH, WIDTH)
        yield lambda: functional.softplus(-judge(generate(noise))).mean()
        yield lambda: (functional.softplus(-judge(real)) + functional.softplus(judge(generate(noise).detach()))).mean()
        return
    x = torch.randn(SIZES[cell.model])
    labels = (x.flatten(1).sum(1) > 0).long()
    yield lambda: functional.cross_entropy(nets[0](x), labels)


def train_once(cell: Cell, optimizer: torch.optim.Optimizer, loss_now: Callable[[], Tensor]) -> Tensor:
    """One step of one optimizer, as its documentation says."""

    def closure():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=cell.precision == "bf16"):
            loss = loss_now()
        loss.backward()
        return loss

    if cell.optimizer == "lbfgs":
        return optimizer.step(closure).detach()
    loss = closure()
    optimizer.step()
    return loss.detach()
