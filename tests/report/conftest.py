"""One diagnosis for each kind of report."""

from __future__ import annotations

import pytest
from diagnoses import KINDS

from deadneuron.records import Diagnosis


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def diagnosis(kind) -> Diagnosis:
    return KINDS[kind]()


@pytest.fixture
def dying() -> Diagnosis:
    return KINDS["dying"]()
