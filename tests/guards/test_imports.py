"""What may be loaded when: importing deadneuron, and its command line, stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_after(code: str) -> set[str]:
    """Names of the top-level modules that a fresh Python has loaded after running `code`."""
    program = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


COMMAND = """
import sys
from deadneuron.cli import main
sys.argv = ["deadneuron", *{args!r}]
try:
    main()
except SystemExit:
    pass
"""


def test_importing_deadneuron_loads_neither_torch_nor_pandas_nor_numpy():
    assert loaded_after("import deadneuron").isdisjoint({"torch", "pandas", "numpy", "pyarrow", "rich"})


def test_this_check_can_fail():
    assert "numpy" in loaded_after("import deadneuron; deadneuron.Verdict")


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["report", "--help"],
        ["demo", "--help"],
        ["lab", "--help"],
        ["lab", "--list"],
        ["sweep", "--help"],
        ["live", "--help"],
        ["compare", "--help"],
    ],
)
def test_help_loads_neither_torch_nor_pandas(args):
    assert loaded_after(COMMAND.format(args=args)).isdisjoint({"torch", "pandas", "pyarrow"})


def test_a_report_loads_no_torch(demo_runs):
    loaded = loaded_after(COMMAND.format(args=["report", str(demo_runs / "lr0.2")]))
    assert "torch" not in loaded
    assert "pandas" in loaded


def test_a_report_on_checkpoints_loads_no_pandas(tmp_path):
    program = f"""
import torch
from torch import nn
model = nn.Linear(5, 3)
torch.save(model.state_dict(), {str(tmp_path / "step_7.pt")!r})
"""
    loaded = loaded_after(program + COMMAND.format(args=["report", str(tmp_path)]))
    assert "rich" in loaded
    assert loaded.isdisjoint({"pandas", "pyarrow"})


def test_only_a_report_to_tensorboard_loads_torch(demo_runs, tmp_path):
    args = ["report", str(demo_runs / "lr0.2"), "--to", "tensorboard", str(tmp_path)]
    assert {"torch", "tensorboard"} <= loaded_after(COMMAND.format(args=args))


def test_naming_a_sink_loads_no_torch():
    loaded = loaded_after("import deadneuron; deadneuron.TensorBoard('tb')")
    assert loaded.isdisjoint({"torch", "tensorboard", "pandas", "pyarrow"})


def test_the_tab_loads_neither_torch_nor_pandas():
    heavy = {"torch", "pandas", "pyarrow", "jinja2", "rich"}
    assert loaded_after("import deadneuron.tensorboard_plugin.plugin").isdisjoint(heavy)
    assert loaded_after("import deadneuron.tensorboard_plugin.reading").isdisjoint(heavy)


def test_watching_loads_no_pandas():
    assert "pandas" not in loaded_after("import deadneuron; deadneuron.watch")


SHOWN = {"jinja2", "matplotlib", "rich"}


def test_records_and_runs_show_themselves_and_load_no_drawing_before_they_do(demo_runs):
    assert loaded_after("import deadneuron; deadneuron.Diagnosis._repr_html_").isdisjoint({*SHOWN, "pandas", "torch"})
    reading = f"import deadneuron; run = deadneuron.read_run({str(demo_runs / 'lr0.2')!r}); "
    reading += "diagnosis = deadneuron.diagnose(run); "
    assert loaded_after(reading).isdisjoint({*SHOWN, "torch"})
    assert loaded_after(f"{reading} diagnosis._repr_html_()").isdisjoint({"matplotlib", "torch"})
    drawn = loaded_after(f"{reading} run.plot()")
    assert "matplotlib" in drawn
    assert drawn.isdisjoint({"torch", "jinja2"})


def test_a_report_and_a_comparison_load_no_matplotlib(demo_runs):
    for args in (["report", str(demo_runs / "lr0.2")], ["compare", *[str(demo_runs / "lr0.2")] * 2]):
        assert loaded_after(COMMAND.format(args=args)).isdisjoint({"matplotlib", "torch"})


def test_every_public_name_exists_and_none_is_a_submodule():
    import importlib.util

    import deadneuron

    for name in deadneuron.__all__:
        assert getattr(deadneuron, name) is not None
        assert importlib.util.find_spec(f"deadneuron.{name}") is None
    assert set(deadneuron.__all__) < set(dir(deadneuron))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deadneuron.nothing
