"""`deadneuron compare`: runs, reports and checkpoints; exit codes, baselines, formats."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import torch
from deadneuron.cli import main

from deadneuron.report.difference_json import difference_schema


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def deadneuron(*args: object, cwd: Path | None = None) -> Done:
    """The command line in this process: what it prints, and the code it exits with."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), chdir(cwd or "."), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["deadneuron", *map(str, args)])
        patch.setenv("NO_COLOR", "1")
        try:
            code = main()
        except SystemExit as ended:
            code = ended.code or 0
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def good(demo_runs) -> Path:
    return demo_runs / "lr0.05"


@pytest.fixture(scope="module")
def bad(demo_runs) -> Path:
    return demo_runs / "lr0.2"


@pytest.fixture(scope="module")
def reports(good, bad, tmp_path_factory) -> Path:
    """The reports of both as JSON; one under a name that does not say so."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / "good.json").write_text(deadneuron("report", good, "--format", "json").stdout)
    (folder / "bad").write_text(deadneuron("report", bad, "--format", "json").stdout)
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Two checkpoints between which a layer's first eleven units of thirteen got no gradient."""
    folder = tmp_path_factory.mktemp("series")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 13), torch.nn.ReLU(), torch.nn.Linear(13, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with torch.no_grad():
        model[0].bias[:11] = -100.0
    for step in range(200):
        if step in (100, 199):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, folder / f"step-{step}.pt")
        optimizer.zero_grad()
        model(torch.randn(7, 5)).square().mean().backward()
        optimizer.step()
    return folder


def test_a_run_against_itself_is_no_worse(bad):
    done = deadneuron("compare", bad, bad)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 same; findings: none new, none gone" in done.stdout


def new_findings(good, bad):
    """Codes; on processors that round otherwise there are notes beside the two that are sure."""
    found = [one["code"] for one in json.loads(deadneuron("compare", good, bad, "--format", "json").stdout)["new"]]
    assert found[:2] == ["stuck", "spike-at-zero"]
    return found


def test_a_worse_run_fails_and_a_better_one_does_not(good, bad):
    count = len(new_findings(good, bad))
    worse, better = deadneuron("compare", good, bad), deadneuron("compare", bad, good)
    assert (worse.returncode, better.returncode) == (1, 0)
    assert "1 worse" in worse.stdout
    assert "1 better" in better.stdout
    assert f"{count} new" in worse.stdout
    assert f"{count} gone" in better.stdout
    assert f"deadneuron report {bad} --format html" in worse.stdout.splitlines()[-2]


