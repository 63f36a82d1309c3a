"""Fixtures for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode adds no folder; tests share `zoo`
pytest.register_assert_rewrite("watching", "making", "planted")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests share two cores; small tensors gain nothing from a second thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_numbers():
    """Every test draws the same random numbers, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def run(tmp_path):
    """A run folder that does not exist yet."""
    return tmp_path / "run"


@pytest.fixture(scope="session")
def demo_outcomes(tmp_path_factory):
    """The demo's three nets, trained once a session: real data, real deaths."""
    from deadneuron.experiments.demo import demo_config, run_demo

    return list(run_demo(tmp_path_factory.mktemp("demo"), demo_config(), lambda name, step: None))


@pytest.fixture(scope="session")
def demo_runs(demo_outcomes):
    """The folder that holds the demo's runs."""
    return demo_outcomes[0].path.parent
