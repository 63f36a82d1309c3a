"""A finding is a sentence with its evidence, and both can be written as JSON."""

from __future__ import annotations

import json
import math

import pytest
from making import ends_every, ints, lives, make_run, make_site, make_ticks, make_windows

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.gravity import fails
from deadneuron.records import LEVELS

STEPS = 300
SITE = make_site(0, 20)


def run_of(kind):
    def windows(silent, steps=STEPS, **changes):
        return make_windows(SITE, lives(20, steps, silent), ends_every(50, steps), **changes)

    def spell(count, first):
        return {unit: [(first, STEPS - 1)] for unit in range(count)}

    ticks = make_ticks([0.1 / (1 + step) for step in range(STEPS)])
    if kind == "stuck":
        return make_run([SITE], windows(spell(13, 51)), ticks)
    if kind == "dying":
        return make_run([SITE], windows(spell(3, 51) | {7: [(101, STEPS - 1)]}), ticks)
    if kind == "born-dead":
        return make_run([SITE], windows(spell(3, 0)), ticks)
    if kind == "nonfinite":
        return make_run([SITE], windows({}, nonfinite=ints([1] * 20), first_nonfinite=ints([100] * 20)), ticks)
    if kind == "too-short":
        return make_run([SITE], windows({0: [(0, 59)]}, steps=60), ticks[:60])
    if kind == "lost":
        return make_run([SITE], windows({}, steps=150), ticks)
    if kind == "unseen":
        return make_run([SITE], windows({}), ticks, modules=("layer0", *(f"other{i}" for i in range(7))))
    return make_run(ticks=ticks, modules=("layer0",))


LEVEL = {
    "stuck": "severe",
    "dying": "warning",
    "born-dead": "note",
    "nonfinite": "severe",
    "too-short": "warning",
    "lost": "warning",
    "unseen": "note",
    "blind": "severe",
}


@pytest.mark.parametrize("kind", LEVEL)
def test_each_trouble_is_one_finding_of_its_level_with_evidence_for_json(kind):
    diagnosis = diagnose(run_of(kind))
    (finding,) = diagnosis.findings
    assert (finding.code, finding.level) == (kind, LEVEL[kind])
    assert json.loads(json.dumps(finding.evidence, allow_nan=False)) == finding.evidence
    assert finding.text
    assert finding.advice
    assert "\n" not in finding.text
    assert all(line.strip() for line in finding.advice.split("\n"))
    for level in LEVELS:
        assert fails(diagnosis, level) == (LEVELS.index(LEVEL[kind]) >= LEVELS.index(level))


def test_a_finding_says_how_many_since_when_and_at_which_rate():
    (finding,) = diagnose(run_of("dying")).findings
    assert finding.text == (
        "layer0 is dying: 4 of 20 units (20%) died during the run and are dead at its end; "
        "deaths from step 50 to 100, half of them by step 50, at rates 0.00099–0.00196"
    )
    assert finding.evidence["worst_steps"] == [[50, 3, 0.1 / 51], [100, 1, 0.1 / 101]]
    assert finding.evidence["rates"] == [0.1 / 101, 0.1 / 51]
    assert finding.evidence["window"] == [0, 299]
    assert finding.evidence["samples"] == 11 * 150, "of the unit that was silent least: since step 101"
    assert finding.evidence["bound"] == 3 / (11 * 150)
    assert "0.00049" in finding.advice, "a quarter of what the median death used"


def test_units_that_revived_are_no_evidence():
    silent = {unit: [(51, STEPS - 1)] for unit in range(3)} | {9: [(11, 200)]}
    run = make_run(
        [SITE], make_windows(SITE, lives(20, STEPS, silent), ends_every(50, STEPS)), make_ticks([0.1] * STEPS)
    )
    diagnosis = diagnose(run)
    assert diagnosis.verdicts[0].revived == 1
    assert diagnosis.findings[0].evidence["worst_steps"] == [[50, 3, 0.1]]
    assert "all deaths in step 50 at rate 0.1" in diagnosis.findings[0].text


def test_unseen_sites_are_named_up_to_five():
    (finding,) = diagnose(run_of("unseen")).findings
    assert finding.text == ("7 of 8 activation sites were never seen: other0, other1, other2, other3, other4 …")
    assert len(finding.evidence["unseen"]) == 7


def test_without_rates_nothing_is_said_of_them():
    run = make_run(
        [SITE],
        make_windows(SITE, lives(20, STEPS, {u: [(51, 299)] for u in range(3)}), ends_every(50, STEPS)),
        make_ticks([math.nan] * STEPS),
    )
    (finding,) = diagnose(run).findings
    assert finding.text.endswith("all deaths in step 50")
    assert finding.evidence["rates"] is None
    assert "a lower learning rate" in finding.advice
