"""A script under the monitor: it computes what it computes alone, and its run is the one of watch() by hand."""

from __future__ import annotations

import random
import runpy
import sys

import numpy as np
import pytest
import scripts
import torch
from making import same
from scripts import write_script
from torch import nn

import deadneuron
from deadneuron.errors import ProfileError, ScriptError
from deadneuron.frames import read_run
from deadneuron.integrations import script as rooms
from deadneuron.integrations.seeding import STRIDE, moved
from deadneuron.store.reader import read_folder

run_script = rooms.run_script
PATCHED = (
    (torch.optim.Optimizer, "__init__"),
    (torch.optim.Optimizer, "__setstate__"),
    (nn.Module, "__call__"),
    (torch.autograd, "backward"),
    (torch.amp.GradScaler, "scale"),
    (torch, "manual_seed"),
    (torch.random, "manual_seed"),
    (torch.cuda, "manual_seed_all"),
    (random, "seed"),
    (deadneuron, "watch"),
    (np.random, "seed"),
)


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = [getattr(owner, name) for owner, name in PATCHED]
    state = (sys.argv, list(sys.path), sys.modules["__main__"])
    yield
    assert [getattr(owner, name) for owner, name in PATCHED] == before
    assert (sys.argv, sys.path, sys.modules["__main__"]) == state


def alone(path):
    runpy.run_path(str(path), run_name="__main__")
    return torch.load(path.parent / "out.pt")


@pytest.mark.parametrize("kind", scripts.ALL_KINDS)
def test_a_script_computes_what_it_computes_alone(tmp_path, kind):
    path = write_script(tmp_path, scripts.ALL_KINDS[kind])
    expected = alone(path)
    generator = torch.get_rng_state()
    done = run_script(path, [], tmp_path / "runs")
    assert done.exit_code == 0
    assert done.steps == 23
    assert done.loss_known
    assert str(torch.load(tmp_path / "out.pt")) == str(expected)
    flat = [torch.load(tmp_path / "out.pt"), expected]
    leaves = [torch.utils._pytree.tree_leaves(one) for one in flat]
    for left, right in zip(*leaves, strict=True):
        assert torch.equal(torch.as_tensor(left), torch.as_tensor(right))
    assert torch.equal(torch.get_rng_state(), generator)
    assert len(done.runs) == (2 if kind == "gan" else 1)
    for run in done.runs:
        read = read_run(run)
        assert read.gaps == ()
        assert read.info.ended
        assert read.ticks["step"].tolist() == list(range(23))
        assert np.isfinite(read.ticks["loss"]).all()


@pytest.mark.parametrize("kind", ["plain", "convolutional", "late optimizer", "by hand", "compiled", "closure"])
def test_counts_are_those_of_watch_by_hand(tmp_path, kind):
    text = scripts.ALL_KINDS[kind]
    found = run_script(write_script(tmp_path / "found", text), [], tmp_path / "found").runs[0]
    model, optimizer = (next(x for x in text.splitlines() if x.startswith(f"{w} = ")) for w in ("model", "optimizer"))
    watch = f"import deadneuron; monitor = deadneuron.watch(model, optimizer, {str(tmp_path / 'by-hand')!r})"
    if kind == "late optimizer":  # made before the first pass, it is watched from the start
        text = text.replace(f"\n{optimizer}", "").replace(model, f"{model}\n{optimizer}")
    text = text.replace(optimizer, f"{optimizer}\n{watch}")
    runpy.run_path(str(write_script(tmp_path / "hand", text + "\nmonitor.close()\n")), run_name="__main__")
    mine, theirs = read_folder(found), read_folder(tmp_path / "by-hand")
    assert mine.info.sites == theirs.info.sites
    assert mine.info.groups == theirs.info.groups
    assert [tick.rates for tick in mine.ticks] == [tick.rates for tick in theirs.ticks]
    assert len(mine.windows) == len(theirs.windows) > 0
    assert all(same(left, right) for left, right in zip(mine.windows, theirs.windows, strict=True))


def test_the_loss_is_the_scripts_own_and_unscaled(tmp_path):
    path = write_script(tmp_path, scripts.SCALED)
    (run,) = run_script(path, [], tmp_path / "runs").runs
    assert read_run(run).ticks["loss"].tolist() == torch.load(tmp_path / "out.pt")


@pytest.mark.parametrize("late", [False, True])
def test_steps_that_a_scaler_skips_are_ticks(tmp_path, late):
    text = scripts.OVERFLOWING
    if late:
        text = text.replace("optimizer = ", "model(x[:3])\noptimizer = ")
    (run,) = run_script(write_script(tmp_path, text, steps=7), [], tmp_path / "runs", lr=0.3).runs
    ticks = read_run(run).ticks
    assert ticks["step"].tolist() == list(range(7))
    assert ticks["skipped"].iloc[0]
    assert ticks["loss"].tolist() == torch.load(tmp_path / "out.pt")


