"""docs/lab.md against the labs it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deadneuron.experiments.columns import COLUMNS
from deadneuron.experiments.labfiles import lab_names, load_lab
from deadneuron.experiments.tables import summarise, to_markdown

PAGE = (Path(__file__).parents[2] / "docs" / "lab.md").read_text("utf-8")


@pytest.mark.parametrize("name", lab_names())
def test_the_page_shows_each_lab_as_it_is_now(name):
    """Its claim, its command, its number of cells, its columns, and a row for every combination and layer."""
    lab = load_lab(name)
    block = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->\n\n\S", PAGE, re.DOTALL)
    assert block is not None, "run: make labs, and say what it shows"
    assert lab.lab.claim in block[1]
    assert f"`deadneuron lab {name}`: {len(lab.cells)} cells, " in block[1]
    header, _, *rows = [line for line in block[1].splitlines() if line.startswith("|")]
    assert header + "\n" == to_markdown(summarise(lab, [])).splitlines(keepends=True)[0]
    each = {tuple(getattr(cell, axis) for axis in lab.varying): cell.depth for cell in lab.cells}
    layers = [len(lab.lab.layers) - ("each" in lab.lab.layers) + depth * ("each" in lab.lab.layers)
              for depth in each.values()]  # fmt: skip
    assert len(rows) == sum(layers)


def test_the_page_explains_every_measure():
    for name in COLUMNS:
        assert f"| `{name}` |" in PAGE


def test_the_lab_that_the_page_writes_out_is_one(tmp_path):
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    assert len(load_lab(path).cells) == 3 * 2 * 2 * 3
