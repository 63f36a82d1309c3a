"""Annotations of a GitHub workflow, read back by the rules of its runner."""

from __future__ import annotations

import pytest
from naming import HOSTILE, named

from deadneuron.records import Finding
from deadneuron.report.github import annotated, render_github
from deadneuron.report.style import printable

LEVELS = {"error": "severe", "warning": "warning", "notice": "note"}


def read(output: str) -> list[tuple[str, dict[str, str], str]]:
    """(command, properties, message) of each line, as the runner takes it apart.

    It splits a line at the first "::" behind the leading one, the properties at commas and each at its first "=", and
    then turns back what is escaped, the percent sign last.
    """
    found = []
    for line in output.split("\n")[:-1]:
        assert line.startswith("::")
        info, _, message = line[2:].partition("::")
        command, _, properties = info.partition(" ")
        pairs = (one.split("=", 1) for one in properties.strip().split(",") if one)
        told = {name: unescaped(value, "\r\n:,%") for name, value in pairs}
        found.append((command, told, unescaped(message, "\r\n%")))
    return found


def unescaped(text: str, tokens: str) -> str:
    for token in tokens:
        text = text.replace(f"%{ord(token):02X}", token)
    return text


def test_a_finding_is_one_line_with_its_title_its_text_and_its_advice():
    finding = Finding("dying", "warning", "layers.0.act", "31 of 101 units (31%) died", "lower the rate\nor warm up")
    assert annotated([finding]) == (
        "::warning title=deadneuron%3A dying%2C layers.0.act::"
        "31 of 101 units (31%25) died%0Alower the rate%0Aor warm up\n"
    )


def test_each_level_has_its_command_and_the_gravest_comes_first():
    made = [Finding(f"code-{level}", level, "here", "so", "do") for level in ("note", "severe", "warning", "severe")]
    assert [command for command, _, _ in read(annotated(made))] == ["error", "error", "warning", "notice"]


def test_every_finding_of_a_report_is_annotated(diagnosis):
    seen = read(render_github(diagnosis))
    assert [(LEVELS[c], p["title"], m.split("\n")[0]) for c, p, m in seen] == [
        (one.level, f"deadneuron: {one.code}, {one.where}", one.text) for one in diagnosis.findings
    ]


@pytest.mark.parametrize("name", [*HOSTILE, "%0A::error::x", "a::b", "x,title=y", "::set-env name=PATH::x", "%25"])
def test_no_name_makes_another_command_property_or_line(name, dying):
    seen = read(render_github(named(dying, name)))
    assert len(seen) == len(dying.findings)
    for (command, properties, message), finding in zip(seen, named(dying, name).findings, strict=True):
        assert LEVELS[command] == finding.level
        assert properties == {"title": printable(f"deadneuron: {finding.code}, {finding.where}").strip()}
        assert message.split("\n")[0] == printable(finding.text)
