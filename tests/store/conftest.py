"""A run folder written by hand, part by part."""

from __future__ import annotations

from dataclasses import replace

import pytest
from making import PROFILE, make_info, make_site

from deadneuron.store.layout import RUN_FILE, info_to_json, to_table
from deadneuron.store.parts import write_part
from deadneuron.store.writer import Writer


class Folder:
    """Writes what a writer would, without one."""

    def __init__(self, path, sites=()):
        self.path, self.sites, self.numbers = path, tuple(sites) or (make_site(0, 5),), {}
        path.mkdir(parents=True, exist_ok=True)
        (path / RUN_FILE).write_text(info_to_json(make_info(self.sites)), "utf-8")

    def rank(self, rank=0):
        folder = self.path / f"rank{rank}-{1000 + rank}"
        folder.mkdir(exist_ok=True)
        return folder

    def part(self, kind, records, rank=0):
        number = self.numbers[kind, rank] = self.numbers.get((kind, rank), 0) + 1
        path = self.rank(rank) / f"{kind}-{number:06d}-{number:06d}.parquet"
        write_part(path, to_table(kind, records))
        return path

    def open(self, records, rank=0):
        path = self.rank(rank) / "windows-open.parquet"
        write_part(path, to_table("windows", records))
        return path


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "run")


@pytest.fixture
def failures():
    return []


@pytest.fixture
def make_writer(tmp_path, failures):
    made = []

    def make(seconds=3600.0, **changes):
        info = make_info([make_site(0, 5)], sampling=replace(PROFILE.sampling, flush_seconds=seconds), **changes)
        made.append(Writer(tmp_path / "run", info, fail=lambda where, reason: failures.append((where, reason))))
        return made[-1]

    yield make
    for one in made:
        one.close()
