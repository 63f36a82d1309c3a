"""A lab whose grid varies the rate over seeds compares them as a sweep does."""

from __future__ import annotations

import json

import pytest

from deadneuron.analysis.comparison import compare
from deadneuron.analysis.outcomes import outcome_of
from deadneuron.analysis.sweeptrial import as_json
from deadneuron.experiments.lab import plan_lab, run_lab, write_tables
from deadneuron.experiments.labdoses import compare_lab, doses_text
from deadneuron.experiments.labfiles import load_lab
from deadneuron.frames import read_run


def test_the_comparison_is_that_of_the_cells_runs(finished):
    _, plan, _ = finished
    outcomes = []
    for cell, result in plan.results():
        run = read_run(plan.folder / cell.name)
        outcomes.append(outcome_of(run, cell.lr, cell.seed, diverged=result["cell"]["diverged"]))
    expected = compare(outcomes, model="model", limit=0.15)
    assert {dose.lr for dose in expected.doses} == {0.1, 3.1}
    assert sum(len(dose.died) + dose.diverged for dose in expected.doses) == 8
    document = json.loads((plan.folder / "table.json").read_text())
    assert document["comparisons"] == [{"axes": {}, "comparison": json.loads(json.dumps(as_json(expected)))}]
    _, doses = write_tables(plan)
    assert [one.comparison for one in doses] == [expected]


def test_the_table_stands_below_the_summary_and_on_the_terminal(finished):
    _, plan, _ = finished
    text = doses_text(compare_lab(plan.lab, plan.folder, plan.results()))
    assert (plan.folder / "summary.md").read_text().endswith(f"\n```text\n{text}```\n")
    header, *rows = text.splitlines()[2:5]
    assert header.split()[:3] == ["rate", "seeds", "died"]
    assert [row.split()[0] for row in rows] == ["0.1", "3.1"]


@pytest.mark.usefixtures("in_process")
def test_each_combination_of_the_other_axes_is_compared_by_itself(tiny, tmp_path):
    config = tiny(lr="[0.1, 0.2]", seed="[3, 5]", more='activation = ["ReLU", "GELU"]\nnorm = "layer"')
    plan = plan_lab(load_lab(config), tmp_path / "labs")
    run_lab(plan, 1, lambda event: None)
    _, doses = write_tables(plan)
    assert [one.axes for one in doses] == [(("activation", "ReLU"),), (("activation", "GELU"),)]
    lines = doses_text(doses).splitlines()
    assert [line.split()[:2] for line in lines[3:7]] == [
        [name, rate] for name in ("ReLU", "GELU") for rate in ("0.1", "0.2")
    ]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("lr", "seed"), [("[0.1, 0.2]", "3"), ("0.1", "[3, 5]")])
def test_one_rate_or_one_seed_is_no_comparison(tiny, tmp_path, lr, seed):
    plan = plan_lab(load_lab(tiny(lr=lr, seed=seed)), tmp_path / "labs")
    run_lab(plan, 1, lambda event: None)
    _, doses = write_tables(plan)
    assert doses == ()
    assert doses_text(doses) == ""
    assert "```" not in (plan.folder / "summary.md").read_text()
