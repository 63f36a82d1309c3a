"""What became better and what became worse: exact cases, then that looking the other way round says the reverse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from diagnoses import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st

from deadneuron.analysis.difference import baseline_of, compare, worsened
from deadneuron.profiles import load_profile
from deadneuron.records import LEVELS, Diagnosis, Finding, Verdict

MIRRORED = {
    "worse": "better",
    "better": "worse",
    "only before": "only after",
    "only after": "only before",
    "same": "same",
    "unknown": "unknown",
}
HEALTHY = KINDS["healthy"]()
GRAVITY = {"healthy": 0, "warning": 1, "severe": 2}


def finding(code="dying", where="a", level="warning"):
    return Finding(code, level, where, f"{where} is {code}", "do something")


def layer(name="a", status="healthy", units=100, dead=0):
    return Verdict(0, name, "ReLU", status, units=units, dead=dead)


def made(verdicts=(), findings=(), **changes) -> Diagnosis:
    kept = {"verdicts": tuple(verdicts), "findings": tuple(findings), "status": "healthy", "gaps": ()}
    return replace(HEALTHY, **(kept | changes))


def ways(before, after):
    return {change.name: change.way for change in compare(made(before), made(after)).changes}


def keys(findings):
    return [(one.code, one.where, one.level) for one in findings]


@pytest.mark.parametrize(
    ("before", "after", "way"),
    [
        (layer(dead=3), layer(dead=3), "same"),
        (layer(dead=3), layer(dead=12), "same"),  # 9 of 100 more; a warning takes 10
        (layer(dead=3), layer(dead=13), "worse"),
        (layer(dead=13), layer(dead=3), "better"),
        (layer(dead=20), layer(dead=30), "worse"),  # 0.3 - 0.2 < 0.1 in floats
        (layer(dead=9), layer(dead=10, status="warning"), "worse"),  # graver
        (layer(dead=90, status="severe"), layer(dead=95, status="warning"), "better"),  # lighter, whatever the counts
        (layer(dead=10, status="unknown"), layer(dead=90, status="severe"), "unknown"),
        (layer(dead=10), layer(dead=None, units=None, status="unknown"), "unknown"),
        (layer(dead=1, units=7), layer(dead=1, units=1000), "better"),  # shares, not counts
        (layer(dead=0, units=3), layer(dead=0, units=5), "same"),
    ],
)
def test_a_layer_is_worse_if_it_is_graver_or_lost_the_share_of_a_warning(before, after, way):
    assert load_profile("default").thresholds.warning == 0.1
    assert ways([before], [after]) == {"a": way}
    assert ways([after], [before]) == {"a": MIRRORED[way]}


def test_layers_are_matched_by_name():
    assert ways([layer("a"), layer("b", dead=30)], [layer("b", dead=1), layer("c")]) == {
        "b": "better",
        "c": "only after",
        "a": "only before",
    }


def test_findings_are_new_graver_lighter_or_gone():
    before = made(findings=[finding("dying"), finding("stuck", "b", "severe"), finding("silent"), finding("lost")])
    after = made(
        findings=[finding("dying", level="severe"), finding("stuck", "b"), finding("silent", "c"), finding("lost")]
    )
    found = compare(before, after)
    assert keys(found.new) == [("silent", "c", "warning")]
    assert keys(found.graver) == [("dying", "a", "severe")]
    assert keys(found.lighter) == [("stuck", "b", "warning")]
    assert keys(found.gone) == [("silent", "a", "warning")]
    assert found.known == ()


def test_of_several_findings_with_one_key_the_gravest_counts():
    before = made(findings=[finding(level="note"), finding(level="severe")])
    after = made(findings=[finding(level="severe"), finding(level="note")])
    found = compare(before, after)
    assert (found.new, found.graver, found.lighter, found.gone) == ((), (), (), ())


@pytest.mark.parametrize("level", ["warning", "severe"])
@pytest.mark.parametrize("found", ["note", "warning", "severe", None])
@pytest.mark.parametrize("before", ["note", "warning", "severe", None])
def test_what_worsens_is_new_or_graver_and_at_or_above_the_level(before, found, level):
    one = made(findings=[finding(level=before)] if before else [])
    two = made(findings=[finding(level=found)] if found else [])
    fresh = found is not None and (before is None or LEVELS.index(found) > LEVELS.index(before))
    assert worsened(compare(one, two), level) == (fresh and LEVELS.index(found) >= LEVELS.index(level))


def test_a_known_finding_is_not_new_until_it_is_graver():
    before, after = made(), made(findings=[finding(), finding("stuck", "b", "severe")])
    found = compare(before, after, baseline_of(after))
    assert (found.new, found.graver) == ((), ())
    assert keys(found.known) == keys(after.findings)
    assert not worsened(found, "warning")
    lighter = dict.fromkeys(baseline_of(after), "note")
    assert keys(compare(before, after, lighter).new) == keys(after.findings)
    assert keys(compare(before, after, {("dying", "elsewhere"): "severe"}).new) == keys(after.findings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diagnosis_against_itself_is_the_same(kind):
    one = KINDS[kind]()
    found = compare(one, one)
    assert {change.way for change in found.changes} <= {"same", "unknown"}
    assert (found.new, found.graver, found.known, found.lighter, found.gone, found.notes) == ((),) * 6
    assert not worsened(found, "warning")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"last_step": 1000}, "one has 307 steps and the other 1,001"),
        ({"source": "checkpoints"}, "the other from checkpoints"),
        ({"thresholds": load_profile("strict").thresholds}, "different thresholds"),
        ({"model": "Other"}, "their models differ: Net and Other"),
        ({"verdicts": (layer("z"),)}, "no layer of the same name"),
        ({"verdicts": (layer("a", "unknown", None, None),)}, "seen in the first only: a"),
    ],
)
def test_what_makes_two_hard_to_compare_is_said_both_ways(changes, said):
    one = made([layer("a")])
    other = replace(one, **changes)
    (note,) = compare(one, other).notes
    assert said in note
    assert len(compare(other, one).notes) == 1


VERDICTS = st.builds(
    lambda name, status, units, share: Verdict(
        0,
        name,
        "ReLU",
        "unknown" if not units else status,
        units=units or None,
        dead=None if not units else round(units * share),
    ),
    st.sampled_from("abcde"),
    st.sampled_from(["healthy", "warning", "severe", "unknown"]),
    st.integers(0, 211),
    st.floats(0, 1),
)
FINDINGS = st.builds(finding, st.sampled_from(["dying", "stuck"]), st.sampled_from("abc"), st.sampled_from(LEVELS))
DIAGNOSES = st.builds(
    lambda verdicts, findings, warning, status: made(
        verdicts,
        findings,
        status=status,
        thresholds=replace(DEFAULT, warning=warning),
    ),
    st.lists(VERDICTS, max_size=5, unique_by=lambda verdict: verdict.name),
    st.lists(FINDINGS, max_size=6),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.sampled_from(["healthy", "warning", "severe", "unknown"]),
)
DEFAULT = load_profile("default").thresholds


@settings(deadline=None)
@given(DIAGNOSES, DIAGNOSES)
def test_looking_the_other_way_round_says_the_reverse(one, two):
    there, back = compare(one, two), compare(two, one)
    assert {c.name: MIRRORED[c.way] for c in there.changes} == {c.name: c.way for c in back.changes}
    assert {c.name: (c.after, c.before) for c in there.changes} == {c.name: (c.before, c.after) for c in back.changes}
    assert (there.status_before, there.status_after) == (back.status_after, back.status_before)
    assert sorted(keys(there.new)) == sorted(keys(back.gone))
    assert sorted(keys(there.gone)) == sorted(keys(back.new))
    assert {key[:2] for key in keys(there.graver)} == {key[:2] for key in keys(back.lighter)}
    assert {key[:2] for key in keys(there.lighter)} == {key[:2] for key in keys(back.graver)}


@settings(deadline=None)
@given(DIAGNOSES, DIAGNOSES)
def test_every_finding_of_the_second_is_told_once_or_is_as_before(one, two):
    found = compare(one, two)
    told = keys((*found.new, *found.graver, *found.lighter))
    assert len(told) == len(set(told))
    assert {key[:2] for key in keys(two.findings)} - {key[:2] for key in told} <= {
        key[:2] for key in keys(one.findings)
    }
    assert compare(one, two, baseline_of(two)).known == tuple(
        one for one in gravest(two.findings) if one in (*found.new, *found.graver)
    )


def gravest(findings):
    best = {}
    for one in findings:
        key = (one.code, one.where)
        best[key] = max(best.get(key, one), one, key=lambda f: LEVELS.index(f.level))
    return list(best.values())


@settings(deadline=None)
@given(VERDICTS, VERDICTS)
def test_no_layer_with_a_graver_status_is_called_better(one, two):
    (change,) = compare(made([replace(one, name="a")]), made([replace(two, name="a")])).changes
    if change.way in ("better", "worse"):
        risen = GRAVITY[change.after.status] - GRAVITY[change.before.status]
        assert (risen <= 0) if change.way == "better" else (risen >= 0)
