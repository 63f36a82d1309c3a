"""Planted dead units in models that torch.compile made programs of."""

from __future__ import annotations

import pytest
import torch
from planted import check
from planted_compiled import ALREADY, COMPILED, Compiling

pytestmark = [  # torch's own, while it compiles
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


@pytest.fixture(autouse=True)
def no_programs_of_others():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", COMPILED)
def test_planted_units_are_found_in_compiled_programs(name, run):
    case = COMPILED[name]
    check(case, run)
    if isinstance(case.drive, Compiling):
        programs = case.drive.programs
        assert programs >= 1
        model = case.build()
        case.drive(model, case.optimizers(model))
        assert programs == case.drive.programs, "the monitor had programs compiled again"


@pytest.mark.parametrize("name", ALREADY)
def test_planted_units_are_found_in_programs_that_were_compiled_before(name, run):
    check(ALREADY[name], run)
