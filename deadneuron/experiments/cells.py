"""One cell of a lab: train, measure, and put down the result. The result file is written last, and is what makes a
cell finished: a cell without one, or with one of other settings, is trained again."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

RESULT = "result.json"
RESULT_FORMAT = 1


def read_result(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The result in a cell's folder, or None if there is none of these settings."""
    try:
        result = json.loads((path / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(result, dict) or result.get("format") != RESULT_FORMAT or result.get("settings") != settings:
        return None
    return result


def run_cell(settings: dict[str, Any], path: Path, on_step: Callable[[int], None]) -> dict[str, Any]:
    """Train one cell in `path`, which becomes a run folder, and give its result, which is then in the folder too."""
    import torch  # inside, as all that stands on it: reading results needs no torch

    from deadneuron.analysis.diagnosis import diagnose
    from deadneuron.experiments.digits import load_digits
    from deadneuron.experiments.measures import Looks, of_run
    from deadneuron.experiments.nets import build_mlp
    from deadneuron.experiments.schedules import parse_schedule
    from deadneuron.experiments.training import accuracy, make_optimizer, train
    from deadneuron.frames import read_run
    from deadneuron.profiles import load_profile
    from deadneuron.records import Sampling, Thresholds

    began = time.monotonic()
    _clear(path)
    cell, training, steps = settings["cell"], settings["training"], settings["steps"]
    generator = torch.Generator().manual_seed(cell["seed"])
    digits = load_digits(settings["data"]["test"], settings["data"]["scale"], generator)
    net = {name: cell[name] for name in ("depth", "activation", "norm", "init")}
    model = build_mlp(64, 10, width=settings["net"]["width"], **net, generator=generator)
    numbers = settings["profile"]
    sampling, thresholds = Sampling(**numbers["sampling"]), Thresholds(**numbers["thresholds"])
    profile = replace(load_profile(), name="lab", sampling=sampling, thresholds=thresholds)
    looks = Looks(model, digits.train_x, digits.train_y, profile.sampling.epsilon)
    factor = parse_schedule(cell["schedule"], steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell["seed"])  # for activations that draw (RReLU)
        losses = train(
            model,
            make_optimizer(cell["optimizer"], model, cell["lr"], training["momentum"]),
            digits,
            path,
            steps=steps,
            batch=training["batch"],
            generator=generator,
            on_step=on_step,
            rate=lambda step: cell["lr"] * factor(step),
            profile=profile,
            look=looks.look,
            look_every=training["look"],
        )
    run = read_run(path)
    monitored = of_run(run, diagnose(run))
    layers = [a | b for a, b in zip(monitored, looks.measures(), strict=True)]
    tail = losses[-20:]
    loss = sum(tail) / len(tail)
    result = {
        "format": RESULT_FORMAT,
        "settings": settings,
        "seconds": round(time.monotonic() - began, 3),
        "cell": {
            "steps": len(losses),
            "loss": loss if math.isfinite(loss) else None,
            "accuracy": accuracy(model, digits),
            "diverged": not loss <= training["loss_bound"],  # NaN too
        },
        "layers": [{"layer": number, **measures} for number, measures in enumerate(layers, start=1)],
    }
    write_whole(path / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def _clear(path: Path) -> None:
    """Make way for a run. The result goes first: what is left of a killed run must not stand under an old result."""
    (path / RESULT).unlink(missing_ok=True)
    # Killed at its very beginning, a run left temporary files but no run.json; `watch` would not know it as its own.
    if path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir()):
        shutil.rmtree(path)
