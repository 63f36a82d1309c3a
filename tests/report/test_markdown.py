"""The report in Markdown: golden files, and names that stay text on GitHub."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from checkpointed import CHECKPOINTS
from diagnoses import KINDS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naming import HOSTILE, named
from visible import plain, read_markdown

from deadneuron.report.escape import code, escaped
from deadneuron.report.markdown import render_markdown
from deadneuron.report.style import printable

GOLDEN = Path(__file__).parent.parent / "golden" / "markdown"
ALL = {**KINDS, **{f"checkpoints-{kind}": make for kind, make in CHECKPOINTS.items()}}
OURS = {"details", "summary"}  # the HTML that the report itself writes
SHOWN = OURS | {"h2", "h3", "p", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}
LIVE = re.compile(r"@\w|#\w|:\w+:|https?://|www\.", re.IGNORECASE)  # what GitHub would make a link or a picture of
NAMES = st.text(max_size=40) | st.text("`|\\*_[]()<>&#@!~$:-+=.1 a\n", max_size=20)


@pytest.mark.parametrize("kind", ALL)
def test_the_report_is_the_golden_one(kind):
    path = GOLDEN / f"{kind}.md"
    text = render_markdown(ALL[kind]())
    if os.environ.get("DEADNEURON_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), "if this is wanted: DEADNEURON_GOLDEN=write (see test_text.py)"


def test_every_golden_file_belongs_to_a_kind_of_report():
    assert {path.stem for path in GOLDEN.iterdir()} == set(ALL)


@given(text=NAMES)
@example("1. x")
@example("- x")
@example("##")
@example("= = =")
@example("a\\|b")
@example("www.a.org")
def test_escaped_text_is_one_paragraph_that_reads_as_the_text(text):
    seen = read_markdown(escaped(printable(text)))
    assert seen.text == plain(printable(text))
    assert [tag for tag, _ in seen.tags] == ["p"] * bool(seen.text)
    assert not LIVE.search(" ".join(seen.words))


@given(text=NAMES, tail=st.sampled_from(["", "\\"]))
@example("`", "")
@example("a|b`", "\\")
def test_a_name_in_a_cell_stays_in_it(text, tail):
    name = printable(text) + tail
    row = f"| {code(name, cell=True)} | {escaped(name)} | last |"
    ((head, cells),) = read_markdown(f"| a | b | c |\n| :-- | --: | :-- |\n{row}\n").tables
    assert head == ["a", "b", "c"]
    assert [plain(cell) for cell in cells] == [plain(name), plain(name), "last"]


@given(text=NAMES)
def test_a_command_is_code_as_it_stands(text):
    seen = read_markdown(f"- type {code(printable(text))}")
    assert plain(" ".join(seen.code)) == plain(printable(text))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("of", ["dying", "checkpoints-dying"])
def test_hostile_names_are_text(name, of):
    seen = read_markdown(render_markdown(named(ALL[of](), name)))
    assert {tag for tag, _ in seen.tags} <= SHOWN
    assert all(not attributes or set(attributes) == {"style"} for _, attributes in seen.tags)  # of aligned columns
    assert not LIVE.search(" ".join(seen.words))
    layers = seen.tables[0]
    assert all(len(row) == len(layers[0]) for row in layers)
    place = layers[0].index("layer")
    assert {plain(row[place]) for row in layers[1:]} == {plain(printable(name))}


@settings(max_examples=30, deadline=None)
@given(name=NAMES)
def test_no_name_at_all_is_more_than_text(name):
    seen = read_markdown(render_markdown(named(CHECKPOINTS["adam"](), name)))
    assert {tag for tag, _ in seen.tags} <= SHOWN
    assert [plain(row[1]) for row in seen.tables[0][1:]] == [plain(printable(name))] * 2


def test_many_checkpoints_are_folded_and_all_there():
    text = render_markdown(CHECKPOINTS["series"]())
    assert "<details><summary>all checkpoints</summary>" in text
    assert all(f"`checkpoints/step-{step:04}.pt`" in text for step in range(0, 2300, 100))
    assert "all checkpoints" not in render_markdown(CHECKPOINTS["dying"]())