def test_in_a_gan_the_ratio_of_two_optimizers_rates_stays(tmp_path):
    path = write_script(tmp_path, scripts.GAN)
    d, g = (read_run(run) for run in run_script(path, [], tmp_path / "runs", lr=0.008).runs)
    # The first optimizer's rate is set, the ratio to the other's is kept.
    assert g.ticks["lr:Adam[0]"].tolist() == [0.008] * 23
    assert d.ticks["lr:Adam[0]"].tolist() == pytest.approx([0.002] * 23)


def test_each_gans_losses_are_exact(tmp_path):
    path = write_script(
        tmp_path, scripts.GAN.replace("for step in range(STEPS):", "kept = []\nfor step in range(STEPS):")
    )
    text = path.read_text().replace(
        "    g_optimizer.step()\n", "    g_optimizer.step()\n    kept.append((d_loss.item(), g_loss.item()))\n"
    )
    path.write_text(text + f"torch.save(kept, {str(tmp_path / 'out.pt')!r})\n")
    d, g = (read_run(run) for run in run_script(path, [], tmp_path / "runs").runs)
    assert list(zip(d.ticks["loss"], g.ticks["loss"], strict=True)) == torch.load(tmp_path / "out.pt")


@pytest.mark.parametrize(
    ("kind", "first", "factor"), [("by hand", 0.01, 3.0), ("one cycle", 0.1, 3.0), ("plain", 0.1, 0.3)]
)
def test_a_rate_is_set_absolutely_and_the_schedule_and_ratios_stay(tmp_path, kind, first, factor):
    path = write_script(tmp_path, scripts.ALL_KINDS[kind])
    (own,) = run_script(path, [], tmp_path / "own").runs
    (scaled,) = run_script(path, [], tmp_path / "scaled", lr=first * factor).runs
    before, after = (read_run(run).ticks.filter(like="lr:").to_numpy() for run in (own, scaled))
    assert after == pytest.approx(before * factor)
    assert not np.allclose(before, after)


@pytest.mark.parametrize(
    "copied", ["copy.deepcopy((model, optimizer))", "pickle.loads(pickle.dumps((model, optimizer)))"]
)
def test_the_rate_of_an_optimizer_that_is_copied_or_read_is_set_too(tmp_path, copied):
    text = scripts.PLAIN.replace("for step in", f"import copy, pickle; model, optimizer = {copied}\nfor step in")
    done = run_script(write_script(tmp_path, text), [], tmp_path / "runs", lr=0.3)
    assert read_run(done.runs[0]).ticks["lr:SGD[0]"].tolist() == pytest.approx([0.3] * 23)


def test_the_scaled_training_is_the_one_with_that_rate_in_the_script(tmp_path):
    path = write_script(tmp_path, scripts.PLAIN)
    run_script(path, [], tmp_path / "runs", lr=0.25)
    scaled = torch.load(tmp_path / "out.pt")
    written = alone(write_script(tmp_path / "written", scripts.PLAIN.replace("lr=0.1", "lr=0.25")))
    assert all(torch.equal(scaled[name], written[name]) for name in written)


def test_replicates_move_the_scripts_own_seeds_and_none_else(tmp_path):
    path = write_script(tmp_path, scripts.PLAIN)
    own = alone(path)
    weights = []
    for replicate in range(3):
        run_script(path, [], tmp_path / "runs", replicate=replicate)
        weights.append(torch.load(tmp_path / "out.pt")["0.weight"])
    assert torch.equal(weights[0], own["0.weight"])
    assert not torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[2], weights[1])
    moved_by_hand = alone(write_script(tmp_path / "b", scripts.PLAIN.replace("seed(0)", f"seed({STRIDE})")))
    assert torch.equal(weights[1], moved_by_hand["0.weight"])


SEEDS = """
import random, numpy as np
random.seed(11); np.random.seed(seed=13); torch.manual_seed(17)
drawn = [random.random(), np.random.rand(), torch.rand(1).item()]
random.seed("word"); np.random.seed([1, 2]); torch.random.manual_seed(torch.tensor(19))
drawn += [random.random(), np.random.rand(), torch.rand(1).item()]
"""


