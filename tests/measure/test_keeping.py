"""A forward pass inside `kept` leaves nothing behind."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from deadneuron.measure.keeping import kept
from deadneuron.measure.rng import differing, rng_state, set_rng_state


class Restless(nn.Module):
    """Changes all that a forward pass can change of itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 7)
        self.register_buffer("seen", torch.tensor([1.5, -0.0]))
        self.register_buffer("replaced", torch.arange(3.0))
        self.register_buffer("removed", torch.arange(2.0))
        self.register_buffer("grown", torch.arange(4.0))
        self.plain = torch.arange(3.0)
        self.calls, self.cache, self.list, self.set, self.queue = 3, {"a": 1}, [1, 2], {5}, deque([7], maxlen=2)
        self.generator, self.numbers = torch.Generator().manual_seed(3), np.random.default_rng(5)
        self.old_numbers, self.python = np.random.RandomState(7), random.Random(11)

    def forward(self, x):
        self.calls += 1
        self.seen += x.sum() + 1
        self.replaced = self.replaced + 1
        del self.removed
        self.grown.resize_(9).fill_(2)
        self.plain.mul_(2).add_(1)
        self.register_buffer("added", x.clone(), persistent=False)
        self.later, self.extra = "new", nn.Linear(2, 3)
        self.cache["b"] = self.cache.pop("a")
        self.list[0], self.queue[0] = 9, 8
        self.list.append(3)
        self.set.add(6)
        torch.rand(3, generator=self.generator)
        self.numbers.random()
        self.old_numbers.rand()
        self.python.random()
        noise = np.random.rand() + random.random() + torch.rand(())
        self.eval() if self.training else self.train()
        torch.set_grad_enabled(not torch.is_grad_enabled())
        return self.linear(x) + noise


def image(module):
    """All of a module as plain values, with the identity of its tensors."""
    found = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, torch.Generator):
                value = value.get_state().tolist()
            elif isinstance(value, np.random.Generator):
                value = repr(value.bit_generator.state)
            elif isinstance(value, np.random.RandomState):
                value = repr(value.get_state(legacy=False)["state"]["pos"])
            elif isinstance(value, random.Random):
                value = value.getstate()
            elif isinstance(value, torch.Tensor):
                value = (id(value), repr(value))
            elif isinstance(value, dict):
                value = [(k, id(v), repr(v)) for k, v in value.items()]
            found[name, key] = repr(value)
    return found


def test_all_that_a_module_changes_of_itself_is_back():
    model = nn.Sequential(Restless(), nn.ReLU())
    before, numbers = image(model), rng_state()
    with kept(model):
        model(torch.randn(3, 5))
        assert image(model) != before
        assert len(differing(numbers, rng_state())) == 3
    assert image(model) == before
    assert differing(numbers, rng_state()) == []
    assert torch.is_grad_enabled()


def test_what_lies_in_containers_that_lie_in_containers():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.caches = [{"keys": torch.zeros(3), "lengths": [0]}, {"keys": torch.ones(2), "lengths": []}]
            self.nested = {"noise": (torch.Generator().manual_seed(3),), "seen": deque([{5}])}
            self.nested["self"] = self.caches  # twice, and one that holds itself
            self.caches.append(self.caches)

        def forward(self, x):
            for cache in self.caches[:2]:
                cache["keys"] += 1
                cache["lengths"].append(7)
            self.nested["seen"][0].add(6)
            return x + torch.rand(1, generator=self.nested["noise"][0])

    model = Deep()
    model(torch.zeros(1))
    places = [id(cache["keys"]) for cache in model.caches[:2]]
    draws = model.nested["noise"][0].get_state()
    with kept(model):
        model(torch.zeros(1))
        assert model.caches[1]["lengths"] == [7, 7]
    assert [cache["keys"].tolist() for cache in model.caches[:2]] == [[1.0, 1.0, 1.0], [2.0, 2.0]]
    assert [id(cache["keys"]) for cache in model.caches[:2]] == places
    assert [cache["lengths"] for cache in model.caches[:2]] == [[0, 7], [7]]
    assert model.nested["seen"][0] == {5, 6}
    assert torch.equal(model.nested["noise"][0].get_state(), draws)


