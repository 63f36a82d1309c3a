"""The JSON report is the diagnosis, field by field: it validates, comes back the same, and is JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import jsonschema
import pytest
from hypothesis import given, settings
from making import make_run
from spells import World, worlds

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import DIAGNOSIS_VERSION, Diagnosis, Verdict
from deadneuron.report.as_json import json_schema, parse_json, render_json

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def strict(text: str):
    """Parsed as JSON proper, which has neither NaN nor Infinity."""

    def no_constant(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=no_constant)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert str(DIAGNOSIS_VERSION) in json_schema()["title"]


def test_a_report_validates_and_comes_back_the_same(diagnosis):
    text = render_json(diagnosis)
    VALIDATOR.validate(strict(text))
    assert parse_json(text) == diagnosis
    assert render_json(parse_json(text)) == text


@settings(max_examples=60, deadline=None)
@given(world=worlds())
def test_the_report_of_any_run_validates_and_comes_back_the_same(world: World):
    diagnosis = diagnose(make_run([world.site], world.windows(), thresholds=world.thresholds))
    text = render_json(diagnosis)
    VALIDATOR.validate(strict(text))
    assert parse_json(text) == diagnosis


def test_every_field_of_the_record_is_a_field_of_the_document(diagnosis):
    document = strict(render_json(diagnosis))
    assert list(document) == [field.name for field in dataclasses.fields(Diagnosis)]
    assert document["version"] == DIAGNOSIS_VERSION
    assert len(document["verdicts"]) == len(diagnosis.verdicts)
    for verdict in document["verdicts"]:
        assert list(verdict) == [field.name for field in dataclasses.fields(Verdict)]


def test_the_dead_units_of_a_layer_with_steps_and_rates_are_in_the_document(dying):
    """What a script asks for first."""
    document = strict(render_json(dying))
    deaths = [e for e in document["episodes"] if e["site"] == 0 and e["last_step"] is None]
    assert [(e["unit"], e["first_step"]) for e in deaths] == [(unit, 40 + 3 * unit) for unit in range(31)]
    assert all(e["rate"] == 0.2 * math.cos(e["first_step"] / 400) for e in deaths)
    assert document["verdicts"][0]["dead"] == 31


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_becomes_null(dying, value):
    episode = dataclasses.replace(dying.episodes[0], rate=value)
    document = strict(render_json(dataclasses.replace(dying, episodes=(episode,))))
    assert document["episodes"][0]["rate"] is None


def test_the_validator_can_fail(dying):
    document = strict(render_json(dying))
    document["verdicts"][0]["status"] = "fine"
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)
    del document["verdicts"]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)
