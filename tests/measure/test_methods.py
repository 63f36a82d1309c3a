"""Models that are driven by their methods, where no hook hears the functions that they call."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.functional import silu
from watching import frozen_sgd
from zoo import BATCH, INPUTS

import deadneuron
from deadneuron.measure.methods import mentions_functions


class Coder(nn.Module):
    """Its encoder ends in a function, its decoder in a module."""

    def __init__(self):
        super().__init__()
        self.fc, self.out, self.act = nn.Linear(INPUTS, 5), nn.Linear(5, 4), nn.ReLU()

    def encode(self, x):
        return F.relu(self.fc(x))

    def decode(self, h):
        return self.act(self.out(h))

    def forward(self, x):
        return self.decode(self.encode(x))


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.coder = Coder()

    def forward(self, x):
        return self.coder.decode(self.coder.encode(x))


def gaps_and_sites(model, call, run, steps=5, **options):
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, **options) as monitor:
        for step in range(steps):
            call(model, torch.randn(BATCH, INPUTS), step)
            optimizer.step()
    return {gap.where: gap.reason for gap in monitor.gaps}, [site.name for site in monitor.sites]


@pytest.mark.parametrize(
    "call",
    [lambda model, x, step: model.decode(model.encode(x)), lambda model, x, step: model.forward(x)],
    ids=["its methods", "forward by name"],
)
def test_functions_of_a_model_whose_hooks_are_not_called_are_a_gap(call, run):
    gaps, sites = gaps_and_sites(Coder(), call, run)
    assert sites == ["act"]
    assert list(gaps) == ["Coder"]
    assert "never called as module(x)" in gaps["Coder"]


def test_methods_that_run_inside_another_forward_are_seen(run):
    assert gaps_and_sites(Around(), lambda model, x, step: model(x), run) == ({}, ["relu()", "coder.act"])


def test_a_part_that_was_left_out_is_no_gap(run):
    def call(model, x, step):
        return model.decode(model.encode(x))

    assert gaps_and_sites(Coder(), call, run, include="act")[0] == {}


def test_a_part_that_runs_for_the_first_time_late_is_looked_at_when_it_does(run):
    pair = nn.ModuleDict({"first": nn.Sequential(nn.Linear(INPUTS, 4), nn.ReLU()), "second": Coder()})
    gaps, sites = gaps_and_sites(pair, lambda pair, x, step: pair["second" if step == 9 else "first"](x), run, 10)
    assert sites == ["first.1", "second.relu()", "second.act"]
    assert list(gaps) == ["second.relu()"], "which says that earlier calls might have gone unseen"


def helper(x):
    return silu(x)


class ByHelper(nn.Module):
    def embed(self, x):
        return helper(x)


class ByMethod(nn.Module):
    @torch.no_grad()
    def embed(self, x):
        return [h.sigmoid() for h in x]


class ByAttribute(nn.Module):
    def __init__(self):
        super().__init__()
        self.chosen = torch.tanh


class Silent(nn.Module):
    def embed(self, x):
        return x.clamp(-1, 1).max(0)


@pytest.mark.parametrize(
    ("kind", "does"), [(Coder, True), (ByHelper, True), (ByMethod, True), (ByAttribute, True), (Silent, False)]
)
def test_whether_a_class_names_an_activation_is_read_from_its_code(kind, does):
    assert mentions_functions(kind()) is does