def test_an_expanded_buffer():
    model = nn.Linear(5, 7)
    model.register_buffer("wide", torch.arange(3.0)[:, None].expand(2, 3, 5))
    with kept(model):
        model.wide[0, :, 0] += 1
    assert torch.equal(model.wide, torch.arange(3.0)[:, None].expand(2, 3, 5))
    assert model.wide.stride() == (0, 1, 0)


def test_what_cannot_be_put_back_keeps_nothing_else_from_it():
    class Stubborn(random.Random):
        def setstate(self, state):
            raise ValueError("not again")

    model = Restless()
    model.stubborn = Stubborn()
    model.behind = torch.arange(2.0)
    numbers = rng_state()

    def look():
        with kept(model):
            model(torch.randn(3, 5))
            model.behind += 1

    with pytest.raises(ValueError, match="not again"):
        look()
    assert model.training
    assert model.behind.tolist() == [0.0, 1.0]
    assert differing(numbers, rng_state()) == []
    assert torch.is_grad_enabled()


def test_also_after_an_exception():
    model = Restless()
    before = image(model)

    def interrupted():
        with kept(model):
            model(torch.randn(3, 5))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert image(model) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.3)),
        lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(5, 7)), nn.RReLU()),
        lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 7)), nn.ReLU()),
        lambda: torch.jit.script(nn.BatchNorm1d(5)),
    ],
    ids=["batch norm", "spectral norm", "parametrized", "scripted"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_buffers_of_a_training_pass_are_back_in_the_same_tensors(make):
    model = make().train()
    with torch.no_grad():  # a power iteration may have come to its end when it was made
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    buffers = dict(model.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    with kept(model):
        model(torch.randn(3, 5) + 2)
        assert any(not torch.equal(buffers[name], before[name]) for name in before)
        model.eval()
    assert all(module.training for module in model.modules())
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, before[name])


def test_an_embedding_that_renormalizes_its_weight():
    model = nn.Embedding(11, 3, max_norm=0.1)
    before = model.weight.detach().clone()
    with kept(model), torch.no_grad():
        model(torch.arange(11))
        assert not torch.equal(model.weight, before)
    assert torch.equal(model.weight, before)


def test_a_backward_pass_that_began_before_may_end_after():
    model = nn.BatchNorm1d(5).eval()
    loss = model(torch.randn(3, 5, requires_grad=True)).square().sum()
    with kept(model), torch.no_grad():
        model.train()(torch.randn(3, 5))
    loss.backward()
    assert model.weight.grad is not None


def test_an_enclosing_autocast_keeps_no_casts_and_gives_the_next_pass_its_gradient():
    model = nn.Linear(5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with kept(model), torch.no_grad():
            model(torch.randn(3, 5))
            assert not torch.is_autocast_cache_enabled()
        assert torch.is_autocast_cache_enabled()
        model(torch.randn(3, 5)).sum().backward()
    assert model.weight.grad is not None


def test_a_mode_of_the_user_sees_none_of_it():
    class Listener(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            heard.append(func)
            return func(*args, **(kwargs or {}))

    heard: list = []
    model = Restless()
    with Listener():
        with kept(model):
            heard.clear()
        assert heard == []
        with kept(model):
            pass
    assert heard == []


def test_random_numbers_go_on_as_they_would_have():
    state = rng_state()
    drawn = (random.random(), np.random.rand(), torch.rand(()).item())
    assert sorted(differing(state, rng_state())) == ["numpy.random", "python's random", "torch's generator"]
    set_rng_state(state)
    assert (random.random(), np.random.rand(), torch.rand(()).item()) == drawn
