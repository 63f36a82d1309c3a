"""The tags that the tab reads: exactly as deadneuron/sinks/tags.py says, and what they tell of lives is true."""

from __future__ import annotations

import json

import numpy as np
import pytest
from making import ends_every, lives, make_info, make_run, make_site, make_ticks, make_window, make_windows
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard import SummaryWriter

import deadneuron
from deadneuron.analysis.diagnosis import diagnose
from deadneuron.sinks import tab as sink
from deadneuron.sinks.replay import replay
from deadneuron.sinks.tags import BORN, DEATHS, DIED, NAMES, PLUGIN, REVIVED, SHARES, STATES
from deadneuron.sinks.tensorboard import TensorBoard
from deadneuron.states import ACTIVE, DEAD, SILENT
from deadneuron.store.reader import StoredRun, read_folder

STEPS = 300
SITE, OTHER = make_site(0, 7, name="body.act"), make_site(3, 5, name="head.act", groups=(1,))
TAB = "deadneuron.tab/"


def write(folder, windows, ticks=(), *, sites=(SITE,), **changes):
    replay(StoredRun(make_info(sites, **changes), tuple(windows), tuple(ticks), ()), TensorBoard(folder))


def tensors(events):
    """{tag: {step: array}} of our tags."""
    tags = [tag for tag in events.accumulator.Tags()["tensors"] if tag.startswith(TAB)]
    return {tag: {e.step: make_ndarray(e.tensor_proto) for e in events.accumulator.Tensors(tag)} for tag in tags}


def deaths(found):
    tables = [table for tag in sorted(found) if tag.startswith(f"{DEATHS}/") for table in found[tag].values()]
    return [tuple(None if np.isnan(x) else x for x in event) for table in tables for event in table.tolist()]


def test_tags_have_the_shapes_and_types_that_are_documented(tmp_path, read):
    fired = lives(7, STEPS, {2: [(0, 299)], 5: [(30, 299)]})
    write(tmp_path, make_windows(SITE, fired, ends_every(50, STEPS)), make_ticks([0.1] * STEPS))
    events = read(tmp_path)
    found = tensors(events)
    assert set(found) == {NAMES, SHARES, f"{STATES}/0", f"{DEATHS}/0"}
    ends = [49, 99, 149, 199, 249, 299]
    (names,) = found[NAMES].values()
    assert json.loads(names.item()) == {"version": 1, "sites": [["body.act", "ReLU", 7, 1, "train"]]}
    assert list(found[SHARES]) == list(found[f"{STATES}/0"]) == ends
    assert {table.dtype for table in found[SHARES].values()} == {np.dtype("int32")}
    # place, first step, dead, silent, rare, n of the dead: the least of theirs.
    assert found[SHARES][49].tolist() == [[0, 0, 0, 1, 0, 0]]
    assert found[SHARES][99].tolist() == [[0, 50, 1, 1, 0, 1100]]
    assert found[SHARES][149].tolist() == [[0, 100, 2, 0, 0, 1100]]
    assert found[SHARES][299].tolist() == [[0, 250, 2, 0, 0, 2750]]
    states = found[f"{STATES}/0"]
    assert {column.dtype for column in states.values()} == {np.dtype("uint8")}
    assert states[99].tolist() == [ACTIVE, ACTIVE, DEAD, ACTIVE, ACTIVE, SILENT, ACTIVE]
    assert states[149].tolist() == [ACTIVE, ACTIVE, DEAD, ACTIVE, ACTIVE, DEAD, ACTIVE]
    for tag in found:
        metadata = events.accumulator.SummaryMetadata(tag)
        assert metadata.plugin_data.plugin_name == PLUGIN
        assert metadata.data_class == DATA_CLASS_TENSOR, "the fast loader keeps nothing of an unknown class"


def test_deaths_are_dated_and_carry_the_rate_of_the_step_that_killed(tmp_path, read):
    fired = lives(7, STEPS, {2: [(0, 299)], 5: [(30, 299)], 6: [(61, 220)]})
    rates = [0.1 if step < 29 else 0.5 if step == 29 else 0.02 for step in range(STEPS)]
    write(tmp_path, make_windows(SITE, fired, ends_every(50, STEPS)), make_ticks(rates))
    found = tensors(read(tmp_path))
    assert deaths(found) == [
        (0, 2, 0, None, BORN),
        (0, 5, 29, 0.5, DIED),
        (0, 6, 60, 0.02, DIED),
        (0, 6, 221, None, REVIVED),
    ]
    assert list(found[f"{DEATHS}/0"]) == [99, 149, 199, 249]


def test_deaths_are_those_of_the_report(tmp_path, read):
    fired = lives(7, STEPS, {0: [(0, 299)], 1: [(11, 299)], 3: [(77, 299)], 4: [(101, 260)]})
    windows, ticks = make_windows(SITE, fired, ends_every(50, STEPS)), make_ticks([0.1] * STEPS)
    write(tmp_path, windows, ticks)
    diagnosis = diagnose(make_run([SITE], windows, ticks))
    told = {
        (unit, step, rate, kind == BORN)
        for _, unit, step, rate, kind in deaths(tensors(read(tmp_path)))
        if kind != REVIVED
    }
    assert told == {(one.unit, one.first_step, one.rate, one.born) for one in diagnosis.episodes}
    assert len(told) == 4


