"""The tree against what is written of it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import deadneuron

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_package_list_names_every_package_in_the_tree():
    found = {str(p.parent.relative_to(ROOT)).replace("/", ".") for p in tracked("deadneuron/**/__init__.py")}
    found |= {"deadneuron", "deadneuron.cli", "deadneuron.configs"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_the_version_is_written_once_more_and_equally():
    assert PROJECT["project"]["version"] == deadneuron.__version__
    assert deadneuron.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_of_code_is_longer_than_400_lines():
    long = {str(p.relative_to(ROOT)): n for p in tracked("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_there_is_no_room_for_odds_and_ends():
    names = {path.stem for path in tracked("deadneuron/*.py", "cli/*.py")}
    assert names.isdisjoint({"utils", "common", "helpers", "misc"})


def test_every_module_says_what_it_is_for():
    for path in tracked("deadneuron/*.py", "cli/*.py", "configs/*.py", "benchmarks/*.py"):
        assert re.match(r'"""\S', path.read_text()), f"{path.name} has no docstring on its first line"


def test_constraints_pin_every_requirement():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in wanted} - {"deadneuron"}
    assert names <= pinned
    assert "torch==2.13.0" in lines


def test_the_committed_schema_is_the_one_of_the_records():
    import json

    from deadneuron.report.as_json import json_schema

    assert json.loads((ROOT / "docs/diagnosis.schema.json").read_text()) == json_schema(), "run: make docs"


def test_the_run_folder_document_names_every_column():
    from deadneuron.store.layout import SCHEMAS

    text = (ROOT / "docs/run-folder.md").read_text()
    for schema in SCHEMAS.values():
        for column in schema:
            assert f"`{column.name}`" in text, column.name


def test_the_run_folder_document_names_every_field_of_run_json():
    from dataclasses import fields

    from deadneuron.records import RunInfo, Site

    text = (ROOT / "docs/run-folder.md").read_text()
    for field in (*fields(RunInfo), *fields(Site)):
        assert f"`{field.name}`" in text, field.name


def test_the_readme_explains_every_error_code_finding_and_argument():
    import inspect

    from deadneuron import errors, watching

    text = (ROOT / "README.md").read_text()
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.DeadneuronError)]
    for kind in kinds:
        assert kind is errors.DeadneuronError or f"`{kind.code}`" in text
    findings = (ROOT / "deadneuron/analysis/findings.py").read_text()
    codes = re.findall(r'Finding\(\s*"([a-z-]+)"', findings)
    assert len(codes) >= 8
    for code in codes:
        assert f"`{code}`" in text, code
    for argument in inspect.signature(watching.watch).parameters:
        assert f"`{argument}`" in text, argument


@pytest.mark.parametrize("word", ["/work/", "/root/", "pypi.org", "http://127", "files.pythonhosted"])
def test_no_file_speaks_of_one_machine_or_registry(word):
    allowed = {Path(__file__)}
    holding = [str(p) for p in tracked() if p not in allowed and word in p.read_text(errors="ignore")]
    assert not holding
