"""The text report of checkpoints: golden files, and words that claim no more than the evidence says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from checkpointed import CHECKPOINTS, make_diagnosis, make_infos, make_verdict, unknown_verdict
from rich.cells import cell_len

from deadneuron.records import Episode
from deadneuron.report.cells import columns_of, rows_of
from deadneuron.report.deaths import deaths_between
from deadneuron.report.evidence import caveat
from deadneuron.report.legend import explain
from deadneuron.report.sentences import page_of
from deadneuron.report.text import render_text

GOLDEN = Path(__file__).parent.parent / "golden" / "checkpoints"


@pytest.fixture(params=CHECKPOINTS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def diagnosis(kind):
    return CHECKPOINTS[kind]()


def headers(diagnosis) -> list[str]:
    return [column.header for column in columns_of(diagnosis)]


def commands(diagnosis) -> list[str]:
    return [" ".join(advice.command) for advice in page_of(diagnosis).next if advice.command]


def test_the_report_is_the_golden_one(diagnosis, kind):
    path = GOLDEN / f"{kind}.txt"
    text = render_text(diagnosis, width=100)
    if os.environ.get("DEADNEURON_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), "if this is wanted: DEADNEURON_GOLDEN=write (see test_text.py)"


def test_every_golden_file_belongs_to_a_kind_of_report():
    assert {path.stem for path in GOLDEN.iterdir()} == set(CHECKPOINTS)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_wider_than_asked_and_every_layer_has_its_name(diagnosis, width):
    text = render_text(diagnosis, width=width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    table = text.partition("VERDICT")[2].partition("WHY")[0]
    if any(verdict.units for verdict in diagnosis.verdicts):
        assert all(verdict.name in table for verdict in diagnosis.verdicts)


def test_a_command_is_whole_at_any_width(diagnosis):
    for width in (40, 60, 80, 160):
        said = " ".join(render_text(diagnosis, width=width).replace("\\\n", " ").split())
        for command in commands(diagnosis):
            if len(command.partition(" --")[0]) + 6 <= width:
                assert command in said


def test_a_layer_is_no_activation_site(diagnosis):
    text = render_text(diagnosis, width=200)
    coverage = diagnosis.coverage
    assert f"{coverage.seen} of {coverage.known} layers judged" in text
    for word in ("activation site", "run", "watched", "still runs", "so far"):
        assert word not in text.replace("no code of the checkpoints was run", "").replace("the network was run", "")


def test_a_single_checkpoint_is_one_checkpoint():
    head = render_text(CHECKPOINTS["adam"](), width=200).splitlines()[0]
    assert head.endswith("· 1 checkpoint · 2 layers, 56 units · step 700")


def test_nothing_is_called_healthy_or_unchanged_where_nothing_is_known():
    text = render_text(CHECKPOINTS["unknown"](), width=200)
    assert "unknown: nothing is known of any layer" in text
    assert "healthy" not in text
    bare = replace(CHECKPOINTS["unknown"](), findings=())
    assert "nothing to change" not in render_text(bare, width=200)
    assert "nothing to change" in render_text(CHECKPOINTS["healthy"](), width=200)


def test_units_that_nothing_counted_are_in_no_sum():
    known, blank = make_verdict(0, 53, 7), replace(unknown_verdict(1, "head"), units=1009)
    text = render_text(make_diagnosis([known, blank], make_infos((0, 100))), width=200)
    assert "7 of 53 units are dead" in text


def test_columns_of_samples_are_there_only_where_something_was_measured():
    assert {"n", "3/n"}.isdisjoint(headers(CHECKPOINTS["dying"]()))
    assert {"n", "3/n", "rare", "dormant"} <= set(headers(CHECKPOINTS["measured"]()))
    assert "evidence" in headers(CHECKPOINTS["dying"]())
    assert headers(CHECKPOINTS["unknown"]()) == ["", "layer", "op", "units", "dead"]


def cells(diagnosis, header: str) -> list[str]:
    (column,) = (column for column in columns_of(diagnosis) if column.header == header)
    return [column.cell(row) for row in rows_of(diagnosis)]


def test_since_and_rate_are_spans():
    assert cells(CHECKPOINTS["dying"](), "since") == ["100–199", "", ""]
    assert cells(CHECKPOINTS["dying"](), "at lr") == ["0.003–0.01", "", ""]
    assert cells(CHECKPOINTS["stuck"](), "at lr") == ["0.1", ""]
    exact = make_verdict(0, 53, 7, since=1234, since_latest=None, rate=0.02)
    diagnosis = make_diagnosis([exact], make_infos((0, 2000)))
    assert (cells(diagnosis, "since"), cells(diagnosis, "at lr")) == (["1,234"], ["0.02"])


def test_what_weights_alone_show_is_a_lower_bound():
    assert cells(CHECKPOINTS["adam"](), "dead") == ["9 24%", "≥3 16%"]
    assert "at least 12 of 56 units" in page_of(CHECKPOINTS["adam"]()).verdict


@pytest.mark.parametrize("kind", ["dying", "stuck", "adam"])
def test_what_no_gradient_can_mean_is_said_once(diagnosis):
    text = " ".join(render_text(diagnosis, width=100).split())
    assert text.count("no gradient since step ≤ s is what weights and optimizer state can say") == 1
    assert text.count("masked losses, a dead next layer and outgoing weights of zero look alike") == 1


@pytest.mark.parametrize("kind", ["healthy", "unknown", "measured"])
def test_it_is_not_said_where_it_does_not_matter(diagnosis):
    assert caveat(diagnosis) == ""


def test_a_run_has_no_caveat_evidence_or_checkpoints(dying):
    assert page_of(dying).caveat == ""
    assert page_of(dying).checkpoints is None
    assert "evidence" not in headers(dying)


def test_the_legend_explains_the_evidence_that_the_table_names_and_no_other():
    words = [word for word, _ in explain(CHECKPOINTS["dying"](), headers(CHECKPOINTS["dying"]()))]
    assert [word for word in words if word not in ("dead", "since", "at lr", "silent")] == ["replay", "optimizer state"]
    narrow = [word for word, _ in explain(CHECKPOINTS["dying"](), ["", "layer", "units", "dead"])]
    assert "replay" not in narrow
    strange = make_diagnosis([make_verdict(0, 53, 7, evidence="tea leaves")], make_infos((0, 100)))
    assert "tea leaves" in cells(strange, "evidence")
    assert "tea leaves" not in [word for word, _ in explain(strange, headers(strange))]


def test_a_series_is_listed_by_its_first_last_and_count():
    part = render_text(CHECKPOINTS["series"](), width=100).partition("CHECKPOINTS")[2]
    assert part.startswith("  23: torch training dict; steps told by the optimizer's state\n")
    assert "… 21 more …" in part
    assert [step for step in range(0, 2300, 100) if f"step-{step:04}.pt" in part] == [0, 2200]
    assert len(page_of(CHECKPOINTS["series"]()).checkpoints.grid.rows) == 23


def test_what_checkpoints_do_not_share_is_a_column():
    first, second = make_infos((0, 100))
    infos = (replace(first, format="Lightning"), replace(second, step=None, step_from=""))
    listing = page_of(make_diagnosis([make_verdict(0, 53)], infos)).checkpoints
    assert listing.grid.headers == ("checkpoint", "format", "step", "told by", "lr", "evidence")
    assert [row[1:4] for row in listing.grid.rows] == [
        ("Lightning", "0", "the optimizer's state"),
        ("torch training dict", "not known", ""),
    ]


def test_deaths_stand_between_the_checkpoints_around_them():
    (grid,) = deaths_between(CHECKPOINTS["dying"]())
    assert grid.rows == (
        ("0–100", "0.003–0.01", "9", "2", "layers.0"),
        ("100–200", "0.003–0.01", "22", "0", "layers.0"),
        ("100–300", "0.001–0.003", "2", "0", "layers.0"),
    )
    assert sum(int(row[2]) for row in grid.rows) == sum(not e.born for e in CHECKPOINTS["dying"]().episodes)


def test_deaths_of_checkpoints_without_steps_stand_in_their_own_span():
    episode = Episode(0, 5, "died", 31, None, False, 0.25, None, 97, None)
    infos = [replace(info, step=None) for info in make_infos((0, 100))]
    made = make_diagnosis([make_verdict(0, 53, 1)], infos, episodes=[episode])
    (grid,) = deaths_between(made)
    assert grid.rows == (("0–97", "0.25", "1", "0", "layers.0"),)
    assert list(deaths_between(replace(made, episodes=()))) == []


def test_what_comes_next_can_be_typed():
    assert commands(CHECKPOINTS["dying"]()) == [
        "deadneuron report checkpoints/ --model module:factory --data module:batches",
        "deadneuron branch checkpoints/step-0300.pt --setup module:function",
        "deadneuron report checkpoints/ --format json",
    ]
    assert commands(CHECKPOINTS["unknown"]()) == [
        "deadneuron report a/model.safetensors b/model.safetensors --model module:factory --data module:batches"
    ]
    assert not any("--model" in command for command in commands(CHECKPOINTS["measured"]()))


def test_places_are_quoted_for_a_shell_and_left_out_where_they_are_many():
    odd = replace(CHECKPOINTS["healthy"](), run="my runs; rm -rf x")
    infos = tuple(replace(info, place=f"my runs; rm -rf x/{info.step}.pt") for info in odd.checkpoints)
    odd = replace(odd, checkpoints=infos)
    assert commands(odd)[0].startswith("deadneuron report 'my runs; rm -rf x' --model")
    many = replace(CHECKPOINTS["series"](), run="*/step-*.pt")
    assert commands(many)[0].startswith("deadneuron report … --model")
    infos = tuple(replace(info, place=f"{'ab'[n % 2]} b/{info.step}.pt") for n, info in enumerate(many.checkpoints))
    two = replace(many, run="a b, b b/", checkpoints=infos)
    assert commands(two)[0].startswith("deadneuron report 'a b' 'b b/' --model")
    assert commands(replace(two, run="a b, c"))[0].startswith("deadneuron report … --model")
    assert commands(replace(two, run="a b, b b, d …"))[0].startswith("deadneuron report … --model")


def test_a_span_of_steps_is_told_of_replay_and_measurement_only():
    """Moments tell of the steps since the last gradient, which may lie long before the span that is judged."""
    facts = {why.text.partition(" ")[0]: why.facts for why in page_of(CHECKPOINTS["dying"]()).why}
    assert "covers steps 0–599" in facts["layers.0"]
    assert not any("steps" in fact for fact in facts["layers.1:"])
    (measured,) = page_of(CHECKPOINTS["measured"]()).why
    assert "covers steps 0–600" in measured.facts
