"""Text, Markdown and HTML show the same cells, sentences and numbers, from nothing at all to 300 layers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from checkpointed import CHECKPOINTS, make_diagnosis, make_history, make_infos, make_verdict
from diagnoses import KINDS
from hypothesis import given, settings
from making import make_run
from spells import World, worlds
from visible import plain, read_html, read_markdown

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import Coverage, Diagnosis, Reference
from deadneuron.report.cells import columns_of, rows_of
from deadneuron.report.html import render_html
from deadneuron.report.markdown import render_markdown
from deadneuron.report.page import Grid, Page
from deadneuron.report.sentences import page_of
from deadneuron.report.text import render_text

ALL = {**KINDS, **{f"checkpoints-{kind}": make for kind, make in CHECKPOINTS.items()}}
NUMBER = re.compile(r"\d+(?:[,.]\d+)*(?:e-\d+)?")


def sentences(page: Page) -> list[str]:
    """All that a page says, but for the table of layers."""
    said = [*page.head, page.verdict, page.caveat, page.answer, page.seen, page.how, page.reference]
    for why in page.why:
        said += [why.text, *why.facts]
    for part in page.told:
        said += [cell for row in part.rows for cell in row] if isinstance(part, Grid) else [part.words.plain]
    for advice in page.next:
        said += [advice.text.removesuffix(":"), " ".join(advice.command), *advice.where]
    if page.checkpoints is not None:
        said += [page.checkpoints.said, *(cell for row in page.checkpoints.grid.rows for cell in row)]
    return said + [word for gap in page.gaps for word in (gap.where, gap.reason)]


def agree(diagnosis: Diagnosis) -> None:
    markdown, html = read_markdown(render_markdown(diagnosis)), read_html(render_html(diagnosis))
    for said in sentences(page_of(diagnosis)):
        for seen in (markdown, html):
            assert plain(said) in seen.text, said
    if any(verdict.units for verdict in diagnosis.verdicts):
        columns, rows = columns_of(diagnosis), rows_of(diagnosis)
        cells = [[plain(column.cell(row)) for column in columns] for row in rows]
        assert [[plain(cell) for cell in row] for row in markdown.tables[0][1:]] == cells
        shown = [[plain(cell) for cell in row] for row in html.tables[0][1:]]
        drawn = [number for number, column in enumerate(columns) if column.header == "dead, over time"]
        assert [row[: len(cells[0]) - len(drawn)] for row in shown] == [row[: len(row) - len(drawn)] for row in cells]


@pytest.mark.parametrize("kind", ALL)
def test_every_sentence_and_every_cell_is_in_all_of_them(kind):
    agree(ALL[kind]())


def test_what_a_reference_batch_took_is_in_all_of_them(dying):
    diagnosis = replace(dying, reference=Reference(7, 0.5, 50.0, 61))
    assert page_of(diagnosis).reference == "reference batch of 61 examples: 7 passes, 0.5 s, 1.0% of the run's time"
    agree(diagnosis)


@settings(max_examples=25, deadline=None)
@given(world=worlds())
def test_so_it_is_for_any_run(world: World):
    agree(diagnose(make_run([world.site], world.windows(), thresholds=world.thresholds)))


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "checkpoints-series"])  # which the text shortens
def test_no_number_of_the_text_report_is_missing(kind):
    diagnosis = ALL[kind]()
    wanted = Counter(NUMBER.findall(render_text(diagnosis, width=1000)))
    for seen in (read_markdown(render_markdown(diagnosis)), read_html(render_html(diagnosis))):
        found = Counter(NUMBER.findall(" ".join(plain(word) for word in seen.words + seen.code)))
        assert not wanted - found


@pytest.mark.parametrize("count", [1, 2, 37, 300])
def test_any_number_of_layers(count):
    verdicts = [make_verdict(n, 11 + n, min(n, 7), since=100 * n, since_latest=100 * n + 99) for n in range(count)]
    history = [make_history(n, (0, 100), (0.0, min(n, 7) / (11 + n))) for n in range(count)]
    diagnosis = make_diagnosis(verdicts, make_infos((0, 100)), history=history)
    agree(diagnosis)
    assert len(read_html(render_html(diagnosis)).tables[0]) == count + 1
    assert len(render_html(diagnosis)) < 12_000 + 2_000 * count


@pytest.mark.parametrize("source", ["run", "checkpoints"])
def test_an_empty_diagnosis_is_a_report_too(source):
    empty = make_diagnosis([], (), run="", model="", status="unknown", coverage=Coverage(0, 0, ()), source=source)
    agree(empty)
    for text in (render_text(empty), render_markdown(empty), render_html(empty)):
        assert "unknown" in text
        assert "healthy" not in read_html(text).text if text.startswith("<") else "healthy" not in text


def test_what_is_said_of_a_finding_is_shortened_alike():
    facts = ["one", "two", "three", "four", "five"]
    first = CHECKPOINTS["stuck"]().findings[0]
    diagnosis = replace(CHECKPOINTS["stuck"](), findings=(replace(first, evidence={**first.evidence, "facts": facts}),))
    agree(diagnosis)
    assert page_of(diagnosis).why[0].facts[:4] == ("one", "two", "three", "and 2 more like these")


def test_what_the_same_evidence_rests_on_is_told_once():
    made = CHECKPOINTS["stuck"]()
    rests = (["one", "two"], ["one", "two"], ["one", "three"], ["one"], ["one"])
    findings = tuple(
        replace(made.findings[0], where=f"layers.{at}", evidence={"facts": facts}) for at, facts in enumerate(rests)
    )
    diagnosis = replace(made, findings=findings)
    agree(diagnosis)
    told = [one.facts for one in page_of(diagnosis).why]
    assert told == [("one", "two"), ("known in the same way as layers.0",), ("one", "three"), ("one",), ("one",)]
    again = replace(diagnosis, findings=(findings[0], replace(findings[1], where="layers.0")))
    assert page_of(again).why[1].facts == ("one", "two")


def test_one_unit_is_dead():
    for dead, words in ((1, "1 of 41 units is dead"), (2, "2 of 41 units are dead")):
        made = CHECKPOINTS["stuck"]()
        verdict = replace(made.verdicts[0], units=41, dead=dead)
        assert words in page_of(replace(made, verdicts=(verdict,))).verdict
