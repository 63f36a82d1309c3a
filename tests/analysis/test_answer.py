"""The one sentence: yes only by an intervention, never by what one run shows."""

from __future__ import annotations

import pytest

from deadneuron.analysis.answer import answer
from deadneuron.causes import Certificate, Observed, RateLink, Trial

SEEN = [Observed(0, "SGD[0]", (), None, None, 307, "")]


def dead(cause="kick", rate=0.2, count=3):
    return [Certificate(0, unit, cause, 31, 31, rate, 1.0, 1, None) for unit in range(count)]


def link(evidence="dither", ratio=2.93, p=0.001, of="deaths"):
    return RateLink(None, 0, evidence, of, ratio, 1.1, 4.1, p, "")


def branch(safe=0.1, over=0.2):
    return Trial("branch", "2024-02-29T12:00:00+00:00", safe, over, (), ())


def test_one_run_alone_cannot_tell():
    said = answer([], [link("observed", p=None)], dead() + dead("gradual") + dead("data shift"), SEEN)
    assert said == (
        "was it the rate? this run alone cannot tell: 3 of 9 certified deaths are consistent with it, "
        "3 with a data shift"
    )
    assert answer([], [], dead(), []).startswith("was it the rate? no rate is known")
    assert answer([], [], dead("born dead"), SEEN) == ""
    assert answer([], [], [], SEEN) == ""


@pytest.mark.parametrize("evidence", ["dither", "sweep"])
@pytest.mark.parametrize(
    ("ratio", "p", "yes"), [(2.93, 0.001, True), (2.93, 0.05, True), (2.93, 0.051, False), (0.4, 0.001, False)]
)
def test_a_randomised_rate_says_yes_by_its_p(evidence, ratio, p, yes):
    said = answer([], [link(evidence, ratio, p), link(evidence, 9.0, 0.0005, "revivals")], dead(), SEEN)
    assert said.startswith("was it the rate? yes, by" if yes else "was it the rate? not shown: ")
    assert f"the {evidence}: {ratio:.2g} times the deaths at higher rates (p = {p:.2g})" in said


@pytest.mark.parametrize(
    ("safe", "over", "yes"), [(0.1, 0.2, True), (None, 0.05, True), (0.2, 0.4, False), (0.8, None, False)]
)
def test_a_branch_says_yes_if_many_die_at_the_rates_that_the_deaths_used(safe, over, yes):
    said = answer([branch(0.3, 0.6), branch(safe, over)], [], dead(), SEEN)
    assert said.startswith("was it the rate? yes, by the branch" if yes else "was it the rate? not shown: the branch")
    assert answer([branch(safe, over)], [], dead(rate=None), SEEN).startswith("was it the rate? this run alone")


def test_what_says_yes_stands_together_and_doubt_is_left_out():
    said = answer([branch()], [link(), link("sweep", 1.2, 0.3)], dead(), SEEN)
    assert said == (
        "was it the rate? yes, by the dither: 2.9 times the deaths at higher rates (p = 0.001) and the branch: "
        "many units die at 0.2, few units die up to 0.1"
    )
