"""Checkpoints of the real libraries, written once a session: (folder, truth) by the writer's name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from checkpoints import writers

WRITERS = {
    "training dicts": writers.write_training_dicts,
    "legacy": lambda folder: writers.write_training_dicts(folder, legacy=True),
    "convolutional": lambda folder: writers.write_training_dicts(folder, kind=writers.Convolutional),
    "state dicts": writers.write_state_dicts,
    "safetensors": writers.write_safetensors,
    "timm": writers.write_timm,
    "averages": writers.write_averages,
    "compiled": writers.write_compiled,
    "ddp": writers.write_ddp,
    "lightning": writers.write_lightning,
    "lightning epochs": lambda folder: writers.write_lightning(folder, epoch=True),
    "accelerate": writers.write_accelerate,
    "transformers": writers.write_transformers,
    "transformers shards": lambda folder: writers.write_transformers(folder, shards=True),
    "transformers sparse log": lambda folder: writers.write_transformers(folder, logging_steps=7),
}


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """written("lightning") → (folder, truth): each is trained when it is first asked for."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            made[name] = (folder, WRITERS[name](folder))
        return made[name]

    return get


@pytest.fixture(scope="session")
def run_deadneuron():
    """Run the command line in a process of its own."""

    def run(*args, cwd=None):
        command = [sys.executable, "-m", "deadneuron", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd)

    return run
