"""A watched training is the unwatched one bit for bit: a sample of the matrix that `benchmarks/proof.py twins` runs."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from cells import Cell, all_cells
from twins import twins

SAMPLE = [
    Cell("mlp", "sgd", checkpointed=True),
    Cell("conv", "lbfgs"),
    Cell("conv", "adamw", precision="bf16", checkpointed=True),
    Cell("transformer", "lbfgs", precision="bf16", checkpointed=True),
    Cell("transformer", "sgd"),
    Cell("gan", "adamw"),
    Cell("gan, two monitors", "sgd", precision="bf16"),
    Cell("mlp", "lbfgs", "aot_eager", watch_first=True, precision="bf16"),
    Cell("mlp", "adamw", "aot_eager", watch_first=False, checkpointed=True),
    Cell("conv", "sgd", "aot_eager", watch_first=True, checkpointed=True),
    Cell("transformer", "adamw", "aot_eager", watch_first=False),
    Cell("gan", "sgd", "aot_eager", watch_first=True, precision="bf16"),
    Cell("gan, two monitors", "lbfgs", "aot_eager", watch_first=False),
]


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_a_watched_training_is_the_unwatched_one_bit_for_bit(cell, tmp_path):
    pair = twins(cell, tmp_path)
    assert pair.differences == {}
    assert pair.watched.sites or pair.watched.gaps
    if not cell.compiler:
        assert pair.watched.sites, "a monitor that sees nothing proves nothing"
    assert bool(pair.plain.graphs) == bool(cell.compiler)


@pytest.mark.parametrize("field", fields(Cell), ids=lambda field: field.name)
def test_the_sample_has_every_value_of_the_matrix(field):
    matrix = {getattr(cell, field.name) for cell in all_cells()} - {"inductor"}  # needs a C++ compiler
    assert {getattr(cell, field.name) for cell in SAMPLE} == matrix


def draw(module, args, output):
    torch.rand(1)


def nudge(net):
    with torch.no_grad():
        next(net.parameters()).view(-1)[0].mul_(1 + 1e-6)


def test_one_random_number_too_many_is_found(tmp_path):
    pair = twins(SAMPLE[0], tmp_path, lambda net: net.register_forward_hook(draw))
    assert "random.torch" in pair.differences
    assert "loss.0.0" not in pair.differences
    assert pair.largest("loss") > 1e-3
    assert pair.largest("net 0") > 1e-3


def test_one_weight_that_differs_in_its_last_digits_is_found(tmp_path):
    pair = twins(SAMPLE[0], tmp_path, nudge)
    assert 0 < pair.largest("net 0") < 1e-3
    assert 0 < pair.largest("optimizer 0.state") < 1e-2
    assert pair.largest("random") == 0
