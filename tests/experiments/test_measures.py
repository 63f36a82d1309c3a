"""What a lab measures, against truth that was made by hand and against the monitor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deadneuron.experiments.measures import Looks, _dead_at
from deadneuron.experiments.nets import build_mlp
from deadneuron.records import Episode


@pytest.fixture
def net():
    """13 inputs, 7 units in each of two ReLU layers; unit 2 of the first is dead, unit 3 always on."""
    generator = torch.Generator().manual_seed(0)
    parts = {"depth": 2, "activation": "ReLU", "norm": "none", "init": "he"}
    model = build_mlp(13, 5, width=7, **parts, generator=generator)
    with torch.no_grad():
        model.layer1.linear.bias[2] = -1000.0
        model.layer1.linear.bias[3] = 1000.0
    x = torch.randn(17, 13, generator=generator)
    return model, x, torch.arange(17) % 5


def test_units_that_were_made_silent_and_awake_are_counted(net):
    model, x, y = net
    looks = Looks(model, x, y, 1e-3)
    looks.look()
    with torch.no_grad():
        model.layer1.linear.bias[2] = 0.0  # wakes
        model.layer1.linear.bias[0] = -1000.0  # falls silent
    looks.look()
    first = looks.measures()[0]
    z = x @ model.layer1.linear.weight.T + model.layer1.linear.bias
    z = z.detach()
    assert first["set_never_at_start"] == 1
    assert first["set_always_at_start"] == 1
    assert (first["set_ever_silent"], first["set_woke"]) == (2, 1)
    assert (first["set_never"], first["set_silent"], first["set_gate"]) == (1, 1, 6)
    assert first["set_below"] == pytest.approx(float((z <= 0).double().mean()))
    assert first["set_slope"] == pytest.approx(1 - first["set_below"]), "ReLU's slope is 1 where it is open"
    assert first["set_above"] == 0.0
    assert first["set_magnitude"] == pytest.approx(float(z.relu().mean()), rel=1e-6)


def test_the_gradient_is_that_of_each_images_own_loss(net):
    model, x, y = net
    looks = Looks(model, x, y, 1e-3)
    looks.look()
    total = 0.0
    for image, label in zip(x, y, strict=True):
        z = model.layer1.linear(image).detach().requires_grad_()
        out = model.head(model.layer2(z.relu()))
        torch.nn.functional.cross_entropy(out, label).backward()
        total += float(z.grad.abs().sum())
    assert looks.measures()[0]["set_gradient"] == pytest.approx(total / (17 * 7), rel=1e-5)


def test_a_broken_net_tells_nothing_of_its_end_but_keeps_its_start(net):
    model, x, y = net
    looks = Looks(model, x, y, 1e-3)
    looks.look()
    with torch.no_grad():
        model.layer1.linear.weight[0, 0] = float("nan")
    for layer in looks.measures():
        assert layer["set_never"] is layer["set_silent"] is layer["set_slope"] is None
        assert layer["set_zero_at_start"] > 0


def test_the_monitor_and_the_training_set_agree(tmp_path):
    """The units that the monitor calls dead at a killing rate are those silent on all training images."""
    from deadneuron.experiments.cells import run_cell
    from deadneuron.experiments.labfiles import load_lab, settings

    lab = load_lab("high-rate")
    cell = next(cell for cell in lab.cells if cell.lr == 0.2)
    first = run_cell(settings(lab, cell), tmp_path / "cell", lambda step: None)["layers"][0]
    assert first["dead"] > 0.2 * first["units"]
    assert abs(first["dead"] - first["set_silent"]) <= 0.03 * first["units"]
    assert first["set_silent"] == first["set_never"] == first["units"] - first["set_gate"]
    assert first["dead_at_100"] <= first["dead_at_200"] <= first["dead_at_300"] <= first["dead"] + first["revived"]
    assert first["died"] + first["born_dead"] == first["dead"] <= first["ever_dead"]
    assert abs(first["zero_at_start"] - first["set_zero_at_start"]) < 0.05


def test_deaths_are_dated_backwards_and_a_revival_ends_them():
    died = Episode(0, 2, "died", first_step=40, last_step=None, born=False, rate=0.1, samples=997)
    revived = replace(died, unit=3, first_step=90, last_step=230)
    relapsed = replace(died, unit=3, state="relapsed", first_step=290)
    late = replace(died, unit=5, first_step=100)
    own = [died, revived, relapsed, late]
    assert [_dead_at(own, step, 599) for step in (40, 41, 100, 200, 231, 300)] == [0, 1, 2, 3, 2, 3]
    assert _dead_at(own, 300, 299) == 3
    assert _dead_at(own, 300, 298) is None, "the run did not last so long"
