"""What lies where in a file, whatever its maker called it."""

from __future__ import annotations

import copy

import pytest
import torch
from checkpoints.onfile import checkpoint, tree, unread
from torch import nn

from deadneuron.checkpoints.contents import Opaque, Tree
from deadneuron.checkpoints.layouts.contained import layout_of
from deadneuron.checkpoints.layouts.names import natural, plain_names, without_wrappers
from deadneuron.errors import CheckpointError

WEIGHTS = {"fc.weight": torch.ones(5, 3), "fc.bias": torch.ones(5)}
OTHER = {"fc.weight": torch.zeros(5, 3), "fc.bias": torch.zeros(5)}
MORE = {"out.weight": torch.ones(7, 2), "out.bias": torch.ones(7)}


def adam(weights=WEIGHTS):
    parameters = [nn.Parameter(value.clone()) for value in weights.values()]
    optimizer = torch.optim.Adam(parameters, 0.1)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return copy.deepcopy(optimizer.state_dict())


def cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], 0.1)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7).state_dict()


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"model": WEIGHTS},
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model_state_dict": WEIGHTS},
        {"net": WEIGHTS, "acc": 93.1, "epoch": 7},
        {"module": WEIGHTS},
        {"params": WEIGHTS, "params_ema": OTHER},
        {"model": {"state_dict": WEIGHTS}},
        {"checkpoint": {"model": WEIGHTS, "epoch": 3}},
        {"state": {"model": WEIGHTS, "optimizers": {"Adam": {"x": 1}}}},
        {"my_net": WEIGHTS},  # the only one
        {"ema": OTHER, "model": WEIGHTS},
        {"model_ema": OTHER, "model": WEIGHTS},
        {"state_dict": WEIGHTS, "state_dict_ema": OTHER},
        {"state_dict": OTHER, "current_model_state": WEIGHTS},  # Lightning's WeightAveraging
        {"model": WEIGHTS, "target": OTHER},
        {"model": WEIGHTS, "ema": {"decay": 0.9, "shadow": OTHER}},
        {"model": WEIGHTS, "rng_state": {"torch": torch.zeros(8, dtype=torch.uint8)}, "loss": torch.ones(())},
        {"model": WEIGHTS, "metrics": {"a.weight": torch.ones(3)}},
        {"model": WEIGHTS, "optimizer": {}, "scaler": {"scale": 2.0}},
        {"model": {**WEIGHTS, "_extra_state": {"a": 1}}},
        [{"model": WEIGHTS}][0],
    ],
)
def test_the_trained_weights_are_found(content):
    read = checkpoint(content)
    assert set(read.weights) == set(WEIGHTS)
    assert torch.equal(read.weights["fc.weight"].whole(), torch.ones(5, 3))
    assert not read.averaged
    assert read.optimizers == ()
    assert read.gaps == ()


@pytest.mark.parametrize(
    "content",
    [
        {"ema": WEIGHTS},
        {"ema_state_dict": WEIGHTS},
        {"model_ema": WEIGHTS, "epoch": 3},
        {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in WEIGHTS.items()}},
    ],
)
def test_averages_alone_are_told(content):
    read = checkpoint(content)
    assert set(read.weights) == set(WEIGHTS)
    assert read.averaged


def test_averages_with_an_optimizer_are_a_gap():
    assert "averages over steps" in checkpoint({"ema": WEIGHTS, "optimizer": adam()}).gaps[0].reason


def test_models_side_by_side_keep_their_names_apart():
    content = {"actor_state_dict": WEIGHTS, "critic_state_dict": OTHER}
    read = checkpoint({**content, "actor_optimizer": adam(), "critic_optimizer": adam()})
    assert list(read.weights) == ["actor.fc.weight", "actor.fc.bias", "critic.fc.weight", "critic.fc.bias"]
    first, second = read.optimizers
    assert set(first.states) == {"actor.fc.weight", "actor.fc.bias"}
    assert set(second.states) == {"critic.fc.weight", "critic.fc.bias"}
    assert read.gaps == ()
    read = checkpoint({**content, "optimizers": [adam(), adam()]})  # whose is whose?
    assert [one.states for one in read.optimizers] == [{}, {}]
    assert len(read.gaps) == 2
    read = checkpoint({"net_G": WEIGHTS, "net_D": OTHER, "optimizer_D": adam(), "optimizer_G": adam()})
    assert set(read.optimizers[0].states) == {"net_D.fc.weight", "net_D.fc.bias"}


