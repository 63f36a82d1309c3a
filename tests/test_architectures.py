"""Real architectures that nobody here wrote: every activation that runs in them is counted to the row, or named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, loss_of
from matching import problems
from oracle import Oracle
from torch import nn

import deadneuron
from deadneuron.store.reader import read_folder

BURIED = -1e4  # a bias that no input of these models lifts


def watched(run, model, inputs):
    """Two training steps at rate 0 and one evaluation pass, both phases counted, and all heard by the oracle."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    options = {"phases": ("train", "eval"), "every": 2, "overwrite": True}
    with deadneuron.watch(model, optimizer, run, **options) as monitor, Oracle(model) as oracle:
        for _ in range(2):
            optimizer.zero_grad()
            loss_of(model.train()(**inputs)).backward()
            optimizer.step()
        with torch.no_grad():
            model.eval()(**inputs)
    return monitor, oracle, read_folder(run)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_activation_of_an_architecture_is_a_site_with_exact_counts_or_a_named_gap(name, run):
    model, inputs = ARCHITECTURES[name]()
    *_, first = watched(run, model, inputs)
    parameters = dict(model.named_parameters())
    buried = {}
    with torch.no_grad():
        for site in first.info.sites:
            bias = parameters.get(site.feeder or "")
            if bias is not None and bias.dim() == 1 and site.feeder.endswith("bias") and len(bias) >= site.units > 2:
                bias[[0, site.units - 1]] = BURIED
                buried[site.name] = {0, site.units - 1} if len(bias) == site.units else set()
    monitor, oracle, stored = watched(run, model, inputs)
    assert problems(stored.info.sites, stored.windows, oracle.calls, monitor.gaps) == []
    assert not any("Error" in gap.reason for gap in monitor.gaps)
    for site in stored.info.sites:
        active = sum(window.active for window in stored.windows if window.site == site.number)
        if site.gate[0] > -torch.inf:
            assert buried.get(site.name, set()) <= set((active == 0).nonzero()[0].tolist()), site.name


def counted(stored):
    """Rows and active rows of each site, by its name and feeder."""
    totals = {}
    for window in stored.windows:
        site = stored.info.sites[window.site]
        before = totals.get((site.name, site.feeder), 0)
        totals[site.name, site.feeder] = before + np.array([window.rows, *window.active])
    return {key: total.tolist() for key, total in totals.items()}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own, while tracing
@pytest.mark.parametrize("name", ["opt", "resnet", "whisper", "convnext"])
def test_a_compiled_architecture_is_counted_as_it_is_uncompiled(name, run):
    runs = {}
    for backend in ("", "aot_eager"):
        torch.manual_seed(0)
        torch.compiler.reset()
        model, inputs = ARCHITECTURES[name]()
        for module in model.train().modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # compiled dropout may draw otherwise
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with deadneuron.watch(model, optimizer, run / (backend or "eager"), every=2):
            called = torch.compile(model, backend=backend, fullgraph=True) if backend else model
            for _ in range(2):
                optimizer.zero_grad()
                loss_of(called(**inputs)).backward()
                optimizer.step()
        runs[backend] = counted(read_folder(run / (backend or "eager")))
    torch.compiler.reset()
    assert runs["aot_eager"] == runs[""] != {}
