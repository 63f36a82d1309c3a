"""An optimizer's state against the live one: class, settings, names, numbers."""

from __future__ import annotations

import copy
import re
from itertools import pairwise

import pytest
import torch
from checkpoints.onfile import checkpoint, on_file, unread
from checkpoints.trainings import Convolutional, Dense, loss_of, split
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deadneuron.checkpoints.layouts.compose import compose
from deadneuron.checkpoints.layouts.contained import Found
from deadneuron.checkpoints.layouts.kinds import kind_of
from deadneuron.checkpoints.layouts.optimizers import saved_optimizer

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.03, momentum=0.9, nesterov=True),
    "SGD plain": lambda p: torch.optim.SGD(p, 0.03),
    "Adam": lambda p: torch.optim.Adam(p, 0.03),
    "Adam amsgrad": lambda p: torch.optim.Adam(p, 0.03, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.03),
    "AdamW by Adam": lambda p: torch.optim.Adam(p, 0.03, decoupled_weight_decay=True),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 0.03, fused=True),
    "NAdam": lambda p: torch.optim.NAdam(p, 0.03),
    "RAdam": lambda p: torch.optim.RAdam(p, 0.03, weight_decay=0.1),
    "Adamax": lambda p: torch.optim.Adamax(p, 0.03),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.03),
    "Adadelta": lambda p: torch.optim.Adadelta(p, 0.03),
    "ASGD": lambda p: torch.optim.ASGD(p, 0.03),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.003, centered=True, momentum=0.9),
    "RMSprop plain": lambda p: torch.optim.RMSprop(p, 0.003),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.003),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 0.003),
}


def trained(kind, make, steps=3):
    """A model and its optimizer after some updates."""
    model = kind()
    optimizer = make(model)
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(model, kind, step).backward()
        optimizer.step()
    return model, optimizer


def saved(model, optimizer, **more):
    return {"model": model.state_dict(), "optimizer": copy.deepcopy(optimizer.state_dict()), **more}


def agree(read, model, optimizer, links=None):
    """Every link, setting, tensor and number against the live objects. → names that are linked"""
    names = {p: name for name, p in model.named_parameters()}
    live = {names[p]: state for p, state in optimizer.state.items()}
    for group, real in zip(read.groups, optimizer.param_groups, strict=True):
        assert set(group.parameters) <= {names[p] for p in real["params"]}
        assert dict(group.settings) == {k: v for k, v in real.items() if k not in {"params", "param_names"}}
    for name, state in read.states.items():
        kept = {key: value for key, value in live[name].items() if value is not None}
        for key, value in state.items():
            real = kept.pop(key)
            if isinstance(value, float):
                assert value == float(real)
            else:
                assert torch.equal(value.whole(), real)
        assert all(value.shape != model.get_parameter(name).shape for value in kept.values())
    return set(read.states)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", [Dense, Convolutional])
def test_every_optimizer_of_torch_is_known_and_its_state_is_whole(name, kind):
    model, optimizer = trained(kind, lambda model: OPTIMIZERS[name](model.parameters()))
    read = checkpoint(saved(model, optimizer))
    (one,) = read.optimizers
    assert one.kind == name.split()[0]
    assert one.groups[0].name == f"{name.split()[0]}[0]"
    assert one.groups[0].parameters == tuple(name for name, _ in model.named_parameters())
    linked = agree(one, model, optimizer)
    assert linked == (set() if name == "SGD plain" else {name for name, _ in model.named_parameters()})
    assert read.gaps == ()


def test_muon_is_known_too():
    model, optimizer = trained(Dense, lambda model: torch.optim.Muon([p for p in model.parameters() if p.ndim == 2]))
    (one,) = checkpoint(saved(model, optimizer)).optimizers
    assert one.kind == "Muon"
    assert agree(one, model, optimizer) == {"stem.weight", "body.1.weight", "a_head.weight"}


def older(groups, decay):
    """As torch before 2.7 wrote Adam's and AdamW's groups."""
    kept = [{k: v for k, v in group.items() if k != "decoupled_weight_decay"} for group in groups]
    return [group | {"weight_decay": decay} for group in kept]


def test_older_adam_and_adamw_differ_by_nothing_but_their_decay():
    _, optimizer = trained(Dense, lambda model: torch.optim.AdamW(model.parameters()))
    content = optimizer.state_dict()
    states = [tuple(state) for state in content["state"].values()]
    assert kind_of(older(content["param_groups"], 0), states) == ("Adam", "")
    kind, why = kind_of(older(content["param_groups"], 0.1), states)
    assert kind is None
    assert "Adam or AdamW" in why


