"""Planted dead units, found again: every one of them, and nothing else."""

from __future__ import annotations

import pytest
from planted import check
from planted_functions import ALIKE, CUSTOM, FORMULAS, SPELLED
from planted_loops import LOOPS
from planted_moods import MOODS, OTHER_USES
from planted_peers import PEERS
from planted_sharing import SHARING

CASES = {**SPELLED, **FORMULAS, **ALIKE, **CUSTOM, **PEERS, **SHARING, **LOOPS, **MOODS, **OTHER_USES}


@pytest.mark.parametrize("name", CASES)
def test_planted_units_are_found_and_the_oracle_agrees(name, run):
    check(CASES[name], run)
