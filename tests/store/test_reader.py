"""What cannot be read becomes a gap; what is no run is an error of one line; nothing is read twice."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import make_site, make_ticks, make_window, same

from deadneuron.errors import NewerFormatError, NotARunError
from deadneuron.records import Gap
from deadneuron.store import reader as reader_module
from deadneuron.store.layout import to_table
from deadneuron.store.parts import write_part
from deadneuron.store.reader import read_folder

SITE = make_site(0, 5)


def window(first, last, **changes):
    return make_window(SITE, first, last, [[1, 2, 0, 3, 4]] * (last - first + 1), **changes)


def spans(run):
    return [(w.first_step, w.last_step) for w in run.windows]


def test_a_folder_is_read_in_order_of_steps(folder):
    folder.part("windows", [window(7, 12)])
    folder.part("windows", [window(0, 6)])
    folder.part("ticks", make_ticks([0.1] * 13)[7:])
    folder.part("ticks", make_ticks([0.1] * 7))
    folder.part("gaps", [Gap("layer9", "not seen", 3)])
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6), (7, 12)]
    assert [tick.step for tick in run.ticks] == list(range(13))
    assert run.gaps == (Gap("layer9", "not seen", 3),)
    assert same(run.windows[0], window(0, 6), relative=2.0**-11)
    assert run.info.sites == (SITE,)


def test_a_folder_of_runs_names_one_of_them(folder, tmp_path):
    place = tmp_path / "sweep" / "lr0.1_seed0" / "model"
    place.parent.mkdir(parents=True)
    shutil.move(folder.path, place)
    for above in (place.parent, place.parent.parent):
        with pytest.raises(NotARunError, match="this folder holds runs, and is none itself") as told:
            read_folder(above)
        assert str(place) in str(told.value)


def test_an_empty_run_is_read(folder):
    run = read_folder(folder.path)
    assert (run.windows, run.ticks, run.gaps) == ((), (), ())


@pytest.mark.parametrize(
    "make", ["nothing", "file", "empty folder", "other files", "binary run.json", "folder run.json"]
)
def test_what_is_no_run_is_told_in_one_line(tmp_path, make):
    path = tmp_path / "thing"
    if make == "file":
        path.write_bytes(b"\x00\xff")
    elif make != "nothing":
        path.mkdir()
    if make == "other files":
        (path / "model.pt").write_bytes(b"PK")
    if make == "binary run.json":
        (path / "run.json").write_bytes(b"\xff\xfe\x00")
    if make == "folder run.json":
        (path / "run.json").mkdir()
    with pytest.raises(NotARunError) as caught:
        read_folder(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert ("no such folder" in str(caught.value)) == (make == "nothing")


def test_a_path_with_a_nul_is_no_run():
    with pytest.raises(NotARunError):
        read_folder("run\0s")


def test_a_truncated_run_json_is_told_at_every_length(folder):
    text = (folder.path / "run.json").read_text()
    for length in range(0, len(text) - 1, 41):
        (folder.path / "run.json").write_text(text[:length])
        with pytest.raises(NotARunError, match=r"run\.json") as caught:
            read_folder(folder.path)
        assert "\n" not in str(caught.value)


def test_a_newer_format_is_told_politely(folder):
    document = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({"format": 2, "windows": document}))
    with pytest.raises(NewerFormatError, match="upgrade deadneuron"):
        read_folder(folder.path)


def test_a_torn_part_is_a_gap_and_the_others_are_read(folder):
    folder.part("windows", [window(0, 6)])
    torn = folder.part("windows", [window(7, 12)])
    folder.part("windows", [window(13, 18)])
    folder.part("ticks", make_ticks([0.1] * 19))
    torn.write_bytes(torn.read_bytes()[:-9])
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6), (13, 18)]
    assert len(run.ticks) == 19
    assert [gap.where for gap in run.gaps] == [str(torn)]
    assert "cannot be read" in run.gaps[0].reason
    assert "\n" not in run.gaps[0].reason


def test_a_flipped_byte_in_a_page_is_a_gap_and_not_another_number(folder):
    part = folder.part("windows", [window(0, 6), window(7, 12)])
    sound, whole = part.read_bytes(), read_folder(folder.path)
    changed = 0
    for place in range(4, len(sound) // 2, 17):  # pages come first, the footer last
        hurt = bytearray(sound)
        hurt[place] ^= 0x10
        part.write_bytes(bytes(hurt))
        run = read_folder(folder.path)
        changed += run.gaps != ()
        assert run.gaps or all(same(a, b) for a, b in zip(run.windows, whole.windows, strict=True))
    assert changed > 20


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_part_raises(folder, data):
    shutil.rmtree(folder.rank())
    folder.numbers.clear()
    folder.part("windows", [window(0, 6)])
    hurt = folder.part("windows", [window(7, 12), window(13, 18)])
    folder.part("ticks", make_ticks([0.1] * 19))
    raw = bytearray(hurt.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=5)):
            raw[place] ^= data.draw(st.integers(1, 255))
    hurt.write_bytes(bytes(raw))
    run = read_folder(folder.path)
    assert spans(run)[:1] == [(0, 6)]
    assert len(run.ticks) == 19


def test_foreign_files_and_folders_are_gaps_and_hidden_ones_nothing(folder):
    folder.part("windows", [window(0, 6)])
    (folder.rank() / "notes.txt").write_text("mine")
    (folder.rank() / "windows-000002-000002.parquet").mkdir()
    (folder.rank() / ".windows-000003-000003.parquet.1.tmp").write_bytes(b"half")
    (folder.path / "rank-notes").write_text("a file")
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6)]
    assert {os.path.basename(gap.where) for gap in run.gaps} == {"notes.txt", "windows-000002-000002.parquet"}


def test_parts_of_another_kind_or_with_missing_columns_are_gaps(folder):
    good = folder.part("windows", [window(0, 6)])
    other = folder.part("windows", [window(7, 12)])
    write_part(other, to_table("ticks", make_ticks([0.1])))
    short = folder.part("windows", [window(13, 18)])
    pq.write_table(pq.read_table(good).drop_columns(["last_active"]), short)
    strange = folder.part("ticks", make_ticks([0.1]))
    pd.DataFrame({"step": [1.5]}).to_parquet(strange)
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6)]
    assert run.ticks == ()
    assert {gap.where for gap in run.gaps} == {str(other), str(short), str(strange)}
    assert any("'last_active'" in gap.reason for gap in run.gaps)


def test_a_part_that_pandas_wrote_anew_is_read_the_same(folder):
    part = folder.part("windows", [window(0, 6)])
    before = read_folder(folder.path)
    pd.read_parquet(part).to_parquet(part)
    after = read_folder(folder.path)
    assert not after.gaps
    assert same(after.windows, before.windows)


def test_a_column_that_is_new_to_this_reader_is_passed_over(folder):
    part = folder.part("windows", [window(0, 6)])
    table = pq.read_table(part)
    pq.write_table(table.append_column("invented", pa.array(["later"])), part)
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6)]
    assert not run.gaps


def test_empty_cells_where_a_number_must_stand_are_a_gap(folder):
    part = folder.part("windows", [window(0, 6)])
    table = pq.read_table(part)
    nulls = pa.nulls(1, type=table.schema.field("active").type)
    pq.write_table(table.set_column(table.schema.get_field_index("active"), "active", nulls), part)
    run = read_folder(folder.path)
    assert run.windows == ()
    assert "'active'" in run.gaps[0].reason


@pytest.mark.parametrize(
    "changes",
    [
        {"site": 3},
        {"active": np.ones(4, dtype=np.int64)},
        {"mean": np.ones(6)},
        {"peak": np.ones(6)},
        {"last_flow": np.ones(4, dtype=np.int64)},
        {"histogram": np.ones(7, dtype=np.int64)},
        {"rows": 0},
    ],
)
def test_windows_that_fit_no_site_are_left_out_with_a_gap(folder, changes):
    folder.part("windows", [window(0, 6), replace(window(7, 12), **changes)])
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6)]
    assert [gap.reason for gap in run.gaps] == ["1 windows do not fit the sites that run.json lists"]


def test_a_part_that_was_removed_is_a_gap(folder):
    folder.part("windows", [window(0, 6)])
    folder.part("windows", [window(7, 12)]).unlink()
    folder.part("windows", [window(13, 18)])
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6), (13, 18)]
    assert [gap.reason for gap in run.gaps] == ["missing: windows 2 to 2"]


def test_the_open_window_is_read_after_the_sealed_ones(folder):
    folder.part("windows", [window(0, 6)])
    folder.open([window(7, 9)])
    assert spans(read_folder(folder.path)) == [(0, 6), (7, 9)]


def test_the_open_window_alone_is_read(folder):
    folder.open([window(0, 2)])
    assert spans(read_folder(folder.path)) == [(0, 2)]


@pytest.mark.parametrize("last", [8, 12])
def test_an_open_window_that_has_been_sealed_is_not_counted_twice(folder, last):
    folder.part("windows", [window(0, 6)])
    folder.part("windows", [window(7, 12)])
    folder.open([window(7, last)])
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6), (7, 12)]
    assert run.windows[1].samples == window(7, 12).samples


def test_a_torn_open_window_loses_only_itself(folder):
    folder.part("windows", [window(0, 6)])
    path = folder.open([window(7, 9)])
    path.write_bytes(path.read_bytes()[:50])
    assert spans(read_folder(folder.path)) == [(0, 6)]


def test_no_window_is_missed_between_the_sealed_and_the_open_ones(folder, monkeypatch):
    """The writer seals a window and opens the next one while the reader is at work."""
    folder.part("windows", [window(0, 6)])
    folder.open([window(7, 9)])
    real = reader_module.current_parts

    def listed_then_written(path):
        listed = real(path)
        if len(listed[0]["windows"]) == 1:
            folder.part("windows", [window(7, 12)])
            folder.open([window(13, 15)])
        return listed

    monkeypatch.setattr(reader_module, "current_parts", listed_then_written)
    read = spans(read_folder(folder.path))
    assert read in ([(0, 6), (7, 9)], [(0, 6), (7, 12)], [(0, 6), (7, 12), (13, 15)])


def test_a_part_that_is_merged_away_while_reading_is_found_again(folder, monkeypatch):
    paths = [folder.part("windows", [window(7 * i, 7 * i + 6)]) for i in range(3)]
    real, listings = reader_module.current_parts, []

    def listed_then_merged(path):
        listed = real(path)
        listings.append(1)
        if len(listings) == 1:
            merged = paths[0].with_name("windows-000001-000003.parquet")
            write_part(merged, to_table("windows", [window(7 * i, 7 * i + 6) for i in range(3)]))
            for part in paths[1:]:
                part.unlink()
        return listed

    monkeypatch.setattr(reader_module, "current_parts", listed_then_merged)
    run = read_folder(folder.path)
    assert spans(run) == [(0, 6), (7, 13), (14, 20)]
    assert not run.gaps
    assert len(listings) == 2


def test_a_rank_folder_that_vanishes_is_a_gap(folder, monkeypatch):
    folder.part("windows", [window(0, 6)])

    def gone(path):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(reader_module, "current_parts", gone)
    run = read_folder(folder.path)
    assert run.windows == ()
    assert "cannot be read" in run.gaps[0].reason
