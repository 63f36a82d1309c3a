"""The census against plain hooks and plain Python."""

from __future__ import annotations

import math
from collections import UserDict

import pytest
import torch
from making import PROFILE
from torch import nn
from watching import Shared
from zoo import active_by_hand, hooks_of

import deadneuron
from deadneuron.errors import BranchError, NoSitesError
from deadneuron.experiments.census import take_census
from deadneuron.measure.rng import differing, rng_state

RELU = (0.0, math.inf)
SAMPLING = PROFILE.sampling


def by_hooks(model, layers, batches, axis, gate=RELU, call=None):
    """Rows inside the gate of what each of these layers gives, in eval mode."""
    inputs = {name: [] for name in layers}
    handles = [
        model.get_submodule(name).register_forward_hook(lambda m, a, out, name=name: inputs[name].append(out.clone()))
        for name in layers
    ]
    model.eval()
    with torch.no_grad():
        for batch in batches:
            (call or model)(batch)
    model.train()
    for handle in handles:
        handle.remove()
    return {name: active_by_hand(torch.cat(outs), axis, gate) for name, outs in inputs.items()}


def rows(census):
    return {name: active.tolist() for name, active in census.active.items()}


def test_modules_batch_norm_and_dropout_leave_no_trace():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(45, 7), nn.ReLU6()
    )
    batches = [torch.randn(11, 2, 5, 5), torch.randn(3, 2, 5, 5)]
    expected = by_hooks(model, ["1"], batches, 1)
    expected |= by_hooks(model, ["5"], batches, 1, (0.0, 6.0))
    hooks, state, numbers = hooks_of(model), {k: v.clone() for k, v in model.state_dict().items()}, rng_state()
    census = take_census(model, batches, sampling=SAMPLING)
    assert rows(census) == {"2": expected["1"], "6": expected["5"]}
    assert (census.examples, census.gaps) == (14, ())
    assert hooks_of(model) == hooks
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert differing(numbers, rng_state()) == []
    assert all(parameter.grad is None for parameter in model.parameters())


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, x, scale=1.0):
        return torch.relu(self.two(nn.functional.relu(self.one(x)))) * scale


@pytest.mark.parametrize("batch", [tuple, list, "dict", "own mapping"])
def test_functions_and_kinds_of_batches(batch):
    model, tensors = Functional(), [torch.randn(11, 5) for _ in range(6)]
    expected = by_hooks(model, ["one", "two"], tensors, 1)
    if batch in (tuple, list):
        batches = [batch([x, torch.zeros(11)]) for x in tensors]
    else:
        batches = [(dict if batch == "dict" else UserDict)({"x": x, "labels": torch.zeros(11)}) for x in tensors]
    census = take_census(model, batches, sampling=SAMPLING)
    assert sorted(rows(census).values()) == sorted(expected.values())
    assert census.examples == 66


def test_a_forward_of_the_user():
    model, batches = Functional(), [{"deep": {"x": torch.randn(7, 5)}} for _ in range(2)]
    census = take_census(model, batches, sampling=SAMPLING, forward=lambda model, batch: model(batch["deep"]["x"]))
    expected = by_hooks(model, ["one", "two"], batches, 1, call=lambda batch: model(batch["deep"]["x"]))
    assert sorted(rows(census).values()) == sorted(expected.values())


def test_a_shared_activation_is_named_as_a_monitor_names_it(run):
    model = Shared(depth=2)
    batch = torch.randn(11, model.layers[0].in_features)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    with deadneuron.watch(model, optimizer, run) as monitor:
        model(batch).sum().backward()
        optimizer.step()
        named = [site.name for site in monitor.sites]
        watched = take_census(model, [batch], sampling=SAMPLING)
    expected = by_hooks(model, ["layers.0", "layers.1"], [batch], 1)
    assert rows(watched) == dict(zip(named, expected.values(), strict=True))
    assert rows(take_census(model, [batch], sampling=SAMPLING)) == rows(watched)


def test_what_a_monitor_was_told_to_leave_out_or_to_take_as_an_activation(run):
    class Own(nn.Module):
        def forward(self, x):
            return x.clamp(min=0)

    model = nn.Sequential(nn.Linear(5, 7), Own(), nn.Linear(7, 3), nn.ReLU())
    batch = torch.randn(11, 5)
    with deadneuron.watch(model, None, run, activations={"Own": RELU}, include=["1"]):
        assert rows(take_census(model, [batch], sampling=SAMPLING)) == {"1": by_hooks(model, ["0"], [batch], 1)["0"]}


def test_a_transformer_layer_takes_no_path_around_its_activation():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 11, batch_first=True), 2, enable_nested_tensor=False)
    batches = [torch.randn(3, 5, 8), torch.randn(2, 5, 8)]
    census = take_census(model, batches, sampling=SAMPLING)
    with torch.enable_grad():
        found = []
        handles = [m.linear1.register_forward_hook(lambda m, a, out: found.append(out.detach())) for m in model.layers]
        model.eval()
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    expected = [active_by_hand(torch.cat([found[i], found[i + 2]]), 2, RELU) for i in range(2)]
    assert list(rows(census).values()) == expected
    assert census.examples == 5


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile looks at it itself
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_models(whole):
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Sequential(nn.Linear(7, 3), nn.ReLU()))
    batch = torch.randn(11, 5)
    expected = list(by_hooks(model, ["0", "2.0"], [batch], 1).values())
    if whole:
        compiled = torch.compile(model, backend="eager")
    else:
        model[2] = torch.compile(model[2], backend="eager")
        compiled = model
    compiled(batch)
    assert list(rows(take_census(compiled, [batch], sampling=SAMPLING)).values()) == expected


def test_clear_errors():
    with pytest.raises(NoSitesError):
        take_census(nn.Linear(5, 7), [torch.randn(3, 5)], sampling=SAMPLING)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU())
    with pytest.raises(BranchError, match=r"RuntimeError: .* \(tuple\): give forward="):
        take_census(model, [(torch.randn(3, 7), 1)], sampling=SAMPLING)
    with pytest.raises(BranchError, match=r"neither a tensor nor a dict \(str\)"):
        take_census(model, ["text"], sampling=SAMPLING)
    with pytest.raises(BranchError, match="no activation was called"):
        take_census(model, [torch.randn(3, 5)], sampling=SAMPLING, forward=lambda model, batch: model[0](batch))
    assert model.training
