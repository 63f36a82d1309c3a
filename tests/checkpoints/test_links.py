"""A state goes under its parameter's name or under none: right or refused, never wrong."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadneuron.checkpoints.layouts import links
from deadneuron.checkpoints.layouts.links import TooManyWays, fits
from deadneuron.checkpoints.layouts.order import (
    by_convention,
    in_any_order,
    in_order,
    is_only_one,
    names_in,
    start,
    steps,
)

W, B, C = (5, 3), (5,), (3,)


def certain(shapes, groups, order=None):
    found = fits(order or in_order(shapes), shapes, groups)
    return (
        None
        if found is None
        else [[found.certain().get((g, i)) for i in range(len(group))] for g, group in enumerate(groups)]
    )


def walks(order):
    """Every order that a node allows, by walking it."""

    def after(walk, names):
        further = list(steps(walk))
        if not further:
            yield tuple(names)
        for name, rest in further:
            yield from after(rest, [*names, name])

    return list(after(start(order), []))


@pytest.mark.parametrize(
    ("shapes", "groups", "expected"),
    [
        ({"a": W, "b": B}, [[W, B]], [["a", "b"]]),
        ({"a": W, "b": B}, [[B, W]], None),  # not in the model's order
        ({"a": W, "b": B, "c": W}, [[W, W], [B]], [["a", "c"], ["b"]]),  # decay and no decay
        ({"a": W, "b": B, "c": W}, [[B], [W, W]], [["b"], ["a", "c"]]),
        ({"a": W, "b": W}, [[W], [W]], [[None], [None]]),  # backbone and head of one shape: nobody knows
        ({"a": W, "b": W, "c": C}, [[W, C]], [[None, "c"]]),  # one of two is frozen: nobody knows which
        ({"a": W, "b": B, "c": C}, [[W, C]], [["a", "c"]]),  # a buffer or a frozen parameter between
        ({"emb": W, "b": B, "tied": W}, [[W, B]], [["emb", "b"]]),  # a second name of a tied parameter
        ({"a": W}, [[W, W]], None),
        ({"a": W, "b": B, "c": W}, [[None, None, None]], [["a", "b", "c"]]),  # no state at all, all trained
        ({"a": W, "b": B, "c": C}, [[None, C]], [[None, "c"]]),
        ({"a": W, "b": B, "c": C}, [[W, None], [None]], [["a", None], [None]]),
        ({}, [], []),
    ],
)
def test_what_order_and_shapes_tell(shapes, groups, expected):
    assert certain(shapes, groups) == expected


def test_too_many_ways_are_not_all_looked_at(monkeypatch):
    shapes = {f"layer{i}": W for i in range(12)}
    links._solved.cache_clear()
    monkeypatch.setattr(links, "_WORK", 1000)
    with pytest.raises(TooManyWays):
        fits(in_order(shapes), shapes, [[W] for _ in range(12)])
    assert certain(shapes, [[W] * 12]) == [list(shapes)]


def test_one_question_is_answered_once(monkeypatch):
    shapes = {f"layer{i}": W for i in range(7)}
    first = fits(in_order(shapes), shapes, [[W] * 7])
    monkeypatch.setattr(links, "_WORK", 0)
    assert fits(in_order(shapes), dict(shapes), [[W] * 7]) is first
    for _ in range(2):
        with pytest.raises(TooManyWays):  # another order is another question
            fits(in_order([*shapes][::-1]), shapes, [[W] * 7])
    links._solved.cache_clear()


def test_sorted_names_are_walked_in_every_order_that_conventions_allow():
    order = by_convention(["fc.bias", "fc.weight", "b.1.weight", "b.0.weight", "b.10.weight", "scale"])
    chain = ("b.0.weight", "b.1.weight", "b.10.weight")
    assert sorted(walks(order)) == sorted(
        [("scale", *chain, "fc.weight", "fc.bias"), ("scale", "fc.weight", "fc.bias", *chain)]
    )
    assert not is_only_one(order)
    assert is_only_one(by_convention(["layers.0.weight", "layers.0.bias", "layers.2.weight"]))
    assert names_in(order) in [list(walk) for walk in walks(order)]


def test_models_side_by_side_come_in_any_order_each_whole():
    order = in_any_order([in_order(["g.w", "g.b"]), in_order(["d.w"])])
    assert sorted(walks(order)) == [("d.w", "g.w", "g.b"), ("g.w", "g.b", "d.w")]


def test_shapes_tell_the_order_that_sorting_lost():
    shapes = {"a.bias": C, "a.weight": (3, 5), "z.bias": B, "z.weight": W}
    found = fits(by_convention(shapes), shapes, [[W, (3, 5)], [B, C]])
    assert found.order == ("z.weight", "z.bias", "a.weight", "a.bias")
    assert found.certain()[(0, 1)] == "a.weight"
    assert fits(by_convention(shapes), shapes, [[None] * 4]).order is None


def test_siblings_of_one_shape_stay_unlinked_after_sorting_and_the_rest_is_linked():
    shapes = {f"{name}.{part}": shape for name in ("query", "key") for part, shape in (("weight", W), ("bias", B))}
    shapes |= {"wide.weight": (11, 3), "wide.bias": (11,)}
    groups = [[W, B, W, B, (11, 3), (11,)]]
    assert certain(shapes, groups, by_convention(shapes)) == [[None] * 4 + ["wide.weight", "wide.bias"]]
    assert certain(shapes, groups) == [list(shapes)]


SHAPES = st.sampled_from([W, B, C])


@st.composite
def problems(draw, largest=6):
    """Names with shapes, groups of some of them each in the model's order, some slots without a shape."""
    names = [f"p{i}" for i in range(draw(st.integers(1, largest)))]
    shapes = {name: draw(SHAPES) for name in names}
    owner = {name: draw(st.sampled_from([0, 0, 0, 1, 2, None])) for name in names}
    truth = [[name for name in names if owner[name] == group] for group in range(3)]
    truth = [group for group in truth if group]
    slots = [[shapes[name] if draw(st.integers(0, 4)) else None for name in group] for group in truth]
    return shapes, truth, slots


