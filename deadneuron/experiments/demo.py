"""The demo: three small nets on real scans, trained under the monitor, that differ in one thing at a time."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.experiments.digits import Digits, batches, load_digits
from deadneuron.experiments.nets import build_mlp
from deadneuron.frames import read_run
from deadneuron.monitor import watch
from deadneuron.records import Diagnosis


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trained net of the demo."""

    name: str
    story: str
    lr: float
    path: Path
    accuracy: float  # on the held-out images
    never: tuple[float, ...]  # share of each layer's units that are positive on no training image at all
    diagnosis: Diagnosis


def demo_config() -> dict[str, Any]:
    """configs/lab/dying.toml."""
    return tomllib.loads(resources.files("deadneuron.configs").joinpath("lab", "dying.toml").read_text("utf-8"))


def run_demo(folder: Path, config: dict[str, Any], on_step: Callable[[str, int], None]) -> Iterator[Outcome]:
    """Train each cell into `folder/<name>` (an older demo there is replaced) and yield what came of it.

    `on_step(name, step)` is called after each step. Raises `MissingExtraError` without scikit-learn.
    """
    for cell in config["cells"]:
        generator = torch.Generator().manual_seed(config["training"]["seed"])
        digits = load_digits(config["data"]["test"], config["data"]["scale"], generator)
        model = build_mlp(64, 10, **config["net"], norm=cell["norm"], generator=generator)
        path = folder / str(cell["name"])
        _train(model, digits, path, cell, config["training"], generator, on_step)
        yield Outcome(
            name=cell["name"],
            story=cell["story"],
            lr=cell["lr"],
            path=path,
            accuracy=_accuracy(model, digits),
            never=_never_positive(model, digits),
            diagnosis=diagnose(read_run(path)),
        )


def _train(
    model: nn.Module,
    digits: Digits,
    path: Path,
    cell: dict[str, Any],
    training: dict[str, Any],
    generator: torch.Generator,
    on_step: Callable[[str, int], None],
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=cell["lr"], momentum=training["momentum"])
    stream = batches(digits, training["batch"], generator)
    with watch(model, optimizer, run=path, overwrite=True) as monitor:
        for step, (x, y) in zip(range(training["steps"]), stream, strict=False):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            monitor.log(loss=loss)
            on_step(str(cell["name"]), step)


@torch.no_grad()
def _accuracy(model: nn.Module, digits: Digits) -> float:
    model.eval()
    return float((model(digits.test_x).argmax(1) == digits.test_y).float().mean())


@torch.no_grad()
def _never_positive(model: nn.Module, digits: Digits) -> tuple[float, ...]:
    """Measured apart from the monitor, on the whole training set at once: what its verdict can be held against."""
    model.eval()
    shares, x = [], digits.train_x
    for name, layer in model.named_children():
        x = layer(x)
        if name.startswith("layer"):
            shares.append(float((x <= 0).all(0).float().mean()))
    return tuple(shares)
