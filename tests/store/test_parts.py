"""Parts: numbered, merged in tiers, and read once whenever the writer is stopped."""

from __future__ import annotations

import os
import random

import pyarrow.parquet as pq
import pytest

from deadneuron.records import Gap
from deadneuron.store import parts as parts_module
from deadneuron.store.layout import SCHEMAS, from_table
from deadneuron.store.parts import Parts, current_parts, missing_parts


def gap(number: int) -> Gap:
    return Gap(f"place {number}", "because", number)


def append(parts: Parts, first: int, last: int) -> None:
    for number in range(first, last + 1):
        parts.append([gap(number)])
        parts.merge_many()


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def numbers(folder) -> list[int]:
    """What a reader finds, in its order."""
    kept, _ = current_parts(folder)
    return [g.first_step for part in kept["gaps"] for g in from_table("gaps", pq.read_table(part, partitioning=None))]


def test_parts_are_numbered_from_one(tmp_path):
    append(Parts(tmp_path, "gaps"), 1, 3)
    assert names(tmp_path) == [f"gaps-00000{n}-00000{n}.parquet" for n in (1, 2, 3)]


def test_sixteen_parts_become_one_and_sixteen_of_those_the_next(tmp_path):
    parts = Parts(tmp_path, "gaps")
    append(parts, 1, 15)
    assert len(names(tmp_path)) == 15
    append(parts, 16, 16)
    assert names(tmp_path) == ["gaps-000001-000016.parquet"]
    append(parts, 17, 31)
    assert len(names(tmp_path)) == 16, "one of sixteen, and fifteen that wait for the next"
    append(parts, 32, 259)
    assert names(tmp_path) == ["gaps-000001-000256.parquet"] + [
        f"gaps-{n:06d}-{n:06d}.parquet" for n in (257, 258, 259)
    ]
    assert numbers(tmp_path) == list(range(1, 260))


def test_merging_all_leaves_one_part_in_order(tmp_path):
    parts = Parts(tmp_path, "gaps")
    append(parts, 1, 37)
    parts.merge_all()
    assert names(tmp_path) == ["gaps-000001-000037.parquet"]
    assert numbers(tmp_path) == list(range(1, 38))
    append(parts, 38, 38)
    parts.merge_all()
    assert numbers(tmp_path) == list(range(1, 39))


def test_merging_all_of_nothing_writes_nothing(tmp_path):
    Parts(tmp_path, "gaps").merge_all()
    assert names(tmp_path) == []


def test_a_kill_between_the_merged_part_and_the_removal_of_its_sources_is_read_once(tmp_path, monkeypatch):
    parts = Parts(tmp_path, "gaps")
    append(parts, 1, 15)
    removed = []

    def stop_after_four(path, missing_ok=False):
        if len(removed) == 4:
            raise KeyboardInterrupt  # the kill
        removed.append(path)
        os.unlink(path)

    monkeypatch.setattr("pathlib.Path.unlink", stop_after_four)
    with pytest.raises(KeyboardInterrupt):
        append(parts, 16, 16)
    monkeypatch.undo()
    assert "gaps-000001-000016.parquet" in names(tmp_path)
    assert len(names(tmp_path)) == 13
    assert numbers(tmp_path) == list(range(1, 17))


def test_a_kill_before_the_merged_part_has_its_name_loses_nothing(tmp_path, monkeypatch):
    parts = Parts(tmp_path, "gaps")
    append(parts, 1, 15)
    real = os.replace

    def kill_at_the_merge(source, target):
        if str(target).endswith("000016.parquet") and "000001" in str(target):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(parts_module.os, "replace", kill_at_the_merge)
    with pytest.raises(KeyboardInterrupt):
        append(parts, 16, 16)
    assert numbers(tmp_path) == list(range(1, 17))


def test_a_merge_that_fails_leaves_the_parts_and_is_not_tried_at_every_flush(tmp_path, monkeypatch):
    parts = Parts(tmp_path, "gaps")
    append(parts, 1, 15)
    (tmp_path / "gaps-000003-000003.parquet").write_bytes(b"torn")
    with pytest.raises(Exception, match="arquet"):
        append(parts, 16, 16)
    monkeypatch.setattr(parts_module.Parts, "_write_merged", lambda *_: pytest.fail("merged again"))
    append(parts, 17, 20)
    (tmp_path / "gaps-000003-000003.parquet").unlink()
    assert numbers(tmp_path) == [1, 2, *range(4, 21)]


def test_temporary_files_and_other_kinds_are_no_parts_of_a_kind(tmp_path):
    append(Parts(tmp_path, "gaps"), 1, 2)
    (tmp_path / ".gaps-000003-000003.parquet.77.tmp").write_bytes(b"half")
    (tmp_path / "windows-open.parquet").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "gaps-000001.parquet").write_bytes(b"old")
    kept, foreign = current_parts(tmp_path)
    assert [path.name for path in foreign] == ["gaps-000001.parquet", "notes.txt"]
    assert kept["windows"] == []
    assert numbers(tmp_path) == [1, 2]


def test_holes_in_the_numbers_are_named(tmp_path):
    append(Parts(tmp_path, "gaps"), 1, 20)
    assert missing_parts(current_parts(tmp_path)[0]) == []
    (tmp_path / "gaps-000018-000018.parquet").unlink()
    assert missing_parts(current_parts(tmp_path)[0]) == ["gaps 18 to 18"]
    (tmp_path / "gaps-000001-000016.parquet").unlink()
    assert missing_parts(current_parts(tmp_path)[0]) == [
        "gaps 1 to 16",
        "gaps 18 to 18",
    ]


def test_more_than_a_million_parts_keep_their_order(tmp_path):
    parts = Parts(tmp_path, "gaps")
    parts.ranges = [(999_998, 999_998)]
    append(parts, 999_999, 1_000_002)
    assert numbers(tmp_path) == [999_999, 1_000_000, 1_000_001, 1_000_002]


@pytest.mark.parametrize("seed", range(3))
def test_any_number_of_records_a_part_survives_merging(tmp_path, seed):
    chance, parts, written = random.Random(seed), Parts(tmp_path, "gaps"), 0
    for _ in range(chance.randrange(17, 53)):
        count = chance.randrange(1, 6)
        parts.append([gap(written + i) for i in range(count)])
        parts.merge_many()
        written += count
    assert numbers(tmp_path) == list(range(written))
    assert all(pq.read_schema(tmp_path / name).equals(SCHEMAS["gaps"]) for name in names(tmp_path))
