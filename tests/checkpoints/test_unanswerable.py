"""Everything that makes two checkpoints say nothing, or less, and that its reason is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints.making import stored
from checkpoints.pairs import DEAD, FORENSICS, answer, ask, pair, rate, rates_of, with_kind
from checkpoints.variants import maker

from deadneuron.checkpoints.contents import Progress
from deadneuron.checkpoints.layers import find_layers
from deadneuron.checkpoints.replay import replay


def silent(kept, rates, words):
    found = ask(kept, rates)
    assert found.still is None
    assert words in found.reason
    assert "\n" not in found.reason


def test_without_state_only_plain_sgd_speaks():
    kept = [replace(one, optimizers=()) for one in pair(maker("Adam"))]
    silent(kept, None, "there is no optimizer state")


def test_settings_that_changed():
    def after(model, optimizer):
        optimizer.param_groups[0]["weight_decay"] = 0.2

    silent(pair(maker("AdamW"), after=after), rates_of(23, 0.01), "settings changed")


@pytest.mark.parametrize("key", ["momentum", "betas"])
def test_momentum_that_moved_in_an_unknown_way(key):
    def after(model, optimizer):
        optimizer.param_groups[0][key] = 0.85 if key == "momentum" else (0.8, 0.999)

    kept = pair(maker("momentum" if key == "momentum" else "Adam"), after=after)
    silent(kept, rates_of(23, 0.1), "a schedule moved the momentum")


def test_a_state_that_began_anew():
    kept = pair(maker("Adam"))
    silent([kept[1], replace(kept[0], step=99)], None, "its step went back")
    silent([kept[0], replace(kept[0], step=99)], None, "never stepped it in between")
    silent([kept[0], kept[0]], None, "no update lies in between")


@pytest.mark.parametrize("variant", ["momentum", "momentum with L2"])
def test_a_parameter_that_was_frozen_in_between(variant):
    def touch(step, parameters):
        if step >= 0:
            for parameter in parameters.values():
                parameter.grad = None

    silent(pair(maker(variant), touch=touch), rates_of(23, 0.1), "its momentum did not decay: it was frozen")


def test_plain_sgd_cannot_tell_frozen_from_dead():
    kept = pair(maker("SGD"), dead=list(range(17)))
    silent(kept, rates_of(23, 0.5), "it was frozen or unused, or all of its units had no gradient")
    silent(pair(maker("SGD"), dead=DEAD), rates_of(23, 0.0), "the learning rate is 0")


def test_a_parameter_that_no_optimizer_lists():
    kept = pair(lambda parameters: torch.optim.Adam(list(parameters)[:1]))
    found = ask(kept, None)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert "without 0.bias, because no optimizer lists it" in found.evidence
    layers = [replace(layer, parts=layer.parts[:1]) for layer in find_layers(kept[0])]
    assert ask(kept, None, layers).still is None


def test_averaged_weights_leave_the_state():
    kept = [replace(one, averaged=True) for one in pair(maker("Adam"))]
    found = answer("Adam", kept)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert "they are an average over steps" in found.evidence
    for variant, words in (("SGD", "an average over steps"), ("Adam with L2", "weights cannot be replayed")):
        silent([replace(one, averaged=True) for one in pair(maker(variant))], rates_of(23, rate(variant)), words)


def test_weights_that_are_a_copy_of_fewer_bits_leave_the_state():
    kept = pair(maker("Adam"))
    kept = [
        replace(one, weights={name: stored(value.whole().bfloat16()) for name, value in one.weights.items()})
        for one in kept
    ]
    found = answer("Adam", kept)
    np.testing.assert_array_equal(np.flatnonzero(found.still), DEAD)
    assert "a copy in bfloat16" in found.evidence


def test_half_precision_weights_without_state_say_nothing():
    silent(pair(maker("SGD"), dtype=torch.bfloat16), rates_of(23, 0.5), "lost in the rounding of bfloat16")


@pytest.mark.parametrize("variant", ["Adam with L2", "momentum with L2", "SGD with L2"])
def test_a_decay_in_the_gradient_needs_exact_rates(variant):
    kept = pair(maker(variant))
    silent(kept, None, "the rates are not known")
    silent(kept, rates_of(23, rate(variant), exact=False), "the rates are not known exactly")


def test_unknown_numbers_of_updates():
    kept = [replace(one, step=None) for one in pair(maker("momentum"))]
    silent(kept, None, "how many updates lie in between is not known")
    plain = [replace(one, step=None) for one in pair(maker("SGD"))]
    np.testing.assert_array_equal(np.flatnonzero(ask(plain, None).still), DEAD)


@pytest.mark.parametrize("kind", ["Rprop", "Lion", None])
def test_optimizers_that_are_not_known(kind):
    silent(with_kind(pair(maker("momentum")), kind), None, "cannot be replayed")


def test_shapes_and_names_that_changed():
    first, last = pair(maker("Adam"))
    layers = find_layers(first)
    other = {**last.weights, "0.bias": stored(torch.ones(19))}
    other["0.weight"] = stored(torch.ones(19, 53))
    assert "shape or dtype" in ask([first, replace(last, weights=other)], None, layers).reason
    assert "one of the two" in ask([first, replace(last, weights={})], None, layers).reason


def test_progress_and_threads():
    told = []
    kept = pair(maker("Adam"))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        replay(*kept, find_layers(kept[0]), None, FORENSICS, Progress(lambda *how: told.append(how)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert told == [(2 * 12 * 17 * 54, 2 * 12 * 17 * 54)]
