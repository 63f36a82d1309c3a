"""`deadneuron report` on a folder of each format: the planted truth, from files that the real libraries wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints.conftest import WRITERS
from checkpoints.trainings import HIDDEN, SAVES, Dense
from checkpoints.writers import write_dcp

from deadneuron.checkpoints.scan import scan_checkpoints
from deadneuron.errors import CheckpointError
from deadneuron.records import Verdict
from deadneuron.report.as_json import parse_json

BLIND = {"state dicts", "safetensors", "compiled"}  # weights alone
AVERAGED = {"averages"}
PATIENCE = 100


def hidden(diagnosis, layer: str) -> Verdict:
    """The verdict on a layer of the bare model: other libraries put a prefix before its name."""
    (found,) = [v for v in diagnosis.verdicts if v.name == layer or v.name.endswith("." + layer)]
    return found


def still_for(truth, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """[units] dead and silent at the end: no gradient in the last intervals, for the patience or for less.

    The state of Adam and of momentum decides alone, and what the planting did to weights is no gradient.
    """
    dead = np.zeros(len(truth.gradients[layer][0]), dtype=bool)
    silent = truth.still(SAVES[-2], SAVES[-1])[layer]
    for first in SAVES[:-1]:
        if SAVES[-1] - first >= PATIENCE:
            dead |= truth.still(first, SAVES[-1])[layer]
    return dead, silent & ~dead


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in BLIND | AVERAGED])
def test_dead_units_are_those_that_got_no_gradient(name, written):
    folder, truth = written(name)
    diagnosis = scan_checkpoints(folder)
    for layer in truth.gradients:
        verdict = hidden(diagnosis, layer)
        dead, silent = still_for(truth, layer)
        assert (dead | silent).sum() >= 1
        assert (verdict.dead, verdict.silent) == (dead.sum(), silent.sum())
        assert verdict.evidence == "replay"
        episodes = [one for one in diagnosis.episodes if one.site == verdict.site and one.last_step is None]
        assert {one.unit for one in episodes} == set(np.flatnonzero(dead).tolist())
        for episode in episodes:
            own = [rows[episode.unit] for rows in truth.gradients[layer]]
            latest = max((step for step, any_ in enumerate(own) if any_), default=None)
            if episode.born:
                assert latest is None
            elif latest is not None:
                assert episode.first_step <= latest <= (episode.latest or episode.first_step)
            else:  # the state of the first checkpoint does not tell that it never had one
                assert (episode.first_step, episode.latest) == (0, SAVES[0] - 1)
    assert [info.step for info in diagnosis.checkpoints] == list(SAVES)
    assert (diagnosis.source, diagnosis.sampling, diagnosis.first_step, diagnosis.last_step) == (
        "checkpoints",
        None,
        SAVES[0],
        SAVES[-1],
    )


@pytest.mark.parametrize("name", sorted(BLIND))
def test_weights_alone_are_never_called_healthy(name, written):
    folder, _ = written(name)
    diagnosis = scan_checkpoints(folder)
    assert diagnosis.status == "unknown"
    assert {verdict.status for verdict in diagnosis.verdicts} == {"unknown"}
    assert "blind" in {finding.code for finding in diagnosis.findings}
    assert any("optimizer" in gap.reason for gap in diagnosis.gaps)


def test_averaged_weights_are_not_replayed(written):
    folder, _ = written("averages")
    diagnosis = scan_checkpoints(folder)
    assert {verdict.status for verdict in diagnosis.verdicts} == {"unknown"}
    assert all(verdict.units is None for verdict in diagnosis.verdicts)


def test_a_dcp_folder_is_declined_with_the_way_to_convert_it(tmp_path):
    with pytest.raises(CheckpointError, match="dcp_to_torch"):
        scan_checkpoints(write_dcp(tmp_path))


@pytest.mark.parametrize("name", ["training dicts", "lightning", "transformers", "accelerate"])
def test_the_command_gives_the_same_as_json_and_exits_by_what_it_found(name, written, run_deadneuron):
    folder, _ = written(name)
    done = run_deadneuron("report", folder, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert parse_json(done.stdout) == scan_checkpoints(str(folder))
    assert json.loads(done.stdout)["source"] == "checkpoints"
    failing = any(finding.level != "note" for finding in scan_checkpoints(folder).findings)
    assert run_deadneuron("report", folder, "--fail-on", "warning").returncode == int(failing)


def test_one_checkpoint_tells_who_never_had_a_gradient(written):
    _, truth = written("training dicts")
    diagnosis = scan_checkpoints(truth.places[-1])
    for layer in HIDDEN[Dense]:
        verdict = hidden(diagnosis, layer)
        never = truth.still(0, SAVES[-1])[layer]
        assert verdict.evidence == "optimizer state"
        assert verdict.born_dead == never.sum() >= 1
        born = {one.unit for one in diagnosis.episodes if one.site == verdict.site and one.born}
        assert born == set(np.flatnonzero(never).tolist())


def test_a_checkpoint_given_twice_counts_once(written):
    _, truth = written("training dicts")
    once = scan_checkpoints([truth.places[0], truth.places[-1]])
    twice = scan_checkpoints([truth.places[0], truth.places[-1], truth.places[0]])
    assert once.verdicts == twice.verdicts


def test_reading_leaves_the_files_as_they_were(written):
    folder, _ = written("training dicts")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    scan_checkpoints(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_checkpoints_that_lie_elsewhere_are_told_by_their_address(written):
    import fsspec

    folder, truth = written("training dicts")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/trained", recursive=True)
    try:
        diagnosis = scan_checkpoints("memory://trained")
        assert diagnosis.verdicts == scan_checkpoints(folder).verdicts
        assert diagnosis.run == "memory://trained"
        assert [info.place for info in diagnosis.checkpoints] == [
            f"memory://trained/{place.name}" for place in truth.places
        ]
        one = scan_checkpoints([f"memory://trained/{place.name}" for place in truth.places[2:]])
        assert [info.step for info in one.checkpoints] == list(SAVES[2:])
    finally:
        memory.rm("/trained", recursive=True)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in BLIND | AVERAGED])
def test_all_four_formats_show_the_planted_truth(name, written):
    from deadneuron.report.as_json import render_json
    from deadneuron.report.html import render_html
    from deadneuron.report.markdown import render_markdown
    from deadneuron.report.text import render_text

    folder, _ = written(name)
    diagnosis = scan_checkpoints(folder)
    assert parse_json(render_json(diagnosis)) == diagnosis
    drawn = {
        "text": render_text(diagnosis, width=200),
        "markdown": render_markdown(diagnosis),
        "html": render_html(diagnosis),
    }
    total = sum(verdict.dead or 0 for verdict in diagnosis.verdicts)
    units = sum(verdict.units or 0 for verdict in diagnosis.verdicts)
    for format_, text in drawn.items():
        assert f"{total} of {units} units are dead at step {SAVES[-1]}" in text, format_
        for verdict in diagnosis.verdicts:
            assert verdict.name in text
            assert f"{verdict.dead} {(verdict.dead or 0) / (verdict.units or 1):.0%}" in text


class Exploit:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("allow", [[], ["--allow-global", "posix.system"]])
def test_an_exploit_is_named_and_refused(allow, tmp_path, run_deadneuron):
    import torch

    sentinel = tmp_path / "it-ran"
    torch.save({"model": {"w": torch.zeros(3)}, "extra": Exploit(f"touch {sentinel}")}, tmp_path / "stranger.pt")
    done = run_deadneuron("report", tmp_path / "stranger.pt", *allow)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "posix.system" in done.stderr
    assert not sentinel.exists()
    torch.load(tmp_path / "stranger.pt", weights_only=False)  # this check can fail: a free load runs it
    assert sentinel.exists()
