"""Lab files: the grid they span, and every mistake in one line that names the key."""

from __future__ import annotations

import itertools
import json
import tomllib
from importlib import resources

import pytest

from deadneuron.errors import LabError
from deadneuron.experiments.columns import COLUMNS
from deadneuron.experiments.lab import plan_lab
from deadneuron.experiments.labfiles import lab_names, load_lab, settings


def told(call) -> str:
    with pytest.raises(LabError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("[lab]")
    return message


def test_the_cells_are_the_product_of_the_axes(tiny):
    lab = load_lab(tiny(lr="[0.1, 0.2, 0.3]", seed="[5, 7]", more='activation = ["ReLU", "GELU"]\nnorm = "batch"'))
    cells = {(c.activation, c.lr, c.seed) for c in lab.cells}
    assert cells == set(itertools.product(["ReLU", "GELU"], [0.1, 0.2, 0.3], [5, 7]))
    assert len(lab.cells) == 12
    assert {(c.norm, c.init, c.schedule, c.optimizer, c.depth) for c in lab.cells} == {
        ("batch", "he", "constant", "SGD+momentum", 2)
    }
    assert lab.varying == ("activation", "lr")
    assert len({cell.name for cell in lab.cells}) == 12


def test_two_grids_are_trained_together_and_a_cell_of_both_once(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(
        '[lab]\ntitle = "t"\nclaim = "c"\nsource = "s"\n'
        '[[grid]]\noptimizer = "SGD"\nlr = [0.2, 0.5]\nseed = 3\n'
        '[[grid]]\noptimizer = ["Adam", "SGD"]\nlr = 0.5\nseed = 3\n'
    )
    assert [(c.optimizer, c.lr) for c in load_lab(path).cells] == [("SGD", 0.2), ("SGD", 0.5), ("Adam", 0.5)]


def test_a_sum_of_rates_gives_the_steps(tiny):
    path = tiny(lr="[0.5, 0.125]")
    path.write_text(path.read_text().replace("steps = 29", "rate_sum = 7.0"))
    lab = load_lab(path)
    assert {cell.lr: lab.steps(cell) for cell in lab.cells} == {0.5: 14, 0.125: 56}


def test_all_that_changes_a_result_is_in_its_settings(tiny):
    """Held against every key of the base file: changing one changes the settings, but for those that only tell."""
    path = tiny()
    lab = load_lab(path)
    before = settings(lab, lab.cells[0])
    changes = {
        **{"batch = 19": "batch = 17", "test = 997": "test = 983", "width = 13": "width = 11", "look = 7": "look = 5"},
        **{"steps = 29": "steps = 31", "depth = 2": "depth = 3", "[data]": "[data]\nscale = 3.0"},
        **{"[training]": "[training]\nmomentum = 0.5", "[net]": "loss_bound = 5.0\n[net]"},
    }
    for old, new in changes.items():
        original = path.read_text()
        assert old in original
        path.write_text(original.replace(old, new))
        changed = load_lab(path)
        assert settings(changed, changed.cells[0]) != before, new
        path.write_text(original)
    path.write_text(path.read_text().replace('"Tiny"', '"Other title"'))
    assert settings(load_lab(path), lab.cells[0]) == before
    quick = path.parent / "quick.toml"
    quick.write_text(quick.read_text().replace("patience = 11", "patience = 13"))
    assert settings(load_lab(path), lab.cells[0]) != before
    assert json.loads(json.dumps(before)) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("lrate = 3.0", "unknown key: grid.lrate"),
        ("[trainings]\nx = 1", "unknown key: trainings"),
        ("norm = []", "grid.norm is empty"),
        ('norm = ["none", "none"]', "grid.norm names a value twice"),
        ('norm = "group"', "grid.norm does not know 'group'"),
        ('optimizer = "LBFGS"', "grid.optimizer does not know 'LBFGS'"),
        ('init = "magic"', "grid.init does not know 'magic'"),
        ('schedule = "warmup"', "unknown schedule (warmup)"),
        ('schedule = "warmup:0"', "unknown schedule"),
        ('schedule = "step:5:nan"', "unknown schedule"),
        ('activation = "Softmaxx"', "grid.activation does not know 'Softmaxx'"),
        ('activation = "Linear"', "grid.activation does not know 'Linear'"),
        ("activation = 3", "grid.activation"),
        ("[cost]\ncell = -1.0", "cost must not be negative"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tiny, more, words, tmp_path):
    path = tiny(more=more)
    assert words in told(lambda: plan_lab(load_lab(path), tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lr = [0.1, 3.1]", "lr = [0.0]", "grid.lr"),
        ("lr = [0.1, 3.1]", "lr = [nan]", "grid.lr"),
        ("lr = [0.1, 3.1]", "lr = ['0.1']", "grid.lr"),
        ("seed = [0, 1]", "seed = [true]", "grid.seed"),
        ("seed = [0, 1]", "seed = [-1]", "grid.seed"),
        ("steps = 29", "steps = 0", "training.steps"),
        ("steps = 29", "steps = 29\nrate_sum = 3.0", "either steps or rate_sum"),
        ("batch = 19", "batch = 1000", "training.batch and data.test"),
        ("test = 997", "test = 1797", "training.batch and data.test"),
        ('"dead"', '"deadly"', "lab.columns does not know 'deadly'"),
        ('"all"', '"some"', "lab.layers does not know 'some'"),
        ('title = "Tiny"\n', "", "missing key: lab.title"),
        ("[net]", "[net", "cannot read the lab"),
        ("width = 13", "width = 0", "net.width"),
        ("look = 7", "look = 0", "training.look"),
    ],
)
def test_an_impossible_value_is_told_with_its_key(tiny, old, new, words, tmp_path):
    path = tiny()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert words in told(lambda: plan_lab(load_lab(path), tmp_path))


@pytest.mark.parametrize("name", ["nope", "dying", "base", "nowhere.toml", "."])
def test_what_is_no_lab_is_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name in told(lambda: load_lab(name))


def test_the_shipped_labs_load_and_take_less_than_a_quarter_of_an_hour_together(tmp_path):
    labs = [load_lab(name) for name in lab_names()]
    assert len(labs) >= 7
    for lab in labs:
        plan_lab(lab, tmp_path)
        assert len({cell.seed for cell in lab.cells}) >= 3, lab.name
        assert lab.lab.claim.endswith(".")
    assert 60 < sum(lab.seconds(lab.cells, 2) for lab in labs) < 900
    used = set().union(*(lab.lab.columns for lab in labs))
    assert used <= set(COLUMNS)


def test_the_base_file_comments_every_axis_and_number():
    text = resources.files("deadneuron.configs").joinpath("lab", "base.toml").read_text("utf-8")
    assert set(tomllib.loads(text)) == {"data", "training", "net", "grid", "lab", "cost"}
