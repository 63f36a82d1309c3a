"""An advice names a rate with what it rests on, and speaks of what the deaths look like."""

from __future__ import annotations

import pytest
from making import make_thresholds

from deadneuron.analysis.advice import Evidence, advise
from deadneuron.causes import Certificate, RateLink, Trial
from deadneuron.records import Episode

THRESHOLDS = make_thresholds()


def deaths(*steps, rate=0.2):
    return [Episode(0, unit, "died", step, None, False, rate, 307) for unit, step in enumerate(steps)]


def certificates(cause, *steps):
    return [Certificate(0, unit, cause, step, step, 0.2, 1.0, 1, None) for unit, step in enumerate(steps)]


def link(evidence="dither", ratio=2.93, low=1.7, of="deaths", p=0.001):
    return RateLink(None, 0, evidence, of, ratio, low, 4.1, p, "")


def trial(kind, safe, over=0.4, **result):
    return Trial(kind, "2024-02-29T12:00:00+00:00", safe, over, (), (), result)


def advice(made=(), *, own=(), trials=(), links=(), settings=None):
    made = made or deaths(307, 311, 313)
    return advise(made, Evidence(own, trials, links, settings or {}, THRESHOLDS))


def test_without_more_it_is_a_quarter_of_what_the_median_death_used_and_says_how_to_learn_more():
    said = advice([*deaths(307, 311, 313), *deaths(401, rate=0.001)])
    assert "try 0.05, a quarter of what the median death used" in said, "not of one late death in a schedule's tail"
    assert "deadneuron branch or sweep can tell" in said
    assert "LeakyReLU" in said
    assert "warm-up" not in said
    assert "momentum" not in said


def test_a_trial_names_its_rate_and_a_branch_stands_before_a_sweep_and_the_latest_before_earlier():
    said = advice(trials=[trial("branch", 0.03), trial("branch", 0.025), trial("sweep", 0.1)])
    assert said.startswith("train at rate 0.025: the branch lost less than 15% of the units there, and 0.4 is over it")
    assert advice(trials=[trial("sweep", 0.1, None)]).startswith("train at rate 0.1: the sweep lost less than 15%")
    assert "quarter" in advice(trials=[trial("branch", None)]), "no rate was under the threshold"


@pytest.mark.parametrize(
    ("kind", "safe", "advised"),
    [
        ("branch", 0.1, True),
        ("branch", 0.11, False),
        ("branch", 0.3, False),
        ("sweep", 0.19, True),
        ("sweep", 0.2, False),
    ],
)
def test_a_rate_is_advised_if_it_is_well_below_what_the_deaths_used(kind, safe, advised):
    """A sweep trained from the beginning at it; a branch speaks only of what follows the step that it was made at."""
    said = advice(trials=[trial(kind, safe)])
    if advised:
        assert said.startswith(f"train at rate {safe}: the {kind} lost less than 15% of the units there")
    else:
        assert said.startswith("train again at a lower rate (try 0.05, a quarter of what the median death used; the ")
        told = f"the {kind} lost less than 15% of the units at {safe}"
        told += ", from where it was made" if kind == "branch" else ""
        assert f"{told}, but half of these died at 0.2 or less)" in said


def test_where_the_latest_trial_found_no_rate_under_the_threshold_the_advice_lies_below_what_it_tried():
    said = advice(trials=[trial("branch", 0.1), trial("branch", None, 0.04)])
    assert said.startswith(
        "train again at a lower rate (try 0.01: the branch lost 15% of the units or more at 0.04, the"
    )
    assert "train at rate 0.1: the sweep" in advice(trials=[trial("sweep", 0.1), trial("branch", None, 0.4)])


def test_a_trial_is_told_with_the_threshold_that_it_was_judged_by():
    assert "the branch lost less than 5% of the units" in advice(trials=[trial("branch", 0.1, threshold=0.05)])
    assert "the sweep lost less than 25% of the units" in advice(trials=[trial("sweep", 0.1, limit=0.25)])


def test_deaths_at_rate_0_ask_for_no_lower_rate_and_no_warm_up():
    said = advice(deaths(3, 5, 8, rate=0.0), settings={"momentum": 0.9, "betas": [0.9, 0.999]})
    assert said.startswith("the updates that these deaths are dated by used rate 0: look for another cause first\n")
    assert "try" not in said
    assert "warm-up" not in said
    assert "momentum" not in said
    assert "try 0.05, a quarter of what" in advice([*deaths(3, rate=0.0), *deaths(307)])


@pytest.mark.parametrize(
    ("links", "shown"),
    [
        ([link()], "2.9 times the deaths at its higher rates)"),
        ([link(low=0.97)], "2.9 times the deaths at its higher rates, which may be chance)"),
        ([link(of="revivals")], ""),
        ([link("observed", p=None)], ""),
    ],
)
def test_a_ratio_is_named_if_it_is_of_an_intervention_and_called_chance_if_it_may_be(links, shown):
    said = advice(links=links)
    assert f"the dither saw {shown}" in said if shown else "the dither saw" not in said


def test_deaths_in_the_first_steps_ask_for_a_warm_up_over_twice_their_time():
    steps = [3, 5, 8, 13, 21, 22, 23, 24, 25, 94]
    assert "100% of the deaths fell in the first 26 steps: try a warm-up over 60" in advice(deaths(*steps))
    assert "62% of the deaths fell in the first 9 steps: try a warm-up over 20" in advice(
        deaths(3, 5, 6, 7, 8, 200, 201, 202)
    )
    assert "warm-up" not in advice(deaths(3, 5, 200, 201, 202))


def test_momentum_is_told_with_what_it_makes_of_the_rate():
    said = advice(settings={"momentum": 0.9})
    assert "momentum 0.9 makes steps of one direction add up to 10 times the rate (0.2 acts like 2 without)" in said
    assert "momentum" not in advice(settings={"momentum": 0})
    assert "Adam" not in advice(settings={"betas": [0.9, 0.999]}), "only where deaths are early"
    assert "Adam's first updates" in advice(deaths(3, 5, 8), settings={"betas": [0.9, 0.999]})


def test_a_data_shift_is_no_matter_of_the_rate():
    said = advice(own=certificates("data shift", 301, 307, 311) + certificates("kick", 3))
    assert "still fire on the reference batch" in said
    assert "from about step 307 on" in said
    assert "rate" not in said.replace("reference", "")
    assert "quarter" in advice(own=certificates("data shift", 301) + certificates("kick", 3))


def test_a_slow_fall_is_told_first():
    said = advice(own=[*certificates("gradual", 301, 307), *certificates("born dead", 0, 0, 0)])
    assert said.startswith("these units fell slowly")
    assert "quarter" in said
    slow = certificates("gradual", 301, 307)
    assert "slowly" not in advice(own=slow, trials=[trial("sweep", 0.1)]), "what was tried stands first"
    assert "slowly" not in advice(own=slow, links=[link()])
    assert "slowly" in advice(own=slow, links=[link(low=0.9)])


def test_deaths_without_a_rate_have_no_number():
    assert advice(deaths(301, rate=None)).startswith("try a lower learning rate\n")
