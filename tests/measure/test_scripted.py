"""Models of which a part was made by torch.jit."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from watching import frozen_sgd
from zoo import step_once

import deadneuron
from deadneuron.errors import NoSitesError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.*deprecated:DeprecationWarning")


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.fc, self.act, self.inner = nn.Linear(6, 8), nn.ReLU(), inner

    def forward(self, x):
        return self.inner(self.act(self.fc(x)))


def scripted():
    return torch.jit.script(nn.Sequential(nn.Linear(8, 4), nn.ReLU()))


def traced():
    return torch.jit.trace(nn.Sequential(nn.Linear(8, 4), nn.ReLU()), torch.randn(2, 8))


@pytest.mark.parametrize("made", [scripted, traced])
def test_a_part_that_torch_jit_made_is_a_gap_and_the_rest_is_counted(made, tmp_path):
    model = Outer(made())
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(3):
            step_once(model, optimizer, torch.randn(7, 6))
        assert [site.name for site in monitor.sites] == ["act"]
    assert [gap.where for gap in monitor.gaps] == ["inner"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in (model, model.fc, model.act))


def test_a_model_that_torch_jit_made_as_a_whole_has_nothing_to_watch(tmp_path):
    model = scripted()
    with pytest.raises(NoSitesError):
        deadneuron.watch(model, frozen_sgd(model), tmp_path / "run")
    assert not (tmp_path / "run").exists()
