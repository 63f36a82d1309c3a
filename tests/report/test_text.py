"""The text report: golden files, columns that add up, no line too wide, nothing that drives a terminal.

After a wanted change of the report: `DEADNEURON_GOLDEN=write make test` (or pytest alone) writes the golden files anew;
read the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from diagnoses import KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from making import ends_every, lives, make_run, make_site, make_ticks, make_windows
from rich.cells import cell_len

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import Finding, Gap
from deadneuron.report.sparkline import sparkline
from deadneuron.report.style import printable
from deadneuron.report.text import render_text

GOLDEN = Path(__file__).parent.parent / "golden"
WIDE = 160
HOSTILE = [
    "[bold]x[/]",
    "[/]",
    "[link=https://example.org]here[/link]",
    "a\x1b[31mred\x1b]0;title\x07",
    "new\nline\r\ttab",
    "c1\x9b31m",
    "right\u202eleft",
    "zero\u200bwidth\ufeff",
    "层.激活" * 20,
    "e\u0301" * 30,
    "long" * 100,
    ":smile: \\[x]",
    "",
]


@pytest.mark.parametrize("width", [100])
def test_the_report_is_the_golden_one(diagnosis, kind, width):
    path = GOLDEN / f"{kind}.txt"
    text = render_text(diagnosis, width=width)
    if os.environ.get("DEADNEURON_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"if this is wanted: DEADNEURON_GOLDEN=write (see {Path(__file__).name})"


def test_every_golden_file_belongs_to_a_kind_of_report():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(KINDS)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_no_line_is_wider_than_asked(diagnosis, width):
    for line in render_text(diagnosis, width=width).splitlines():
        assert cell_len(line) <= width, line


def rows_of(text: str) -> list[dict[str, str]]:
    """The table of layers, read as a person would: cells under their headers."""
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if re.search(r"\blayer\b.*\bunits\b", line))
    # Columns are two blanks apart; a cell belongs to the header that it overlaps.
    headers = [(m.group(), m.start(), m.end()) for m in re.finditer(r"\S+(?: \S+)*", lines[head])]
    rows = []
    for line in lines[head + 1 :]:
        if not line.strip():
            break
        row: dict[str, str] = {}
        for cell in re.finditer(r"\S+(?: \S+)*", line):
            over = [name for name, a, b in headers if cell.start() < b and a < cell.end()]
            assert len(over) <= 1, (line, cell.group())
            row[over[0] if over else ""] = cell.group()
        rows.append(row)
    return rows


def number(cell: str) -> int:
    return int(cell.split()[0].replace(",", ""))


@pytest.mark.parametrize("kind", ["dying", "healthy", "stuck", "gaps"])
def test_the_columns_add_up(diagnosis):
    text = render_text(diagnosis, width=WIDE)
    rows = rows_of(text)
    assert len(rows) == len(diagnosis.verdicts)
    seen = [row for row in rows if row.get("units") != "not seen"]
    assert seen
    for row, verdict in zip(rows, diagnosis.verdicts, strict=True):
        assert row["layer"] == verdict.name
        if verdict.units:
            dead, share = row["dead"].split()
            assert number(row["= born"]) + number(row["+ died"]) == int(dead) == verdict.dead
            assert share == f"{verdict.dead / verdict.units:.0%}"
            assert number(row["n"]) == verdict.samples
            assert number(row["since"]) == verdict.since if verdict.since is not None else "since" not in row
    dead, units = re.search(r"([\d,]+) of ([\d,]+) units (?:is|are) dead at the end", text).groups()
    assert number(dead) == sum(number(row["dead"]) for row in seen)
    assert number(units) == sum(number(row["units"]) for row in seen)


def test_the_dying_report_says_what_where_since_when_and_what_next(dying):
    text = render_text(dying, width=WIDE)
    assert "layers.0.act" in text.partition("VERDICT")[2].partition("\n")[0]
    for part in ("VERDICT", "WHY", "NEXT", "SEEN"):
        assert text.count(f"\n{part}") == 1
    assert "31 of 101 units (31%) died" in " ".join(text.split())
    assert "3 of 3 activation sites seen" in text


def test_a_run_that_saw_nothing_is_never_called_healthy_or_unchanged():
    text = render_text(KINDS["unknown"](), width=WIDE)
    assert "unknown" in text
    assert "healthy" not in text
    assert "nothing to change" not in text
    assert "0 of 2 activation sites seen" in text


def test_colour_changes_no_word(diagnosis):
    plain, coloured = render_text(diagnosis, width=100), render_text(diagnosis, width=100, color=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


def hostile(name: str):
    """A run in which everything that a user can name has this name."""
    site = make_site(0, 53, name=name, module=name, op=name)
    windows = make_windows(site, lives(53, 300, {u: [(51, 299)] for u in range(40)}), ends_every(50, 300))
    return make_run(
        [site],
        windows,
        make_ticks([0.1] * 300),
        [Gap(name, name, 0)],
        run=name,
        model=name,
        groups=(name,),
        modules=(name, name + "2"),
    )


def harmless(text: str) -> bool:
    return all(char == "\n" or char.isprintable() for char in text)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("width", [60, 120])
def test_hostile_names_neither_break_the_markup_nor_drive_the_terminal(name, width):
    diagnosis = diagnose(hostile(name))
    text = render_text(diagnosis, width=width)
    assert harmless(text)
    assert all(cell_len(line) <= width for line in text.splitlines())
    coloured = render_text(diagnosis, width=width, color=True)
    assert harmless(re.sub(r"\x1b\[[0-9;]*m", "", coloured))
    if len(name) < 20 and name.isprintable() and name:
        assert name in text, "markup in a name is text"


@settings(max_examples=60, deadline=None)
@given(name=st.text(max_size=50), width=st.integers(40, 160))
def test_no_name_at_all_does(name, width):
    text = render_text(diagnose(hostile(name)), width=width)
    assert harmless(text)
    assert all(cell_len(line) <= width for line in text.splitlines())


def test_printable_keeps_what_can_be_read():
    assert printable("layers.0.act é 层 →") == "layers.0.act é 层 →"
    assert printable("a\x1b[31m\n\x9b\u202e") == "a�[31m���"


def test_a_report_needs_no_findings_links_or_gaps(dying):
    bare = replace(dying, findings=(), links=(), gaps=(), history=(), episodes=())
    assert "VERDICT" in render_text(bare)


def test_large_numbers_are_grouped(dying):
    verdict = replace(dying.verdicts[0], units=1_234_567, dead=1_000, born_dead=0, died=1_000, since=9_876)
    text = render_text(replace(dying, verdicts=(verdict,)), width=WIDE)
    assert "1,234,567" in text
    assert "9,876" in text


@given(st.lists(st.floats(0, 1), max_size=99), st.integers(1, 20))
def test_a_sparkline_is_never_wider_and_tells_nothing_from_a_little(shares, width):
    line = sparkline(shares, width)
    assert len(line) == min(len(shares), width)
    assert ("·" * len(line) == line) == (not any(shares))
    assert ("█" in line) == any(share >= 7 / 8 for share in shares)


def test_a_sparkline_pools_by_the_maximum_so_that_no_spike_is_lost():
    for spike in range(37):
        assert "█" in sparkline([0.0] * spike + [1.0] + [0.0] * (36 - spike), 16)
    assert sparkline([0, 0.01, 0.5, 1.0], 8) == "·▁▅█"


def test_what_is_to_be_done_at_several_places_is_told_once():
    findings = [
        Finding("dying", "warning", "a.act", "text", "lower the rate\nwarm up", {}),
        Finding("stuck", "severe", "b.act", "text", "lower the rate", {}),
        Finding("fading", "warning", "a.act", "text", "warm up\nlower the rate", {}),
    ]
    text = render_text(replace(KINDS["healthy"](), findings=tuple(findings)), width=WIDE)
    said = [line.strip() for line in text.partition("NEXT")[2].splitlines() if "rate" in line or "warm" in line]
    assert said[:2] == ["→ a.act, b.act: lower the rate", "→ a.act: warm up"]
    assert sum("lower the rate" in line for line in said) == 1
