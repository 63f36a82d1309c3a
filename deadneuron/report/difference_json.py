"""A comparison and a baseline as JSON, and the schema of the first; a baseline is what `--write-baseline` writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter

from deadneuron.analysis.difference import DIFFERENCE_VERSION, Baseline, Difference
from deadneuron.records import Level

BASELINE_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Known:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    code: str
    where: str
    level: Level


@dataclass(frozen=True, slots=True)
class _Baseline:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    version: Literal[1]
    known: tuple[_Known, ...]


@cache
def _adapter() -> TypeAdapter[Difference]:
    return TypeAdapter(Difference)


def render_difference(difference: Difference) -> str:
    """One JSON document; `version` rises when a field changes its meaning or goes."""
    return _adapter().dump_json(difference, indent=1).decode()


def parse_difference(text: str) -> Difference:
    """The comparison that `render_difference` wrote."""
    return _adapter().validate_json(text)


def difference_schema() -> dict[str, Any]:
    schema = _adapter().json_schema(mode="serialization")
    title = f"deadneuron comparison, version {DIFFERENCE_VERSION}"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def render_baseline(baseline: Baseline) -> str:
    """A line a finding, sorted: what became known or unknown is seen in a diff of the file."""
    known = [{"code": code, "where": where, "level": baseline[code, where]} for code, where in sorted(baseline)]
    lines = ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in known)
    return f'{{\n "version": {BASELINE_VERSION},\n "known": [\n{lines}\n ]\n}}\n'


def parse_baseline(text: str) -> Baseline:
    """Raises `ValueError` for anything else than what `render_baseline` wrote."""
    found = TypeAdapter(_Baseline).validate_json(text)
    return {(one.code, one.where): one.level for one in found.known}


if __name__ == "__main__":  # make docs
    print(json.dumps(difference_schema(), indent=1))
