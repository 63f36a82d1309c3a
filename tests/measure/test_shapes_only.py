"""Passes that compute nothing, of fake and of meta tensors, are not counted: in them no unit is active."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from watching import added_up, frozen_sgd
from zoo import BATCH, INPUTS, NEVER, step_once, thresholds_linear

import deadneuron


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.act, self.fc2 = thresholds_linear([-9.0, NEVER]), nn.ReLU(), nn.Linear(2, 1)

    def forward(self, x):
        return F.relu(self.fc2(self.act(self.fc1(x))))


def fake_pass(model):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model(mode.from_tensor(torch.ones(5, INPUTS)))


def meta_pass(model):
    shapes = {name: value.detach().to("meta") for name, value in model.named_parameters()}
    torch.func.functional_call(model, shapes, (torch.ones(5, INPUTS, device="meta"),))


@pytest.mark.parametrize("pass_without_data", [fake_pass, meta_pass])
def test_a_pass_without_data_counts_nothing(pass_without_data, tmp_path):
    model = Both()
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(3):
            pass_without_data(model)
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
    assert monitor.gaps == ()
    windows = added_up(tmp_path / "run").windows
    assert [window.rows for window in windows] == [3 * BATCH, 3 * BATCH]
    assert windows[0].active.tolist() == [3 * BATCH, 0]