def test_a_real_process_exits_with_that_code(good, bad):
    command = [sys.executable, "-m", "deadneuron", "compare", str(good), str(bad), "--format", "github"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == deadneuron("compare", good, bad, "--format", "github").stdout


def test_fail_on_asks_for_a_level(good, bad, tmp_path):
    lenient = tmp_path / "lenient.toml"
    lenient.write_text("[thresholds]\nsevere = 1.0\n")  # of both: what was severe is a warning
    assert deadneuron("compare", good, bad, "--profile", lenient, "--fail-on", "severe").returncode == 0
    assert deadneuron("compare", good, bad, "--profile", lenient, "--fail-on", "warning").returncode == 1
    assert deadneuron("compare", good, bad, "--fail-on", "severe").returncode == 1


def test_reports_say_what_their_runs_say(good, bad, reports):
    of_runs = deadneuron("compare", good, bad, "--format", "json")
    for one, two in ((good, reports / "bad"), (reports / "good.json", bad), (reports / "good.json", reports / "bad")):
        of_reports = deadneuron("compare", one, two, "--format", "json")
        assert (of_reports.returncode, of_reports.stdout) == (1, of_runs.stdout)
    document = json.loads(of_runs.stdout)
    jsonschema.validate(document, difference_schema())
    assert document["version"] == 1
    assert [one["code"] for one in document["new"]] == new_findings(good, bad)


def test_a_baseline_makes_findings_known(good, bad, tmp_path):
    known = tmp_path / "known.json"
    count = len(new_findings(good, bad))
    first = deadneuron("compare", good, bad, "--write-baseline", known)
    assert first.returncode == 1
    written = len(json.loads(known.read_text())["known"])  # all of the later run's, also what is not new
    assert written >= count
    assert first.stderr == f"deadneuron: wrote {written} findings to {known}; from now on give --baseline {known}\n"
    done = deadneuron("compare", good, bad, "--baseline", known)
    assert done.returncode == 0
    assert f"findings: {count} known" in done.stdout
    assert deadneuron("compare", good, bad, "--baseline", known, "--format", "github").stdout == ""
    document = json.loads(known.read_text())
    document["known"] = [one | {"level": "note"} for one in document["known"]]
    known.write_text(json.dumps(document))
    assert deadneuron("compare", good, bad, "--baseline", known).returncode == 1, "what is graver now is new"


def test_each_format_goes_to_stdout_and_into_a_file(good, bad, tmp_path):
    beginnings = {"text": str(good), "json": "{", "markdown": "## ✓ healthy → ✗ severe", "github": "::error title="}
    for format, beginning in beginnings.items():
        shown = deadneuron("compare", good, bad, "--format", format)
        done = deadneuron("compare", good, bad, "--format", format, "-o", tmp_path / "x")
        assert (shown.returncode, done.returncode, done.stdout) == (1, 1, "")
        assert (tmp_path / "x").read_text("utf-8") == shown.stdout
        assert shown.stdout.startswith(beginning)
    assert deadneuron("compare", good, bad, "-o", tmp_path / "x.md").returncode == 1
    assert (tmp_path / "x.md").read_text("utf-8").startswith("## ")


def test_checkpoints_are_held_against_themselves_and_against_a_run(series, good):
    done = deadneuron("compare", series, series)
    assert (done.returncode, done.stderr) == (0, "")
    assert "none new" in done.stdout
    mixed = deadneuron("compare", good, series)
    assert mixed.returncode in (0, 1)
    assert "one is made from a run, the other from checkpoints" in mixed.stdout


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nowhere", "{bad}"], "checkpoint", "nowhere"),
        (["{bad}", "nowhere"], "checkpoint", "nowhere"),
        (["{runs}", "{bad}"], "not-a-run", "holds runs"),
        (["list.json", "{bad}"], "not-a-run", "list.json"),
        (["torn.json", "{bad}"], "not-a-run", "torn.json"),
        (["newer.json", "{bad}"], "newer-format", "version 1000"),
        (["comparison.json", "{bad}"], "not-a-run", "comparison.json"),
        (["{good}", "{bad}", "--baseline", "nowhere"], "usage", "No such file"),
        (["{good}", "{bad}", "--baseline", "list.json"], "usage", "not what --write-baseline writes"),
        (["{good}", "{bad}", "--write-baseline", "."], "usage", "cannot write the baseline"),
        (["{good}", "{bad}", "-o", "a.html"], "usage", "no page"),
        (["{good}", "{bad}", "-o", "nowhere/a.md"], "usage", "does not exist"),
        (["{good}", "{bad}", "--profile", "nope"], "profile", "nope"),
        (["{report}", "{report}", "--profile", "strict"], "usage", "judged already"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(args, code, said, good, bad, reports, demo_runs, tmp_path):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "torn.json").write_text((reports / "good.json").read_text()[:300])
    (tmp_path / "newer.json").write_text('{"version": 1000, "verdicts": []}')
    (tmp_path / "comparison.json").write_text('{"version": 1, "before": "a", "changes": []}')
    places = {"good": good, "bad": bad, "runs": demo_runs, "report": reports / "good.json"}
    done = deadneuron("compare", *(arg.format(**places) for arg in args), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert f"[{code}]" in done.stderr
    assert said in done.stderr
