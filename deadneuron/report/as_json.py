"""The diagnosis as JSON, field by field, and the schema of that. docs/diagnosis.schema.json is this schema."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from deadneuron.records import DIAGNOSIS_VERSION, Diagnosis


@cache
def _adapter() -> TypeAdapter[Diagnosis]:
    return TypeAdapter(Diagnosis)


def render_json(diagnosis: Diagnosis) -> str:
    """One JSON document; `version` rises when a field changes its meaning or goes."""
    return _adapter().dump_json(diagnosis, indent=1).decode()


def parse_json(text: str) -> Diagnosis:
    """The diagnosis that `render_json` wrote."""
    return _adapter().validate_json(text)


def json_schema() -> dict[str, Any]:
    schema = _adapter().json_schema(mode="serialization")
    title = f"deadneuron diagnosis, version {DIAGNOSIS_VERSION}"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


if __name__ == "__main__":  # make docs
    print(json.dumps(json_schema(), indent=1))