@pytest.mark.parametrize(
    ("settings", "state", "why"),
    [
        ({"lr": 1, "betas": (0.9, 0.99), "weight_decay": 0}, ["exp_avg"], "no optimizer of torch.optim"),  # Lion
        (
            {"lr": 1, "momentum": 0.9, "dampening": 0, "nesterov": False, "weight_decay": 0, "rho": 0.05},
            ["momentum_buffer"],
            "it is no SGD of torch.optim: it also has rho",
        ),  # SAM
        (
            {"lr": 1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0, "amsgrad": False},
            ["step", "exp_avg", "exp_avg_sq", "e"],
            "also has e",
        ),
        (
            {"lr": 1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0, "bias_correction": True},
            ["step", "exp_avg", "exp_avg_sq"],
            "no optimizer of torch.optim",
        ),  # LAMB, FusedAdam
        ({"lr": 1, "betas": (0.9, 0.99), "eps": 1e-8}, ["step", "exp_avg", "exp_avg_sq"], "no optimizer"),  # SparseAdam
        ({"lr": 1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0}, ["state1", "qmap1"], "quantised"),
    ],
)
def test_others_have_no_class_and_are_told(settings, state, why):
    kind, reason = kind_of([settings], [state])
    assert kind is None
    assert why in reason


def test_an_unknown_optimizer_is_told():
    group = {"lr": 1.0, "betas": (0.9, 0.99), "weight_decay": 0, "params": [0]}
    content = {"param_groups": [group], "state": {0: {"exp_avg": torch.ones(5, 3)}}}
    read = checkpoint({"model": {"a.weight": torch.ones(5, 3)}, "optimizer": content})
    assert read.optimizers[0].kind is None
    assert read.optimizers[0].groups[0].name == "optimizer[0]"
    assert read.gaps[0].where == "optimizer"
    assert "class is not told" in read.gaps[0].reason


def test_quantised_state_is_told_and_linked_to_nothing_that_could_be_replayed():
    state = {
        "step": 7,
        "state1": torch.zeros(5, 3, dtype=torch.uint8),
        "qmap1": torch.ones(256),
        "absmax1": torch.ones(1),
    }
    group = {"lr": 1.0, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0, "params": [0]}
    content = {"model": {"a.weight": torch.ones(5, 3)}, "optimizer": {"param_groups": [group], "state": {0: state}}}
    read = checkpoint(content)
    assert "quantised" in read.gaps[0].reason
    assert read.optimizers[0].kind is None
    assert read.step == 7
    assert "qmap1" not in read.optimizers[0].states["a.weight"]


def head_first(model):
    head, trunk = [*model.layers[3:].parameters()], [*model.layers[:3].parameters()]
    return [{"params": head}, {"params": trunk}]


@pytest.mark.parametrize(
    "groups",
    [
        split,  # transformers: decay first
        lambda model: split(model)[::-1],  # timm: without decay first
        head_first,
        lambda model: [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(model.parameters())],
    ],
)
def test_groups_as_people_make_them(groups):
    model, optimizer = trained(Convolutional, lambda model: torch.optim.Adam(groups(model), 0.01))
    read = checkpoint(saved(model, optimizer))
    linked = agree(read.optimizers[0], model, optimizer)
    left_out = {name for name, _ in model.named_parameters()} - linked
    # Vectors of one shape in groups of their own: whose is whose, nobody can tell.
    assert left_out == ({"layers.1.weight", "layers.1.bias"} if len(read.optimizers[0].groups) == 7 else set())
    assert bool(left_out) == any("do not tell whose state" in gap.reason for gap in read.gaps)