@pytest.mark.parametrize("replicate", [0, 1, 5])
def test_every_seed_is_moved_by_the_same_amount(tmp_path, replicate):
    text = scripts.PLAIN.replace("torch.save(model.state_dict(), OUT)", SEEDS + "torch.save(drawn, OUT)")
    run_script(write_script(tmp_path, text), [], tmp_path / "runs", replicate=replicate)
    random.seed(moved(11, replicate, 2**63))
    np.random.seed(moved(13, replicate, 2**32))
    torch.manual_seed(moved(17, replicate, 2**63))
    expected = [random.random(), np.random.rand(), torch.rand(1).item()]
    random.seed("word")
    np.random.seed([1, 2])
    torch.manual_seed(moved(19, replicate, 2**63))
    expected += [random.random(), np.random.rand(), torch.rand(1).item()]
    assert torch.load(tmp_path / "out.pt") == expected


def test_the_seed_before_the_script_is_moved_too(tmp_path):
    text = scripts.PLAIN.replace("torch.manual_seed(0)", "")
    path = write_script(tmp_path, text)
    weights = []
    for seed, replicate in ((3, 0), (3, 0), (3, 1), (4, 0)):
        run_script(path, [], tmp_path / "runs", seed=seed, replicate=replicate)
        weights.append(torch.load(tmp_path / "out.pt")["0.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_arguments_exit_codes_and_neighbours_are_as_in_python(tmp_path, monkeypatch):
    path = write_script(tmp_path / "place", "from neighbour import NAME\nassert NAME == __name__\n" + scripts.ARGUMENTS)
    (tmp_path / "place" / "neighbour.py").write_text("NAME = '__main__'\n")
    monkeypatch.chdir(tmp_path)
    try:
        for code in (0, 3):
            done = run_script(path, ["--steps", "5", "--exit", str(code)], tmp_path / "runs")
            assert (done.exit_code, done.steps) == (code, 5)
    finally:
        sys.modules.pop("neighbour")
    assert (tmp_path / "5.pt").is_file()  # the working directory is ours


def test_a_script_finds_its_place_after_a_chdir(tmp_path, monkeypatch):
    """As in Python: __file__ is absolute and sys.argv[0] is what was given."""
    text = "import os, sys; os.chdir('..')\n" + scripts.PLAIN
    write_script(tmp_path / "place", text + "torch.save([__file__, *sys.argv, vars()['__annotations__']], OUT)\n")
    monkeypatch.chdir(tmp_path / "place")
    assert run_script("train.py", ["a"], tmp_path / "runs").exit_code == 0
    assert torch.load(tmp_path / "place" / "out.pt") == [str(tmp_path / "place" / "train.py"), "train.py", "a", {}]


def test_an_exception_is_told_as_python_tells_it(tmp_path, capsys):
    path = write_script(
        tmp_path, scripts.PLAIN.replace("    optimizer.step()\n", "    optimizer.step()\n    if step == 7: 1 / 0\n")
    )
    done = run_script(path, [], tmp_path / "runs")
    assert (done.exit_code, done.steps) == (1, 8)
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.rstrip().endswith("ZeroDivisionError: division by zero")
    assert told.count("File ") == 1
    assert str(path) in told
    assert read_run(done.runs[0]).info.ended_by == "ZeroDivisionError"


def test_an_exception_goes_to_the_scripts_own_hook(tmp_path, capsys):
    hook = "import sys; sys.excepthook = lambda kind, error, trace: print(kind.__name__, error, trace.tb_lineno)\n"
    before = sys.excepthook
    assert run_script(write_script(tmp_path, hook + scripts.PLAIN + "{}['a']\n"), [], tmp_path / "runs").exit_code == 1
    assert sys.excepthook is before
    lines = (hook + scripts.PLAIN).count("\n") + 1
    assert capsys.readouterr() == (f"KeyError 'a' {lines}\n", "")


def test_our_frames_are_cut_out_of_a_passs_traceback(tmp_path, capsys):
    text = scripts.PLAIN.replace("model = mlp()", "model = mlp()\nmodel[0].forward = lambda x: 1 / 0")
    assert run_script(write_script(tmp_path, text), [], tmp_path / "runs").exit_code == 1
    told = capsys.readouterr().err
    assert "integrations" not in told
    assert "runpy" not in told


def test_an_interrupt_closes_the_run_and_goes_on_up(tmp_path):
    text = scripts.PLAIN.replace(
        "    optimizer.step()\n", "    optimizer.step()\n    if step == 7: raise KeyboardInterrupt\n"
    )
    with pytest.raises(KeyboardInterrupt):
        run_script(write_script(tmp_path, text), [], tmp_path / "runs")
    info = read_run(tmp_path / "runs" / "model").info
    assert info.ended
    assert info.ended_by == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (scripts.NO_OPTIMIZER, "made no optimizer"),
        (scripts.NO_STEP, "no optimizer of the script stepped"),
        (scripts.NO_ACTIVATION, "Linear: the model has no activation to watch"),
    ],
)
def test_a_script_that_cannot_be_watched_is_told_so(tmp_path, text, words):
    with pytest.raises(ScriptError, match=words):
        run_script(write_script(tmp_path, text), [], tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_mistakes_are_told_before_the_script_begins(tmp_path):
    path = write_script(tmp_path, "raise AssertionError")
    with pytest.raises(ScriptError, match="no such script"):
        run_script(tmp_path / "nothing.py", [], tmp_path / "runs")
    with pytest.raises(ProfileError):
        run_script(path, [], tmp_path / "runs", profile="nothing")


def test_a_rate_of_zero_cannot_be_scaled(tmp_path):
    path = write_script(tmp_path, scripts.PLAIN.replace("lr=0.1", "lr=0.0"))
    with pytest.raises(ScriptError, match="made with lr=0"):
        run_script(path, [], tmp_path / "runs", lr=0.1)
    assert run_script(path, [], tmp_path / "runs").exit_code == 0


def test_a_teacher_and_a_part_called_before_the_whole_make_no_run(tmp_path):
    text = scripts.PLAIN.replace(
        "    a, b = batch(step)", "    a, b = batch(step)\n    teacher(a)\n    model[:2](a) if step == 0 else None"
    ).replace("model = mlp()", "model, teacher = mlp(), mlp()")
    done = run_script(write_script(tmp_path, text), [], tmp_path / "runs")
    assert [run.name for run in done.runs] == ["model"]
    assert len(read_run(done.runs[0]).sites) == 2


def test_a_whole_whose_part_was_called_before_another_model_takes_nobodys_folder(tmp_path):
    text = scripts.GAN.replace("for step in", "G[:2](torch.randn(3, 5)); D(x)\nfor step in")
    done = run_script(write_script(tmp_path, text), [], tmp_path / "runs")
    runs = {run.name: read_run(run) for run in done.runs}
    assert {name: run.sites[0].units for name, run in runs.items()} == {"model": 17, "model-2": 13}
    assert [run.gaps for run in runs.values()] == [(), ()]


def test_a_model_that_is_frozen_when_another_one_is_found_keeps_its_run(tmp_path):
    frozen = "D(x); D.requires_grad_(False); G(torch.randn(3, 5)); D.requires_grad_(True)"
    text = scripts.GAN.replace("for step in", f"{frozen}\nfor step in")
    done = run_script(write_script(tmp_path, text), [], tmp_path / "runs")
    assert [read_run(run).sites[0].units for run in done.runs] == [13, 17]


def test_a_module_is_run_by_its_name(tmp_path, monkeypatch):
    write_script(tmp_path, scripts.PLAIN, name="trainer.py")
    monkeypatch.chdir(tmp_path)
    done = run_script("trainer", [], tmp_path / "runs", module=True)
    assert (done.exit_code, done.steps) == (0, 23)


def test_once_all_is_found_calls_of_modules_are_torchs_own_again(tmp_path):
    text = scripts.PLAIN.replace(
        "    optimizer.step()\n",
        "    optimizer.step()\n    assert nn.Module.__call__ is nn.Module._wrapped_call_impl\n",
    )
    assert run_script(write_script(tmp_path, text), [], tmp_path / "runs").exit_code == 0


def test_many_calls_of_other_modules_before_the_training_hide_nothing(tmp_path):
    many = "loss_of = nn.MSELoss()\nfor _ in range(1500): loss_of(x, x)\n"
    text = scripts.PLAIN.replace("for step in range", many + "for step in range")
    assert run_script(write_script(tmp_path, text), [], tmp_path / "runs").steps == 23


def test_a_script_that_watches_itself_writes_below_the_folder(tmp_path):
    text = """
import deadneuron, torch
from deadneuron import watch
from torch import nn
model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with deadneuron.watch(model, optimizer, "runs/mine"), watch(model, optimizer, run="runs/second", every=3):
    for _ in range(7):
        optimizer.zero_grad()
        model(torch.randn(11, 3)).square().sum().backward()
        optimizer.step()
"""
    path = tmp_path / "own.py"
    path.write_text(text)
    for _ in range(2):  # a second training does not meet the first one's run
        done = run_script(path, [], tmp_path / "cell")
        assert done.exit_code == 0
    own = {folder.name: read_folder(folder) for folder in (tmp_path / "cell" / "own").iterdir()}
    assert {name: stored.info.sampling.every for name, stored in own.items()} == {"mine": 10, "second": 3}
    assert read_folder(done.runs[0]).windows[-1].last_step == 6
    assert not (tmp_path / "runs").exists()