def test_models_of_other_shapes_are_linked_by_shape_in_any_order():
    read = checkpoint({"g": WEIGHTS, "d": MORE, "optimizers": [adam(MORE), adam(WEIGHTS)]})
    assert set(read.optimizers[0].states) == {"d.out.weight", "d.out.bias"}
    assert set(read.optimizers[1].states) == {"g.fc.weight", "g.fc.bias"}
    read = checkpoint({"g": WEIGHTS, "d": MORE, "optimizer": adam({**MORE, **WEIGHTS})})
    assert len(read.optimizers[0].states) == 4


def test_weights_beside_the_model_are_a_gap():
    read = checkpoint({"model": WEIGHTS, "criterion": MORE})
    assert set(read.weights) == set(WEIGHTS)
    assert "criterion" in read.gaps[0].reason


@pytest.mark.parametrize(
    "where",
    [
        lambda o, s: {"optimizer": o, "scheduler": s},
        lambda o, s: {"optimizer_state_dict": o, "lr_scheduler": s},
        lambda o, s: {"optim": o, "scheduler_state_dict": s},
        lambda o, s: {"optimizer_states": [o], "lr_schedulers": [s]},
        lambda o, s: {"optimizers": {"Adam": o}, "schedulers": {"Cosine": s}},
        lambda o, s: {"state": {"optimizer": o, "scheduler": s}},
    ],
)
def test_optimizers_and_schedulers_are_found_by_their_form(where):
    read = checkpoint({"model": WEIGHTS, **where(adam(), cosine())})
    assert read.optimizers[0].kind == "Adam"
    assert set(read.optimizers[0].states) == set(WEIGHTS)
    assert [state["T_max"] for state in read.schedulers] == [7]
    assert read.step == 1
    assert read.step_from == "the optimizer's state"


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (["module.a.w", "module.b.w"], ["a.w", "b.w"]),
        (["module.a.w", "b.w"], ["module.a.w", "b.w"]),  # an attribute of the model
        (["_orig_mod.a.w", "_orig_mod.b.w"], ["a.w", "b.w"]),
        (["module._orig_mod.a.w"], ["a.w"]),
        (["_orig_mod.module.a.w"], ["a.w"]),
        (["a._orig_mod.w", "b.w"], ["a.w", "b.w"]),  # a compiled part
        (["_fsdp_wrapped_module.a._checkpoint_wrapped_module.w"], ["a.w"]),
        (["model.a.w"], ["model.a.w"]),  # Lightning's attribute
        (["module.module.w"], ["module.w"]),
        ([], []),
    ],
)
def test_wrappers_are_taken_off_names(names, plain):
    assert plain_names(names) == plain
    assert list(without_wrappers(dict.fromkeys(names, 0))) == plain


def test_names_that_would_become_one_stay():
    names = ["a._orig_mod.w", "a.w"]
    assert list(without_wrappers(dict.fromkeys(names, 0))) == names


def test_an_average_of_a_wrapped_model_is_plain():
    read = checkpoint({"n_averaged": torch.tensor(3), "module.module.fc.weight": torch.ones(5, 3)})
    assert list(read.weights) == ["fc.weight"]


def test_real_wrappers_have_the_names_that_a_live_run_has():
    from deadneuron.measure.sites import plain_name

    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    for wrapped in (
        torch.compile(model, backend="eager"),
        torch.optim.swa_utils.AveragedModel(model),
        nn.DataParallel(torch.compile(model, backend="eager")),
    ):
        assert list(checkpoint(wrapped.state_dict()).weights) == list(model.state_dict())
        live = [plain_name(name) for name, _ in wrapped.named_parameters()]
        assert live == list(model.state_dict())


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "it holds nothing"),
        ({"epoch": 3, "lr": 0.1}, "it holds epoch, lr"),
        ({"optimizer": adam()}, "it holds optimizer"),
        ({"loss": torch.ones(3)}, None),
        ([torch.ones(3)], "no weights by name"),
        (torch.ones(3), "no weights by name"),
        (3, "no weights by name"),
        ({"ids": torch.ones(3, dtype=torch.int64)}, "it holds ids"),
        ({"module": {}, "ds_config": {}, "ds_version": "0.9"}, "DeepSpeed"),
        ({"model": WEIGHTS, "checkpoint_version": 3.0, "rng_state": []}, "Megatron"),
    ],
)
def test_files_without_weights_are_refused_with_what_they_hold(content, what):
    if what is None:  # one tensor by name is a state dict
        assert list(checkpoint(content).weights) == ["loss"]
        return
    with pytest.raises(CheckpointError, match=what):
        checkpoint(content)