def test_a_norms_weight_and_bias_in_two_groups_are_told_by_their_decay():
    """transformers decays a batch norm's weight and not its bias: both have one shape."""

    def groups(model):
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        rest = [p for name, p in model.named_parameters() if not name.endswith("bias")]
        return [{"params": rest, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]

    model, optimizer = trained(Convolutional, lambda model: torch.optim.Adam(groups(model), 0.01))
    read = checkpoint(saved(model, optimizer))
    assert agree(read.optimizers[0], model, optimizer) == {name for name, _ in model.named_parameters()}
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.1  # nothing tells any more
    read = checkpoint(saved(model, optimizer))
    assert "layers.1.weight" not in agree(read.optimizers[0], model, optimizer)


def test_a_group_for_every_parameter_is_a_loop_over_them():
    """As mmcv and detectron2 make them."""
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
    optimizer = torch.optim.Adam([{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(model.parameters())])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    read = checkpoint(saved(model, optimizer))
    assert agree(read.optimizers[0], model, optimizer) == {name for name, _ in model.named_parameters()}
    assert [len(group.parameters) for group in read.optimizers[0].groups] == [1] * 8


def test_names_in_the_file_are_believed_in_any_order():
    def make(model):
        return torch.optim.Adam([(n, p) for n, p in reversed(list(model.named_parameters()))], 0.01)

    model, optimizer = trained(Convolutional, make)
    read = checkpoint(saved(model, optimizer))
    assert agree(read.optimizers[0], model, optimizer) == {name for name, _ in model.named_parameters()}
    assert read.gaps == ()


def test_names_of_an_inner_model_are_found_behind_its_prefix():
    model, optimizer = trained(Dense, lambda model: torch.optim.Adam(list(model.named_parameters()), 0.01))
    weights = {f"net.{name}": value for name, value in model.state_dict().items()}
    (one,) = checkpoint({"state_dict": weights, "optimizer": optimizer.state_dict()}).optimizers
    assert set(one.states) == set(weights)


def test_states_that_are_keyed_by_names_are_linked_by_them():
    model, optimizer = trained(Dense, lambda model: torch.optim.Adam(model.parameters(), 0.01))
    names = [name for name, _ in model.named_parameters()]
    content = optimizer.state_dict()
    content["state"] = {f"_orig_mod.{names[key]}": state for key, state in content["state"].items()}
    content["param_groups"][0]["params"] = [f"_orig_mod.{name}" for name in names]
    read = checkpoint({"model": model.state_dict(), "optimizer": content})
    assert agree(read.optimizers[0], model, optimizer) == set(names)


def test_frozen_parameters_and_own_buffers_are_passed_over():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Linear(7, 5)
            self.register_buffer("mask", torch.ones(5, 5))
            self.live = nn.Linear(5, 3)

        def forward(self, x):
            return self.live(torch.relu(self.frozen(x)) @ self.mask)

    model = Net()
    model.frozen.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.1)
    model(torch.ones(2, 7)).sum().backward()
    optimizer.step()
    read = checkpoint(saved(model, optimizer))
    assert agree(read.optimizers[0], model, optimizer) == {"live.weight", "live.bias"}


def test_tied_weights_are_linked_under_the_first_of_their_names():
    model = nn.Sequential(nn.Embedding(11, 5), nn.Linear(5, 5), nn.Linear(5, 11, bias=False))
    model[2].weight = model[0].weight
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    model(torch.arange(3)).sum().backward()
    optimizer.step()
    read = checkpoint(saved(model, optimizer))
    assert "2.weight" in read.weights
    assert agree(read.optimizers[0], model, optimizer) == {"0.weight", "1.weight", "1.bias"}


def test_parameters_without_gradient_have_no_state_and_leave_the_others_theirs():
    model = Dense()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    model.stem(torch.ones(2, 7)).sum().backward()
    optimizer.step()
    read = checkpoint(saved(model, optimizer))
    assert agree(read.optimizers[0], model, optimizer) == {"stem.weight", "stem.bias"}
    assert len(read.optimizers[0].groups[0].parameters) == 6


def test_plain_sgd_in_two_groups_tells_no_parameter_its_group():
    model, optimizer = trained(Dense, lambda model: torch.optim.SGD(split(model), 0.1))
    read = checkpoint(saved(model, optimizer))
    assert [group.parameters for group in read.optimizers[0].groups] == [(), ()]
    assert "which group holds" in read.gaps[0].reason
    # Where the groups have one rule, it does not matter.
    model, optimizer = trained(Dense, lambda model: torch.optim.SGD(split(model, decay=0.0), 0.1))
    read = checkpoint(saved(model, optimizer))
    assert {*read.optimizers[0].groups[0].parameters, *read.optimizers[0].groups[1].parameters} == {*model.state_dict()}
    assert read.gaps == ()


def test_a_state_of_another_shape_is_left_out():
    model, optimizer = trained(Dense, lambda model: torch.optim.Adam(list(model.named_parameters()), 0.01))
    content = saved(model, optimizer)
    content["optimizer"]["state"][2]["exp_avg"] = torch.ones(11, 7)
    read = checkpoint(content)
    assert "body.1.weight" not in read.optimizers[0].states
    assert "body.1.weight" not in read.optimizers[0].groups[0].parameters
    assert "another shape" in read.gaps[0].reason
    del content["optimizer"]["param_groups"][0]["param_names"]
    read = checkpoint(content)
    assert "body.1.weight" not in read.optimizers[0].states


def test_an_optimizer_of_another_model_is_linked_to_nothing():
    _, optimizer = trained(Convolutional, lambda model: torch.optim.Adam(model.parameters(), 0.01))
    read = checkpoint(saved(Dense(), optimizer))
    assert read.optimizers[0].states == {}
    assert read.gaps[0].reason.startswith("its 7 parameters do not fit the model's 6")


def test_a_rate_that_is_a_tensor_is_a_number():
    model, optimizer = trained(Dense, lambda model: torch.optim.Adam(model.parameters(), torch.tensor(0.1)))
    (one,) = checkpoint(saved(model, optimizer)).optimizers
    assert one.groups[0].settings["lr"] == float(torch.tensor(0.1))


def test_weights_and_moments_are_not_read():
    weights = {"a.weight": unread(5, 3), "a.bias": unread(5)}
    state = {"exp_avg": unread(5, 3), "exp_avg_sq": unread(5, 3), "step": 3}
    group = {"lr": 1.0, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "params": [0, 1]}
    read = checkpoint({"model": weights, "optimizer": {"param_groups": [group], "state": {0: state}}})
    assert read.step == 3
    assert read.optimizers[0].states["a.weight"]["exp_avg"] is state["exp_avg"]
    assert read.optimizers[0].groups[0].parameters == ("a.weight", "a.bias")


@pytest.mark.parametrize(
    "broken",
    [
        {"param_groups": [], "state": {}},
        {"param_groups": [{"params": [0, 0]}], "state": {}},
        {"param_groups": [{"params": [0]}, {"params": [0]}], "state": {}},
        {"param_groups": [{"params": [None]}], "state": {}},
        {"param_groups": [{}], "state": {}},
        {"param_groups": {"params": [0]}, "state": {}},
        {"param_groups": [{"params": [0]}]},
        [1],
    ],
)
def test_what_has_not_an_optimizers_form_is_none(broken):
    assert saved_optimizer("optimizer", broken) is None


@st.composite
def trainings(draw):
    """A random model whose optimizer holds random parameters in random groups, each group in the model's order."""
    widths = draw(st.lists(st.sampled_from([2, 3, 5]), min_size=2, max_size=5))
    parts = []
    for inner, outer in pairwise(widths):
        parts.append(nn.Linear(inner, outer, bias=draw(st.booleans())))
        if draw(st.booleans()):
            parts.append(nn.LayerNorm(outer))
        parts.append(nn.ReLU())
    names = draw(st.permutations(["enc", "mid", "zip", "dec", "out"])) if draw(st.booleans()) else None
    model = nn.Sequential()
    for index, part in enumerate(parts):
        model.add_module(f"{names[index % 5]}{index // 5}" if names else str(index), part)
    owner = [draw(st.sampled_from([0, 0, 0, 0, 1, 2, None])) for _ in model.parameters()]
    groups = [[p for p, own in zip(model.parameters(), owner, strict=True) if own == group] for group in range(3)]
    groups = [{"params": group, "lr": 0.1 + i} for i, group in enumerate(groups) if group]
    return model, groups, draw(st.sampled_from(["Adam", "SGD", "RMSprop plain", "SGD plain"])), draw(st.booleans())


@given(trainings())
@settings(max_examples=150, deadline=None)
def test_links_are_right_or_refused(training):
    model, groups, kind, is_sorted = training
    if not groups:
        return
    optimizer = OPTIMIZERS[kind](groups)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    weights = model.state_dict()
    if is_sorted:  # as safetensors leaves them
        content = on_file(dict(sorted(weights.items())))
        one = saved_optimizer("optimizer", on_file(copy.deepcopy(optimizer.state_dict())))
        read = compose(Found("safetensors", {"": content}, sorted=True, optimizers=(one,)), "x", ("x", "y"))
        if read.ordered:
            assert [n for n in read.weights if re.search("weight|bias", n)] == [n for n, _ in model.named_parameters()]
    else:
        read = checkpoint(saved(model, optimizer))
    linked = agree(read.optimizers[0], model, optimizer)
    held = {name for name, p in model.named_parameters() for group in groups if any(p is q for q in group["params"])}
    members = {name for group in read.optimizers[0].groups for name in group.parameters}
    assert linked <= members <= held
    assert members == held or read.gaps
