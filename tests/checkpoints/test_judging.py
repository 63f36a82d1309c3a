"""Verdicts and findings on checkpoints, from looks made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deadneuron.checkpoints.judging import Subject, judge
from deadneuron.checkpoints.lives import Look
from deadneuron.checkpoints.sentences import of_coverage, of_layer
from deadneuron.profiles import load_profile
from deadneuron.records import Coverage

THRESHOLDS = load_profile("default").thresholds
UNITS = 20


def first(count):
    """The first `count` of 20 units."""
    return np.arange(UNITS) < count


def layer(*looks, evidence="replay", **more):
    return Subject(0, "fc1", "linear", UNITS, looks, evidence, **more)


def interval(start, end, still, rates=(0.1, 0.2)):
    return Look(start, end - 1, end - start, still, rates)


def findings(subject, settings=None):
    return list(of_layer(judge(subject, THRESHOLDS), THRESHOLDS, settings or {}))


@pytest.mark.parametrize(
    ("count", "status", "code"),
    [
        (0, "healthy", None),
        (1, "healthy", None),
        (2, "warning", "dying"),
        (9, "warning", "dying"),
        (10, "severe", "stuck"),
    ],
)
def test_the_shares_of_a_layer_that_died_are_those_of_a_run(count, status, code):
    subject = layer(interval(0, 200, first(0)), interval(200, 400, first(count)))
    verdict = judge(subject, THRESHOLDS).verdict
    assert (verdict.status, verdict.dead, verdict.died, verdict.born_dead) == (status, count, count, 0)
    assert [one.code for one in findings(subject)] == ([code] if code else [])
    assert (verdict.samples, verdict.bound, verdict.rare, verdict.evidence) == (None, None, None, "replay")


def test_a_finding_says_when_at_which_rates_and_how_that_is_known():
    facts = ("zero-gradient replay of Adam over 200 steps",)
    subject = layer(interval(0, 200, first(0)), interval(200, 400, first(12)), facts=facts)
    (finding,) = findings(subject, {"momentum": 0.9})
    assert finding.text == (
        "fc1 is stuck: 12 of 20 units (60%) are dead: no gradient reaches them; last gradient in steps 0–199, "
        "at rates 0.1–0.2"
    )
    assert finding.evidence["facts"] == list(facts)
    assert finding.evidence["rates"] == [0.1, 0.2]
    assert "--model module:factory" in finding.advice
    assert "try 0.05, a quarter" in finding.advice  # of the highest rate that the deaths can have used
    assert "momentum 0.9" in finding.advice


def test_born_dead_units_are_a_note_and_not_blamed_on_the_rate():
    subject = layer(interval(100, 300, first(3)), never=first(3))
    assert judge(subject, THRESHOLDS).verdict.born_dead == 3
    (finding,) = findings(subject)
    assert (finding.code, finding.level) == ("born-dead", "note")
    assert "no gradient ever reached them" in finding.text
    assert judge(subject, THRESHOLDS).verdict.status == "healthy"


def test_a_layer_that_was_born_dead_for_the_most_is_stuck_and_no_lower_rate_is_advised():
    (finding,) = findings(layer(interval(100, 300, first(13)), never=first(13)))
    assert (finding.code, finding.level) == ("stuck", "severe")
    assert "13 of them born dead, 0 died" in finding.text
    assert "lower rate" not in finding.advice


def test_a_span_shorter_than_the_patience_is_too_short_for_any_verdict():
    subject = layer(interval(0, 60, first(0)))
    assert judge(subject, THRESHOLDS).verdict.status == "unknown"
    (finding,) = findings(subject)
    assert finding.code == "too-short"
    assert "tell of 60 updates" in finding.text


def test_units_that_fell_silent_lately_leave_a_layer_undecided():
    subject = layer(interval(0, 200, first(0)), interval(200, 260, first(5)))
    verdict = judge(subject, THRESHOLDS).verdict
    assert (verdict.status, verdict.dead, verdict.silent) == ("unknown", 0, 5)
    (finding,) = findings(subject)
    assert (finding.code, finding.level) == ("silent", "warning")


def test_intervals_of_unknown_length_call_nobody_dead():
    subject = layer(Look(0, 0, 0, first(20)))
    verdict = judge(subject, THRESHOLDS).verdict
    assert (verdict.dead, verdict.silent, verdict.status, verdict.enough) == (0, 20, "unknown", False)


def test_a_layer_that_nothing_is_known_of_has_no_numbers_and_is_no_healthy_one():
    for subject in (layer(evidence=""), layer(Look(0, 99, 100, None), evidence="")):
        judged = judge(subject, THRESHOLDS)
        assert (judged.verdict.status, judged.verdict.units, judged.verdict.dead) == ("unknown", None, None)
        assert judged.history is None
        assert findings(subject) == []


def test_signs_alone_show_who_is_closed_and_never_that_the_others_are_open():
    few = judge(layer(Look(9, 9, 100, first(1)), evidence="weights", partial=True), THRESHOLDS).verdict
    assert (few.status, few.dead) == ("unknown", 1)
    many = judge(layer(Look(9, 9, 100, first(11)), evidence="weights", partial=True), THRESHOLDS).verdict
    assert (many.status, many.dead) == ("severe", 11)


def test_coverage_counts_layers_and_is_blind_without_any():
    assert list(of_coverage(Coverage(3, 3, ()))) == []
    (note,) = of_coverage(Coverage(2, 3, ("fc3",)))
    assert (note.code, note.level) == ("unseen", "warning")
    (blind,) = of_coverage(Coverage(0, 2, ("fc1", "fc2")))
    assert (blind.code, blind.level) == ("blind", "severe")
    assert "two checkpoints" in blind.advice