def test_sites_share_a_table_and_later_ones_and_evaluations_get_places_of_their_own(tmp_path, read):
    silent = {4: [(0, 299)]}
    one = make_windows(SITE, lives(7, STEPS, {}), ends_every(50, STEPS))
    late = [w for w in make_windows(OTHER, lives(5, STEPS, silent), ends_every(50, STEPS)) if w.first_step >= 100]
    looked = [make_window(SITE, end, end, [[1] * 7], phase="eval") for end in (149, 249)]
    both = sorted([*one, *late, *looked], key=lambda w: (w.last_step, w.site, w.phase))
    write(tmp_path, both, make_ticks([(0.1, 0.7)] * STEPS), sites=(SITE, OTHER), groups=("a", "b"))
    found = tensors(read(tmp_path))
    newest = json.loads(found[NAMES][max(found[NAMES])].item())["sites"]
    assert sorted((name, units, phase) for name, _, units, _, phase in newest) == [
        ("body.act", 7, "train"),
        ("body.act (eval)", 7, "eval"),
        ("head.act", 5, "train"),
    ]
    places = {name: place for place, (name, *_) in enumerate(newest)}
    shares = found[SHARES]
    assert [row[0] for row in shares[99].tolist()] == [places["body.act"]]
    assert {row[0] for row in shares[149].tolist()} == set(places.values())
    assert {row[0] for row in shares[199].tolist()} == {places["body.act"], places["head.act"]}
    assert deaths(found) == [(places["head.act"], 4, 0, None, BORN)]


def test_the_rate_is_that_of_the_groups_that_move_the_site(tmp_path, read):
    fired = lives(5, STEPS, {1: [(30, 299)]})
    windows = make_windows(OTHER, fired, ends_every(50, STEPS))
    write(tmp_path, windows, make_ticks([(0.1, 0.7)] * STEPS), sites=(OTHER,), groups=("a", "b"))
    assert deaths(tensors(read(tmp_path))) == [(0, 1, 29, 0.7, DIED)]


def test_units_beyond_256_are_pooled(tmp_path, read):
    site = make_site(0, 521, name="wide")
    silent = {unit: [(0, 99)] for unit in range(8)}
    write(tmp_path, make_windows(site, lives(521, 100, silent), ends_every(50, 100)), sites=(site,))
    found = tensors(read(tmp_path))
    (names,) = found[NAMES].values()
    assert json.loads(names.item())["sites"] == [["wide", "ReLU", 521, 3, "train"]]
    states = found[f"{STATES}/0"][99]
    assert states.tolist() == [DEAD] * 3 + [ACTIVE] * 171, "of units 6, 7 and 8 two are dead"
    assert found[SHARES][99].tolist() == [[0, 50, 8, 0, 0, 1100]]


def test_tables_of_deaths_go_on_under_the_next_tag(tmp_path, read, monkeypatch):
    monkeypatch.setattr(sink, "BLOCK", 2)
    silent = {unit: [(50 * unit, 299)] for unit in range(4)}
    write(tmp_path, make_windows(SITE, lives(7, STEPS, silent), ends_every(50, STEPS)), make_ticks([0.1] * STEPS))
    found = tensors(read(tmp_path))
    assert [len(found[f"{DEATHS}/{block}"]) for block in (0, 1)] == [2, 2]
    assert [unit for _, unit, *_ in deaths(found)] == [0, 1, 2, 3]


class Plain:
    """A writer that has what TensorBoard's scalars and histograms need, and nothing of SummaryWriter's inside."""

    def __init__(self, writer):
        self.add_scalar, self.add_histogram_raw = writer.add_scalar, writer.add_histogram_raw
        self.add_custom_scalars, self.flush = writer.add_custom_scalars, writer.flush


def test_a_writer_of_another_make_gets_everything_but_the_tab(tmp_path, read):
    with SummaryWriter(str(tmp_path)) as writer:
        windows = make_windows(SITE, lives(7, 100, {2: [(0, 99)]}), ends_every(50, 100))
        replay(StoredRun(make_info([SITE]), tuple(windows), (), ()), TensorBoard(Plain(writer)))
    events = read(tmp_path)
    assert tensors(events) == {}
    assert events.scalars["deadneuron.dead/body.act"] == {49: 0.0, 99: pytest.approx(1 / 7)}


def test_the_demo_is_told_as_its_report_tells_it(demo_runs, tmp_path, read):
    run = deadneuron.read_run(demo_runs / "lr0.2")
    replay(read_folder(demo_runs / "lr0.2"), TensorBoard(tmp_path))
    found = tensors(read(tmp_path))
    sites = json.loads(found[NAMES][max(found[NAMES])].item())["sites"]
    newest = {row[0]: row for row in found[SHARES][max(found[SHARES])].tolist()}
    for verdict in diagnose(run).verdicts:
        (place,) = (place for place, site in enumerate(sites) if site[0] == verdict.name)
        assert newest[place][2] == verdict.dead
        assert (found[f"{STATES}/{place}"][max(found[SHARES])] == DEAD).sum() == verdict.dead
