"""Traces and intervals, made by hand, become looks at layers."""

from __future__ import annotations

import numpy as np
from checkpoints.handmade import weights_only

from deadneuron.checkpoints.contents import Interval, Layer, Part, Traces
from deadneuron.checkpoints.judging import judge
from deadneuron.checkpoints.series import REPLAY, STATE, WEIGHTS, gaps_of, settings_of, subjects_of
from deadneuron.profiles import load_profile

THRESHOLDS = load_profile("default").thresholds
LAYER = Layer("fc1", "linear", 3, (Part("fc1.bias", 0), Part("fc1.weight", 0)))


def traces(step, **known):
    arrays = {name: np.array(value) for name, value in known.items() if name != "evidence"}
    return Traces("fc1", step, evidence=known.get("evidence", ()), **arrays)


def interval(first, last, *still, rates=(0.1, 0.1), reason=""):
    known = np.array(still, dtype=bool) if still else None
    return Interval("fc1", first, last, known, f"replay over {(last or 0) - (first or 0)} steps", reason, rates)


def verdict(of_checkpoints, of_pairs):
    (subject,) = subjects_of([LAYER], [[one] for one in of_checkpoints], [[one] for one in of_pairs], 100)
    return subject, judge(subject, THRESHOLDS)


def test_intervals_are_the_looks_where_two_checkpoints_can_be_compared():
    nothing = [traces(100), traces(300), traces(500)]
    subject, judged = verdict(nothing, [interval(100, 300, 0, 0, 1), interval(300, 500, 1, 0, 1)])
    assert (subject.evidence, subject.facts) == (REPLAY, ("replay over 200 steps",))
    assert [(look.first, look.last, look.covers) for look in subject.looks] == [(100, 299, 200), (300, 499, 200)]
    spans = {(one.unit, one.first_step, one.latest) for one in judged.lives.episodes}
    assert spans == {(0, 100, 299), (2, 0, 99)}


def test_moments_prove_the_earliest_step_of_a_death_before_an_interval():
    first = traces(300, age=[2.0, 3.0, 250.0], age_most=[33.0, 34.0, 280.0])
    subject, judged = verdict([first, traces(500)], [interval(300, 500, 1, 0, 1)])
    assert subject.evidence == REPLAY
    spans = {(one.unit, one.first_step, one.latest) for one in judged.lives.episodes}
    # Unit 0 had its last gradient at most 33 steps before the 300th update, unit 2 about 250 before it.
    assert spans == {(0, 266, 299), (2, 19, 79)}


def test_an_estimate_that_the_next_interval_disproves_is_not_believed():
    first = traces(300, age=[250.0, 250.0, 1.0], age_most=[280.0, 280.0, 30.0])
    _, judged = verdict([first, traces(500)], [interval(300, 500, 1, 0, 0)])
    assert {(one.unit, one.last_step) for one in judged.lives.episodes} == {(0, None)}


def test_one_checkpoint_alone_tells_ages_and_who_never_had_a_gradient():
    age, most = [np.inf, 400.0, np.nan], [np.inf, 430.0, np.inf]
    alone = traces(700, never=[True, False, False], age=age, age_most=most, evidence=("moments of Adam",))
    subject, judged = verdict([alone], [])
    assert (subject.evidence, subject.facts) == (STATE, ("moments of Adam",))
    assert (judged.verdict.dead, judged.verdict.born_dead, judged.verdict.died) == (2, 1, 1)
    died = judged.lives.episodes[1]
    assert (died.unit, died.first_step, died.latest) == (1, 269, 329)  # about 400 updates before the last one


def test_a_young_optimizer_cannot_tell_the_dead_from_the_silent():
    subject, judged = verdict(
        [traces(40, never=[True, False, False], age=[np.inf, 1.0, 2.0], age_most=[np.inf, 30, 30])], []
    )
    assert subject.looks[0].covers == 40
    assert (judged.verdict.dead, judged.verdict.silent, judged.verdict.status) == (0, 1, "unknown")


def test_what_cannot_be_compared_is_told_by_the_later_checkpoints_state_or_not_at_all():
    after = traces(500, age=[300.0, 1.0, 1.0], age_most=[330.0, 30.0, 30.0])
    subject, judged = verdict([traces(100), after], [interval(100, 500, reason="other settings")])
    assert (subject.evidence, judged.verdict.dead) == (STATE, 1)
    subject, judged = verdict([traces(100), traces(500)], [interval(100, 500, reason="other settings")])
    assert (subject.evidence, subject.looks, judged.verdict.status) == ("", (), "unknown")


def test_signs_are_asked_last_and_only_show_who_is_closed():
    closed = traces(500, closed=[True, False, False], evidence=("all weights and the bias are ≤ 0",))
    subject, judged = verdict([closed], [])
    assert (subject.evidence, subject.partial) == (WEIGHTS, True)
    assert (judged.verdict.dead, judged.verdict.status) == (1, "warning")
    subject, _ = verdict([traces(300), closed], [interval(300, 500, 0, 0, 0)])
    assert (subject.evidence, subject.partial) == (REPLAY, False)


def test_checkpoints_without_steps_call_nobody_dead():
    _, judged = verdict([traces(None), traces(None)], [interval(None, None, 1, 1, 0)])
    assert (judged.verdict.dead, judged.verdict.silent, judged.verdict.status) == (0, 2, "unknown")


def test_a_reason_that_layers_share_is_one_gap():
    pair = [Interval(name, 100, 300, None, reason="the weights are an average") for name in ("a", "b", "c", "d", "e")]
    odd = Interval("f", 100, 300, None, reason="its shape changed")
    known = Interval("g", 100, 300, np.array([True]))
    first, second = gaps_of([[*pair, odd, known]])
    assert (first.where, first.first_step) == ("a, b, c and 2 more", 100)
    assert first.reason == "steps 100–300 not compared: the weights are an average"
    assert (second.where, second.reason) == ("f", "steps 100–300 not compared: its shape changed")
    (all_of_them,) = gaps_of([pair])
    assert all_of_them.where == "all layers"


def test_settings_of_a_parameter_without_a_group_are_empty():
    assert settings_of(weights_only({}), "fc1.bias") == {}
    assert settings_of(weights_only({}), None) == {}
