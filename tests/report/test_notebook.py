"""What a diagnosis and a run show of themselves in a notebook."""

from __future__ import annotations

import pytest
from diagnoses import KINDS
from making import make_run, make_site, make_ticks
from naming import HOSTILE, named
from visible import plain, read_html

import deadneuron
from deadneuron.report.style import printable


@pytest.fixture(autouse=True, scope="module")
def face():
    """The public face teaches them to."""
    assert deadneuron.Run is not None


def hostile_run(name):
    sites = [make_site(0, 7, name=name, op=name, feeder=name), make_site(1, 11)]
    return make_run(sites, [], make_ticks([0.1] * 13), run=name, model=name, profile=name, groups=(name,))


def tags(seen):
    return [tag for tag, _ in seen.tags if tag != "code"]


def test_a_diagnosis_shows_its_verdict_its_layers_and_its_findings(kind, diagnosis):
    seen = read_html(diagnosis._repr_html_())
    assert diagnosis.status in seen.text
    if diagnosis.verdicts:
        assert {row[1] for row in seen.tables[0][1:]} == {verdict.name for verdict in diagnosis.verdicts}
    for finding in diagnosis.findings:
        assert finding.text in seen.text
        assert finding.code in seen.text
    for gap in diagnosis.gaps:
        assert gap.reason in seen.text


def test_of_many_layers_the_worst_are_shown_in_their_order():
    from dataclasses import replace

    one = KINDS["dying"]()
    verdict = one.verdicts[0]
    many = [replace(verdict, site=n, name=f"l{n}", units=101, dead=n % 53) for n in range(71)]
    seen = read_html(replace(one, verdicts=tuple(many), history=())._repr_html_())
    names = [row[1] for row in seen.tables[0][1:]]
    assert len(names) == 20
    assert names == sorted(names, key=lambda name: int(name[1:]))
    assert names[-1] == "l52"
    assert "and 51 more layers" in seen.text


def test_a_run_says_what_it_is_and_how_to_go_on():
    seen = read_html(make_run([make_site(0, 7), make_site(1, 11)], [], make_ticks([0.1] * 13))._repr_html_())
    assert [row[:4] for row in seen.tables[0][1:]] == [
        ["layer0", "ReLU", "7", "layer0.bias"],
        ["layer1", "ReLU", "11", "layer1.bias"],
    ]
    assert "13 steps" in seen.text
    assert {"deadneuron.diagnose(run)", "run.plot()", "run.layers"} <= set(map(plain, seen.code))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(name):
    dying = KINDS["dying"]()
    for shown, known in (
        (named(dying, name)._repr_html_(), named(dying, "plain")._repr_html_()),
        (hostile_run(name)._repr_html_(), hostile_run("plain")._repr_html_()),
    ):
        seen = read_html(shown)
        assert set(tags(seen)) == set(tags(read_html(known)))
        assert plain(printable(name)) in seen.text
        assert all(set(attributes) <= {"style", "class"} for _, attributes in seen.tags)


def test_nothing_but_markup_and_text(diagnosis):
    for forbidden in ("<script", "<style", "http://", "https://", "onload", "@import"):
        assert forbidden not in diagnosis._repr_html_()
