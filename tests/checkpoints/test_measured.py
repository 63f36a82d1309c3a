"""Checkpoints measured on data: hand-set weights, counts known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoints.handmade import weights_only
from torch import nn

from deadneuron.checkpoints.judging import judge
from deadneuron.checkpoints.measured import MEASURED, measure, subjects_of
from deadneuron.errors import CheckpointError
from deadneuron.profiles import load_profile

PROFILE = load_profile("default")
ROWS = 331


def net():
    return nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2))


def weights(bias, seed=0):
    """Of `net`, with a first bias such that every unit fires on everything (100) or on nothing (-100)."""
    torch.manual_seed(seed)
    made = net().state_dict()
    made["0.bias"] = torch.tensor(bias, dtype=torch.float32)
    made["2.weight"].abs_()
    made["2.bias"] = torch.full((5,), 100.0)
    return made


def batches():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(ROWS, 3, generator=generator)
    return [(x[:100], None), (x[100:], None)]


def judged(checkpoints, model=net, data=batches, **more):
    counted = measure(checkpoints, model, data, PROFILE, **more)
    return [judge(subject, PROFILE.thresholds) for subject in subjects_of(counted, PROFILE)]


ALIVE, DEAD = 100.0, -100.0


def test_a_series_tells_between_which_checkpoints_a_unit_died_and_on_how_many_examples():
    first = weights_only(weights([ALIVE] * 7), step=100)
    second = weights_only(weights([ALIVE, DEAD, DEAD] + [ALIVE] * 4), step=300)
    third = weights_only(weights([DEAD, DEAD, ALIVE] + [ALIVE] * 4), step=500)
    hidden, last = judged([first, second, third])
    assert (hidden.verdict.name, hidden.verdict.op, hidden.verdict.evidence) == ("1", "ReLU", MEASURED)
    assert (hidden.verdict.units, hidden.verdict.dead, hidden.verdict.died, hidden.verdict.revived) == (7, 2, 2, 1)
    assert (hidden.verdict.samples, hidden.verdict.bound) == (ROWS, 3 / ROWS)
    spans = {(one.unit, one.first_step, one.latest, one.last_step) for one in hidden.lives.episodes}
    assert spans == {(0, 300, 499, None), (1, 100, 299, None), (2, 100, 299, 300)}
    assert hidden.verdict.status == "warning"
    assert hidden.history.dead == (0.0, 2 / 7, 2 / 7)
    assert (last.verdict.dead, last.verdict.status) == (0, "healthy")


def test_one_checkpoint_of_step_0_shows_who_was_born_dead():
    hidden, _ = judged([weights_only(weights([DEAD] * 4 + [ALIVE] * 3), step=0)])
    assert (hidden.verdict.dead, hidden.verdict.born_dead, hidden.verdict.status) == (4, 4, "severe")


def test_one_checkpoint_of_a_later_step_does_not_know_when():
    hidden, _ = judged([weights_only(weights([DEAD] * 2 + [ALIVE] * 5), step=700)])
    assert (hidden.verdict.dead, hidden.verdict.died) == (2, 2)
    assert (hidden.verdict.since, hidden.verdict.since_latest, hidden.verdict.rate) == (0, 699, None)


def test_too_few_examples_call_nobody_dead_and_nothing_healthy():
    hidden, last = judged([weights_only(weights([DEAD] * 4 + [ALIVE] * 3), step=700)], batches=2, data=few)
    assert (hidden.verdict.dead, hidden.verdict.silent, hidden.verdict.status) == (0, 4, "unknown")
    assert (last.verdict.status, last.verdict.enough, last.verdict.samples) == ("unknown", False, 13)


def few():
    return [torch.rand(13, 3)]


def test_at_most_so_many_batches_are_taken_from_data_without_an_end():
    def endless():
        while True:
            yield torch.rand(151, 3)

    hidden, _ = judged([weights_only(weights([ALIVE] * 7), step=1)], data=endless, batches=3)
    assert hidden.verdict.samples == 453


def test_counts_are_those_of_a_forward_pass_by_hand():
    torch.manual_seed(5)
    model = net()
    checkpoint = weights_only(model, step=10)
    counted = measure([checkpoint], net, batches, PROFILE)
    x = torch.cat([batch for batch, _ in batches()])
    first = model[:1](x)
    assert np.array_equal(counted.windows[0].active, (first > 0).sum(0).numpy())
    second = model[:3](x)
    assert np.array_equal(counted.windows[1].active, (second > 0).sum(0).numpy())
    assert [site.feeder for site in counted.sites] == ["0.bias", "2.bias"]
    assert not counted.gaps


def test_the_model_is_in_eval_mode_and_batch_norm_uses_the_saved_statistics():
    def normed():
        return nn.Sequential(nn.Linear(3, 7), nn.BatchNorm1d(7), nn.ReLU())

    model = normed()
    model[1].running_mean.copy_(torch.tensor([1e6] * 2 + [-1e6] * 5))  # units 0 and 1 are far below zero
    counted = measure([weights_only(model, step=1)], normed, batches, PROFILE)
    (subject,) = subjects_of(counted, PROFILE)
    assert subject.looks[0].still.tolist() == [True] * 2 + [False] * 5


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_names_are_found_behind_wrappers_and_prefixes():
    inside = {f"model.{name}": value for name, value in weights([DEAD] + [ALIVE] * 6).items()}
    hidden, _ = judged([weights_only(inside, step=9)])
    assert hidden.verdict.dead == 1
    hidden, _ = judged([weights_only(weights([DEAD] + [ALIVE] * 6), step=9)], model=lambda: torch.compile(net()))
    assert hidden.verdict.dead == 1


def test_tied_weights_that_were_saved_once_are_found():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.two.weight = self.one.weight

        def forward(self, x):
            return torch.relu(self.two(torch.relu(self.one(x))))

    saved = Tied().state_dict()
    del saved["two.weight"]
    counted = measure([weights_only(saved, step=1)], Tied, batches, PROFILE)
    assert len(counted.sites) == 2
    assert not counted.gaps


def test_what_one_side_lacks_is_a_gap_or_an_error():
    more = weights([ALIVE] * 7) | {"head.weight": torch.zeros(2, 3)}
    counted = measure([weights_only(more, step=4)], net, batches, PROFILE)
    assert [(gap.reason, gap.first_step) for gap in counted.gaps] == [
        ("holds head.weight, which the model does not have", 4)
    ]
    less = weights([ALIVE] * 7)
    del less["2.weight"]
    with pytest.raises(CheckpointError, match=r"lacks 1 of the model's 6 parameters: 2\.weight"):
        measure([weights_only(less, step=4)], net, batches, PROFILE)
    other = weights([ALIVE] * 7) | {"2.bias": torch.zeros(6)}
    with pytest.raises(CheckpointError, match=r"2\.bias has shape \(6,\) in the checkpoint, and \(5,\) in the model"):
        measure([weights_only(other, step=4)], net, batches, PROFILE)


@pytest.mark.parametrize(
    ("model", "data", "what"),
    [
        (lambda: 3, batches, "the model's function gave int"),
        (lambda: nn.Linear(3, 3)(None), batches, "it raised: TypeError"),
        (net, lambda: 3, "no iterable of batches but int"),
        (net, lambda: [torch.rand(3, 4)], "cannot be called with what a batch begins with: RuntimeError"),
        (net, lambda: [], "no activation was called"),
        (net, lambda: (1 // 0 for _ in range(3)), "the data raised: ZeroDivisionError"),
    ],
)
def test_what_goes_wrong_in_the_users_code_is_said_in_one_line(model, data, what):
    with pytest.raises(CheckpointError, match=what) as caught:
        measure([weights_only(weights([ALIVE] * 7), step=4)], model, data, PROFILE)
    assert "\n" not in str(caught.value)


def test_nan_makes_a_unit_neither_silent_nor_alive_for_sure():
    broken = weights([ALIVE] * 7)
    broken["0.bias"][0] = torch.nan
    hidden, last = judged([weights_only(broken, step=4)])
    assert (hidden.verdict.dead, hidden.verdict.nonfinite) == (0, 1)
    assert last.verdict.nonfinite == 5


def test_the_users_own_model_and_random_numbers_are_as_before():
    model = net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint = weights_only(weights([DEAD] + [ALIVE] * 6), step=4)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    hidden, _ = judged([checkpoint], model=model, data=few)
    assert hidden.verdict.silent == 1
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
