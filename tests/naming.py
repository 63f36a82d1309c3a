"""The same diagnosis, with one name for everything that a user or a file can name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deadneuron.records import CheckpointInfo, Diagnosis, Gap

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    "a|b",
    "a\\|b|c\\",
    "`a|b` ``c``",
    "new\nline\r\n\n# heading",
    "\x1b[31mred\x9b31m",
    "right\u202eleft\u2066x",
    "@someone, #12 and GH-3",
    "![x](https://example.org/x.png) [y](javascript:alert(1))",
    "https://example.org www.example.org a@b.org <https://example.org>",
    "**bold** _it_ ~~gone~~ :smile: $x^2$ &lt; &#64;",
    "{{ 7 * 7 }}{% raw %}",
    "- item",
    "1. item",
    "> quote",
    "---",
    "=",
    "    code",
    "[ ] task",
    "层.激活" * 75,
    "x" * 300,
    "'\" onload=alert(1) x='",
    "```",
    " ",
    "",
]


def named(diagnosis: Diagnosis, name: str) -> Diagnosis:
    verdicts = tuple(replace(v, name=name, op=name, evidence=v.evidence and name) for v in diagnosis.verdicts)
    findings = tuple(
        replace(
            one,
            where=name,
            text=f"{name} is dying",
            advice=f"look at {name}",
            evidence={**one.evidence, "facts": [name]},
        )
        for one in diagnosis.findings
    )
    return replace(
        diagnosis,
        run=name,
        model=name,
        ended_by=name,
        verdicts=verdicts,
        findings=findings,
        observed=tuple(replace(one, name=name, note=name) for one in diagnosis.observed),
        links=tuple(replace(one, note=name) for one in diagnosis.links),
        trials=tuple(replace(one, summary=(name,), result=_all_named(one.result, name)) for one in diagnosis.trials),
        answer=name,
        gaps=(Gap(name, name, 0),),
        checkpoints=tuple(CheckpointInfo(name, name, one.step, name, one.rates, name) for one in diagnosis.checkpoints),
    )


def _all_named(value: Any, name: str) -> Any:
    """The same with each string in it replaced, but for what tells how runs were matched."""
    if isinstance(value, dict):
        return {key: inner if key == "matching" else _all_named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_all_named(inner, name) for inner in value]
    return name if isinstance(value, str) else value
