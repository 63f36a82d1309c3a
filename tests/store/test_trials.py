"""Trials lie beside a run, come back as they were written, and damage is a gap."""

from __future__ import annotations

import json

import pytest
from making import make_info

from deadneuron.causes import RateLink, Trial
from deadneuron.errors import RunFolderError
from deadneuron.frames import read_run
from deadneuron.store.layout import RUN_FILE, info_to_json
from deadneuron.store.reader import read_folder
from deadneuron.store.trials import read_trials, write_trial

LINK = RateLink(None, 0, "branch", "deaths", 3.7, 1.1, None, None, "5 of 7")


def trial(written, kind="branch", **changes):
    values = {"safe": 0.1, "over": None, "links": (LINK,), "summary": ("one", "two"), "result": {"a": [1, None]}}
    return Trial(kind, written, **(values | changes))


@pytest.fixture
def run(tmp_path):
    (tmp_path / RUN_FILE).write_text(info_to_json(make_info()), "utf-8")
    return tmp_path


def test_they_come_back_in_the_order_of_their_writing(run):
    order = ((3, "sweep"), (1, "branch"), (2, "branch"))
    made = [trial(f"2024-02-29T12:00:0{second}+00:00", kind) for second, kind in order]
    paths = [write_trial(run, one) for one in made]
    assert [path.name for path in paths] == ["sweep-1.json", "branch-1.json", "branch-2.json"]
    assert read_run(run).trials == (made[1], made[2], made[0])
    assert read_folder(run).gaps == ()


def test_a_hole_in_the_numbers_is_filled_and_nothing_is_written_over(run):
    first, second, third = (trial(f"2024-02-29T12:00:0{n}+00:00") for n in range(3))
    write_trial(run, first).unlink()
    kept = write_trial(run, second)
    write_trial(run, third)
    kept.unlink()
    assert write_trial(run, second).name == "branch-1.json"
    assert read_run(run).trials == (second, third)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"format": 2}', '{"format": 1, "kind": "branch"}', "\x00", '{"kind": "branch"}']
)
def test_what_cannot_be_read_is_a_gap_and_the_others_are_read(run, text):
    sound = trial("2024-02-29T12:00:00+00:00")
    write_trial(run, sound)
    (run / "trials" / "branch-9.json").write_text(text, "utf-8")
    gaps = []
    assert read_trials(run, gaps) == (sound,)
    (gap,) = gaps
    assert gap.where.endswith("branch-9.json")
    assert "this trial cannot be read" in gap.reason
    assert read_folder(run).gaps == (gap,)


def test_it_is_plain_json_with_a_format(run):
    document = json.loads(write_trial(run, trial("2024-02-29T12:00:00+00:00")).read_text("utf-8"))
    assert document["format"] == 1
    assert document["links"][0]["evidence"] == "branch"
    assert document["result"] == {"a": [1, None]}


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "trials").write_text("a file")
    with pytest.raises(RunFolderError, match="cannot write the trial"):
        write_trial(tmp_path, trial("2024-02-29T12:00:00+00:00"))
