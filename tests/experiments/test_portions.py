"""What the branches of a learning-rate probe train on, and what is held out of them."""

from __future__ import annotations

import pytest
import torch

from deadneuron.errors import BranchError
from deadneuron.experiments.portions import divide


def numbered(n, size=3):
    return [torch.full((size, 1), float(number)) for number in range(n)]


def values(batches):
    return [batch[0, 0].item() for batch in batches]


@pytest.mark.parametrize(
    ("there", "samples", "branch", "probe", "held_out", "words"),
    [
        (30, 3, 5, 5, True, ()),
        (30, 24, 5, 8, True, ()),  # as many as hold 24 examples
        (7, 300, 5, 2, True, ()),
        (5, 3, 4, 1, True, "of 5 batches 1 were held out; the other 4 came round again in 5 steps"),
        (2, 3, 1, 1, True, "of 2 batches 1 were held out; the other 1 came round again in 5 steps"),
        (1, 3, 1, 1, False, "one batch was all there was"),
    ],
)
def test_what_the_branches_train_on_and_what_is_held_out(there, samples, branch, probe, held_out, words):
    portions = divide(iter(numbered(there)), 5, samples, None)
    assert values(portions.branch) == list(range(branch))
    first = branch if held_out else 0
    assert values(portions.probe) == list(range(first, first + probe))
    assert portions.held_out == held_out
    assert [words in note for note in portions.notes] == ([True] if words else [])
    assert values(portions.of_step(step) for step in range(5)) == [step % branch for step in range(5)]


def test_a_probe_that_is_given():
    portions = divide(numbered(3), 5, 300, torch.zeros(7, 1))
    assert [tuple(batch.shape) for batch in portions.probe] == [(7, 1)]
    assert portions.notes == ("3 batches came round again in 5 steps",)
    assert divide(numbered(5), 5, 300, ({"x": 1}, {"x": 2})).probe == ({"x": 1}, {"x": 2})


def test_no_batch_at_all():
    with pytest.raises(BranchError, match=r"there is no batch \(batches\)"):
        divide([], 5, 3, None)
    with pytest.raises(BranchError, match=r"there is no batch \(probe\)"):
        divide(numbered(3), 5, 3, [])


def test_a_step_may_change_its_copy_and_what_cannot_be_copied_is_handed_out_itself():
    portions = divide([torch.ones(1), (number for number in range(3))], 2, 3, [1])
    portions.of_step(0).zero_()
    assert portions.of_step(0).item() == 1
    assert portions.of_step(1) is portions.branch[1]
