"""The demo: three small nets on real scans, trained under the monitor, that differ in one thing at a time."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.experiments.digits import Digits, load_digits
from deadneuron.experiments.nets import build_mlp
from deadneuron.experiments.training import accuracy, make_optimizer, train
from deadneuron.frames import read_run
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
    training = config["training"]
    for cell in config["cells"]:
        name = str(cell["name"])
        generator = torch.Generator().manual_seed(training["seed"])
        digits = load_digits(config["data"]["test"], config["data"]["scale"], generator)
        model = build_mlp(64, 10, **config["net"], norm=cell["norm"], generator=generator)
        train(
            model,
            make_optimizer("SGD+momentum", model, cell["lr"], training["momentum"]),
            digits,
            folder / name,
            steps=training["steps"],
            batch=training["batch"],
            generator=generator,
            on_step=partial(on_step, name),
        )
        yield Outcome(
            name=name,
            story=cell["story"],
            lr=cell["lr"],
            path=folder / name,
            accuracy=accuracy(model, digits),
            never=_never_positive(model, digits),
            diagnosis=diagnose(read_run(folder / name)),
        )


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
