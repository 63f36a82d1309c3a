"""A comparison as text, Markdown, JSON and annotations: the same facts, and names that stay names."""

from __future__ import annotations

import json

import jsonschema
import pytest
from diagnoses import KINDS
from naming import HOSTILE, named
from visible import plain, read_markdown

from deadneuron.analysis.difference import baseline_of, compare
from deadneuron.report.difference import difference_github, difference_markdown, difference_text
from deadneuron.report.difference_json import (
    difference_schema,
    parse_baseline,
    parse_difference,
    render_baseline,
    render_difference,
)
from deadneuron.report.style import printable

TURNS = [("healthy", "dying"), ("dying", "healthy"), ("dying", "stuck"), ("stuck", "gaps"), ("unknown", "dying")]


@pytest.fixture(params=TURNS, ids="-".join)
def difference(request):
    before, after = request.param
    return compare(KINDS[before](), KINDS[after]())


def test_the_text_of_a_run_that_got_worse():
    text = difference_text(compare(KINDS["healthy"](), KINDS["dying"]()), then=["deadneuron report b"])
    lines = text.splitlines()
    assert lines[0] == "runs/made → runs/made"
    assert lines[2] == "✓ healthy → ! warning; layers: 1 worse, 1 only after, 1 same; findings: 1 new"
    assert lines[4:8] == [
        "LAYERS",
        "  ✗ layers.0.act  ✓ 1 of 101 dead (1%) → ! 31 of 101 dead (31%)",
        "  + layers.2.act  ✓ 0 of 29 dead (0%), in the second only",
        "  = 1 layer about the same",
    ]
    assert lines[9] == "NEW"
    assert lines[10].startswith("  ! layers.0.act is dying: 31 of 101 units (31%)")
    assert lines[-2:] == ["NEXT", "  deadneuron report b"]


def test_text_and_markdown_tell_of_every_layer_that_changed_and_of_every_finding(difference):
    changed = [change for change in difference.changes if change.way != "same"]
    shown = read_markdown(difference_markdown(difference))
    text = plain(difference_text(difference, width=10_000))
    if changed:
        assert {row[1] for row in shown.tables[0][1:]} == {change.name for change in changed}
    for change in changed:
        assert change.name in text
    for finding in (*difference.new, *difference.graver, *difference.known, *difference.lighter, *difference.gone):
        assert finding.text in text
        assert finding.text in shown.text


def test_lines_fit_the_width():
    difference = compare(KINDS["healthy"](), KINDS["stuck"]())
    assert max(map(len, difference_text(difference, width=61).splitlines())) <= 71  # the line of a layer is not folded


def test_only_what_is_new_or_graver_is_annotated(difference):
    assert difference_github(difference).count("\n") == len(difference.new) + len(difference.graver)


def test_json_is_read_back_and_fits_its_schema(difference):
    text = render_difference(difference)
    jsonschema.validate(json.loads(text), difference_schema())
    read = parse_difference(text)
    assert render_difference(read) == text
    assert read.version == 1
    assert [(one.name, one.way) for one in read.changes] == [(one.name, one.way) for one in difference.changes]


@pytest.mark.parametrize("kind", KINDS)
def test_a_baseline_is_read_back(kind):
    known = baseline_of(KINDS[kind]())
    assert parse_baseline(render_baseline(known)) == known
    assert render_baseline(dict(reversed(known.items()))) == render_baseline(known)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"known": []}',
        '{"version": 2, "known": []}',
        '{"version": 1, "known": [["dying", "a"]]}',
        '{"version": 1, "known": [{"code": "dying", "where": "a", "level": "bad"}]}',
        '{"version": 1, "known": [], "more": 1}',
    ],
)
def test_what_is_no_baseline_is_refused(text):
    with pytest.raises(ValueError, match="validation error"):
        parse_baseline(text)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_drives_a_terminal_or_becomes_markup(name):
    dying = KINDS["dying"]()
    difference = compare(KINDS["healthy"](), named(dying, name))
    text = difference_text(difference, then=[f"deadneuron report {name}"])
    assert all(char.isprintable() or char == "\n" for char in text)
    shown = read_markdown(difference_markdown(difference, then=[f"deadneuron report {name}"]))
    known = read_markdown(difference_markdown(compare(KINDS["healthy"](), named(dying, "plain")), then=["x"]))
    assert tags(shown) == tags(known)
    assert plain(printable(name)).split() == [] or plain(printable(name)) in shown.text
    assert parse_baseline(render_baseline(baseline_of(named(dying, name)))) == baseline_of(named(dying, name))


def tags(seen):
    """But for items of lists: advice of several lines is several items."""
    return [tag for tag, _ in seen.tags if tag not in ("code", "ul", "li")]