def every_way(orders, shapes, groups):
    """The slow way: every order, every increasing choice, kept where shapes fit. → (slot → names, orders that fit)"""
    found, fitting = {}, set()

    def lay(order, position, taken, links):
        if position == len(order):
            if all(t == len(group) for t, group in zip(taken, groups, strict=True)):
                fitting.add(order)
                for slot, name in links:
                    found.setdefault(slot, set()).add(name)
            return
        lay(order, position + 1, taken, links)
        for g, group in enumerate(groups):
            if taken[g] < len(group) and group[taken[g]] in (None, shapes[order[position]]):
                further = [t + (g == i) for i, t in enumerate(taken)]
                lay(order, position + 1, further, [*links, ((g, taken[g]), order[position])])

    for order in orders:
        lay(order, 0, [0] * len(groups), [])
    return found, fitting


@given(problems())
@settings(max_examples=150, deadline=None)
def test_all_ways_are_those_of_a_slow_search(problem):
    shapes, truth, slots = problem
    ways = fits(in_order(shapes), shapes, slots)
    found, fitting = every_way([tuple(shapes)], shapes, slots)
    assert {slot: set(names) for slot, names in ways.names.items()} == found
    assert fitting == {ways.order}
    for slot, name in ways.certain().items():
        assert truth[slot[0]][slot[1]] == name


@given(problems(5), st.data())
@settings(max_examples=80, deadline=None)
def test_all_ways_over_sorted_names_are_those_of_a_slow_search(problem, data):
    shapes, _, slots = problem
    words = st.sampled_from(["a.weight", "a.bias", "b.weight", "b.0.weight", "b.1.weight", "c1.bias", "c2.bias", "d"])
    names = data.draw(st.lists(words, min_size=len(shapes), max_size=len(shapes), unique=True))
    named = dict(zip(names, shapes.values(), strict=True))
    order = by_convention(names)
    allowed = [p for p in permutations(names) if keeps_conventions(p)]
    assert sorted(walks(order)) == sorted(allowed)
    ways = fits(order, named, slots)
    found, fitting = every_way(allowed, named, slots)
    assert (ways is None) == (not fitting)
    if ways is not None:
        assert {slot: set(names) for slot, names in ways.names.items()} == found
        assert ways.order == (fitting.pop() if len(fitting) == 1 else None)


BEFORE = [("a.weight", "a.bias"), ("b.0.weight", "b.1.weight"), ("c1.bias", "c2.bias")]
BEFORE += [("b.weight", "b.0.weight"), ("b.weight", "b.1.weight")]


def keeps_conventions(order):
    """The rules of order.py once more, told by what they forbid."""
    place = {name: index for index, name in enumerate(order)}
    if any(place[first] > place[second] for first, second in BEFORE if first in place and second in place):
        return False
    if place.get("d", 0) != 0:  # the model's own parameters come first
        return False
    tops = [name.split(".")[0] for name in order]
    changes = sum(one != other for one, other in pairwise(tops))
    return changes == len(set(tops)) - 1  # every module stands together
