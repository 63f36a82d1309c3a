"""Numbered Parquet parts of one kind of record, and their merging. One writer a folder, no locks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deadneuron.store.layout import KINDS, OPEN, PART, SCHEMAS, Kind, Record, to_table

_FAN = 16  # parts of one tier that are merged into one of the next; a part of tier t is rewritten t times in all


class Parts:
    """Appends records of one kind as parts 1, 2, 3 …; every 16 of a size become one."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.folder, self.kind = folder, kind
        self.ranges: list[tuple[int, int]] = []

    def append(self, records: Sequence[Record]) -> None:
        """Write one part. It has its name only when it is whole."""
        number = self.ranges[-1][1] + 1 if self.ranges else 1
        write_part(self.folder / self._name(number, number), to_table(self.kind, records))
        self.ranges.append((number, number))

    def merge_many(self) -> None:
        """Merge the last 16 parts while they are of one size."""
        while len(self.ranges) >= _FAN:
            last = self.ranges[-_FAN:]
            if len({b - a for a, b in last}) != 1:
                return
            self._merge(last)

    def merge_all(self) -> None:
        """Merge what is left into one part."""
        if len(self.ranges) > 1:
            self._merge(self.ranges)

    def _merge(self, ranges: Sequence[tuple[int, int]]) -> None:
        ranges = list(ranges)
        try:
            self._write_merged(ranges)
        except BaseException:
            # A part is damaged or gone, or the disk is full. They stay as they are: trying again at every flush would
            # read them all again each time. The last is kept for its number.
            self.ranges = self.ranges[-1:]
            raise
        # Killed here, the folder holds both; a reader leaves out parts whose numbers another part covers.
        for part in ranges:
            (self.folder / self._name(*part)).unlink(missing_ok=True)
        self.ranges[-len(ranges) :] = [(ranges[0][0], ranges[-1][1])]

    def _write_merged(self, ranges: list[tuple[int, int]]) -> None:
        target = self.folder / self._name(ranges[0][0], ranges[-1][1])
        temporary = _temporary(target)
        with pq.ParquetWriter(temporary, SCHEMAS[self.kind], **_options(SCHEMAS[self.kind])) as writer:
            for part in ranges:
                # Batch by batch: a long run's parts need not fit into memory together.
                source = open_part(self.folder / self._name(*part))
                for group in range(source.num_row_groups):
                    writer.write_table(source.read_row_group(group))
                source.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # the parts go next: a power cut must not leave neither
        os.replace(temporary, target)

    def _name(self, first: int, last: int) -> str:
        return f"{self.kind}-{first:06d}-{last:06d}.parquet"


def write_part(path: Path, table: pa.Table) -> None:
    temporary = _temporary(path)
    pq.write_table(table, temporary, **_options(table.schema))
    os.replace(temporary, path)


def open_part(path: Path) -> pq.ParquetFile:
    """Open a part so that damage raises when it is read."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def current_parts(folder: Path) -> tuple[dict[Kind, list[Path]], list[Path]]:
    """The parts of a rank's folder by kind, in order and without those that a merged part covers; and foreign files."""
    found: dict[Kind, list[tuple[int, int, Path]]] = {kind: [] for kind in KINDS}
    foreign = []
    for path in sorted(folder.iterdir()):
        numbers = part_numbers(path)
        if numbers is not None:
            found[numbers[0]].append((numbers[1], numbers[2], path))
        elif path.name != OPEN and not path.name.startswith("."):
            foreign.append(path)
    kept: dict[Kind, list[Path]] = {}
    for kind, parts in found.items():
        parts.sort()  # by number: from the millionth part on, names sort otherwise
        covered = [any(a <= c and d <= b and (a, b) != (c, d) for a, b, _ in parts) for c, d, _ in parts]
        kept[kind] = [path for (_, _, path), is_covered in zip(parts, covered, strict=True) if not is_covered]
    return kept, foreign


def missing_parts(parts: Mapping[Kind, Sequence[Path]]) -> list[str]:
    """Holes in the numbers of parts, for a person: "windows 3 to 5"."""
    holes = []
    for kind, paths in parts.items():
        expected = 1
        for numbers in filter(None, map(part_numbers, paths)):
            if numbers[1] > expected:
                holes.append(f"{kind} {expected} to {numbers[1] - 1}")
            expected = max(expected, numbers[2] + 1)
    return holes


def part_numbers(path: Path) -> tuple[Kind, int, int] | None:
    """Kind, first and last number of a part, by its name; None for another file."""
    match = PART.fullmatch(path.name)
    kind = next((kind for kind in KINDS if match and match[1] == kind), None)
    return (kind, int(match[2]), int(match[3])) if match and kind else None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _options(schema: pa.Schema) -> dict[str, object]:
    # Splitting floats by byte puts their zeroed low bytes side by side; integers are mostly runs.
    floats = [f"{column.name}.list.element" for column in schema if column.type == pa.large_list(pa.float32())]
    others = [column.name for column in schema if not pa.types.is_large_list(column.type)]
    lists = [f"{c.name}.list.element" for c in schema if pa.types.is_large_list(c.type)]
    return {
        "compression": "zstd",
        "write_page_checksum": True,  # a flipped byte is found, not read
        "use_dictionary": others + [name for name in lists if name not in floats],
        "use_byte_stream_split": floats,
    }
