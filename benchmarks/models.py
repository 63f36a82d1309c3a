"""The three models that overhead is measured on, each with one training step's work. Randomly initialised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Workload:
    """A model and the inputs of one step; the loss is the mean square of the output."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Tensor]
    backend: str = ""  # of torch.compile; empty for eager mode


def mlp() -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(1024, 1024), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10))


class Block(nn.Module):
    """A basic block of ResNet: one ReLU module used at two sites."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        return self.relu(h + self.short(x))


def resnet18() -> nn.Module:
    """ResNet-18 for 32 × 32 images: a 3 × 3 stem and no pooling behind it. 17 activation sites."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def transformer(activation: nn.Module | str) -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.1, activation=activation, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


_ENCODER = "transformer encoder, d=256, 4 layers, batch 16 × 64 tokens"


def _tokens() -> Tensor:
    return torch.randn(16, 64, 256)


WORKLOADS = (
    Workload("MLP 4×1024, batch 256", mlp, lambda: torch.randn(256, 1024)),
    Workload("ResNet-18, 32×32, batch 16", resnet18, lambda: torch.randn(16, 3, 32, 32)),
    Workload(_ENCODER, lambda: transformer(nn.GELU()), _tokens),
)

# The same models with their activations as functions, and compiled.
FURTHER = (
    Workload(f"{_ENCODER}, F.gelu", lambda: transformer("gelu"), _tokens),
    Workload("MLP 4×1024, batch 256, compiled by inductor", mlp, lambda: torch.randn(256, 1024), "inductor"),
    Workload(
        "ResNet-18, 32×32, batch 16, compiled by inductor", resnet18, lambda: torch.randn(16, 3, 32, 32), "inductor"
    ),
    Workload(f"{_ENCODER}, compiled by inductor", lambda: transformer(nn.GELU()), _tokens, "inductor"),
)