PICKLED = Opaque("ultralytics.nn.DetectionModel")


@pytest.mark.parametrize("root", [PICKLED, {"model": PICKLED}])
def test_a_pickled_model_is_refused_by_its_class(root):
    with pytest.raises(CheckpointError, match=r"a whole pickled object \(ultralytics\.nn\.DetectionModel\)"):
        layout_of(Tree("model.pt", "torch zip", root))


@pytest.mark.parametrize(
    ("content", "step", "source"),
    [
        ({"global_step": 7, "step": 9}, 7, "global_step"),
        ({"iteration": 7}, 7, "iteration"),
        ({"num_updates": torch.tensor(7)}, 7, "num_updates"),
        ({"meta": {"iter": 7, "epoch": 3}}, 7, "meta.iter"),
        ({"epoch": 7}, None, ""),
        ({"step": True, "iter": 2.5}, None, ""),
        ({"step": -3}, None, ""),
        ({"step": 3.0}, 3, "step"),
        ({"step": 7, "optimizer": adam()}, 1, "the optimizer's state (step says 7)"),
        ({"step": 1, "optimizer": adam()}, 1, "the optimizer's state"),
    ],
)
def test_the_step_and_what_told_it(content, step, source):
    read = checkpoint({"model": WEIGHTS, **content})
    assert (read.step, read.step_from) == (step, source)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_1000.pt", 1000),
        ("step-1000.ckpt", 1000),
        ("epoch=3-step=1200.ckpt", 1200),
        ("epoch=3-step=1200-v1.ckpt", 1200),
        ("iter_500.pth", 500),
        ("model_iteration500.pth", 500),
        ("ckpt_step10k.pt", 10000),
        ("1000_steps.pt", 1000),
        ("rl_model_40000_steps.pt", 40000),
        ("global_step120.pt", 120),
        ("checkpoint-500", 500),
        ("step_0042.safetensors", 42),
        ("step_1000_last.pt", 1000),
        ("step_7.pth.tar", 7),
        ("checkpoint_5", None),  # the fifth time that Accelerate saved
        ("checkpoint-5.pth.tar", None),
        ("epoch_7.pt", None),
        ("model_500.pt", None),
        ("step_10M.pt", None),
        ("step_1.5.pt", None),
        ("step_3_step_4.pt", None),
        ("timestep.pt", None),
        ("best.pt", None),
        ("footsteps_3.pt", None),
        ("model.pt", None),
    ],
)
def test_steps_in_names(name, step):
    read = checkpoint({"model": WEIGHTS}, name)
    assert (read.step, read.step_from) == (step, "the file's name" if step is not None else "")


def test_an_epochs_end_is_told_by_files_that_count_nothing_else():
    assert checkpoint({"model": WEIGHTS, "epoch": 3}).epoch_ended
    assert not checkpoint({"model": WEIGHTS, "epoch": 3, "global_step": 9}).epoch_ended
    assert not checkpoint({"model": WEIGHTS}).epoch_ended


def test_integers_and_statistics_are_no_parameters():
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 1, 3, 3)).sum().backward()
    optimizer.step()
    read = checkpoint({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    assert "1.num_batches_tracked" in read.weights
    assert set(read.optimizers[0].states) == {name for name, _ in model.named_parameters()}


def test_nothing_is_read_to_tell_a_layout():
    assert list(checkpoint({"model": {"a.weight": unread(10**9, 10**9)}}).weights) == ["a.weight"]


def test_deep_and_wide_files_end():
    deep = {"model": WEIGHTS}
    for _ in range(50):
        deep = {"x": deep}
    with pytest.raises(CheckpointError):
        layout_of(tree(deep))
    wide = {"model": WEIGHTS, "list": [{"a": [{}] * 300}] * 300}
    assert set(layout_of(tree(wide)).models[""]) == set(WEIGHTS)


def test_numbers_in_names_sort_by_size():
    names = ["layer.10.w", "layer.9.w", "layer.w", "Layer.1"]
    assert sorted(names, key=natural) == ["Layer.1", "layer.9.w", "layer.10.w", "layer.w"]
