"""Masks that do not say which tokens are real: named, never taken for the opposite."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from watching import added_up, frozen_sgd
from zoo import BATCH, INPUTS, TIME

import deadneuron

pytestmark = pytest.mark.filterwarnings("ignore::deadneuron.errors.DeadneuronWarning")


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(INPUTS, 4), nn.ReLU()

    def forward(self, x, attention_mask=None, padding_mask=None):
        return self.act(self.fc(x))


def watched(run, name, mask):
    model = Tokens()
    with deadneuron.watch(model, frozen_sgd(model), run, mask=name) as monitor:
        model(torch.randn(BATCH, TIME, INPUTS), **{name: mask})
    return [window.rows for window in added_up(run).windows], [gap.reason for gap in monitor.gaps]


def added_to_scores(padded):
    mask = torch.zeros(BATCH, TIME)
    mask[:, TIME - padded :] = -torch.inf
    return mask


def test_a_mask_of_minus_infinities_is_not_read_the_wrong_way_round(run):
    rows, reasons = watched(run, "attention_mask", added_to_scores(3))
    assert rows != [BATCH * 3], "the padding"
    assert len(reasons) == 1
    assert "added to scores" in reasons[0]


def test_a_padding_mask_of_minus_infinities_is_understood(run):
    assert watched(run, "padding_mask", added_to_scores(3)) == ([BATCH * (TIME - 3)], [])


def test_a_pass_without_any_real_token_is_a_gap_and_counts_nothing(run):
    rows, reasons = watched(run, "attention_mask", torch.zeros(BATCH, TIME))
    assert rows == []
    assert any("no token is real" in reason for reason in reasons)
