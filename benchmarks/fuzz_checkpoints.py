"""Checkpoint files of all formats, mutated: each is read or refused in one line, and nothing else ever happens.

python benchmarks/proof.py checkpoints        (20,000 files, one or two minutes on two cores)
python benchmarks/fuzz_checkpoints.py SEED…   (these files again, one by one, in this process)

A worker reads the files in a process of little memory; whoever dies, hangs or needs more than that is found out by the
process that watches it, and the next worker goes on behind the file that did it.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mutating import SENTINEL, mutated, seeds
from rich.progress import Progress

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from checkpoints.judging import judge, limit_memory, most_memory  # noqa: E402

FILES = 20_000
WORKERS = 2
SPARE = 512 * 2**20  # bytes of address space beyond what the process has after its imports
HANGS = 10.0  # seconds


class Everything(tuple[str, ...]):
    """A list of allowed names that holds every name."""

    def __contains__(self, name: object) -> bool:
        return True


def work(folder: Path, first: int, last: int, step: int) -> None:
    """Judges the files first, first + step … below last; one line of JSON each, before and after."""
    sources = seeds(folder / "seeds")
    os.chdir(folder)  # the payloads' commands name no folder, so that every run mutates the same bytes
    torch.set_num_threads(1)
    limit_memory(SPARE)
    before = most_memory(anew=True)
    for seed in range(first, last, step):
        name, raw = mutated(sources, seed)
        path = folder / f"file.{name.rpartition('.')[2]}"
        path.write_bytes(raw)
        print(json.dumps({"seed": seed}), flush=True)
        outcome, line = judge(path, Everything() if seed % 2 else ())
        told = {"seed": seed, "outcome": outcome, "line": line.replace(str(path), "…")}
        print(json.dumps({**told, "grown": most_memory() - before}), flush=True)


@dataclass(slots=True)
class Found:
    """What came of all files."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    grown: int = 0
    ran: bool = False  # something made the sentinel

    def add(self, told: dict[str, object]) -> None:
        outcome, line = str(told["outcome"]), str(told["line"])
        self.outcomes[outcome] += 1
        self.grown = max(self.grown, int(str(told["grown"])))
        if outcome == "refused":
            self.refusals[_kind(line)] += 1
        if outcome == "crashed" or not line.isprintable() or len(line) > 1000:
            self.faults.append(f"seed {told['seed']}: {line[:200]!r}")


def _kind(line: str) -> str:
    """The refusal without what is the file's own."""
    words = line.partition(" (")[0]
    known = "names what no weights need|names something odd|holds a pickled model|the instruction"
    words = re.sub(rf"({known}).*", r"\1 …", words)
    words = re.sub(r"^.*?: (?=it claims|its (numbers|shape)|a (negative|size))", "TENSOR: ", words)
    words = re.sub(r"(numbers of|entry for) .* (are missing|is none)", r"\1 … \2", words)
    return re.sub(r"protocol \d+|, and names.*", "…", words)


def watch(work_folder: Path, begins: int, files: int, found: Found, tick: object) -> None:
    """Runs workers over the files of one of the lanes until all are judged."""
    seed = begins
    while seed < files:
        with tempfile.TemporaryDirectory(dir=work_folder) as folder:
            command = [sys.executable, __file__, "--work", folder, str(seed), str(files), str(WORKERS)]
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            now, hung = None, False
            assert worker.stdout is not None
            assert worker.stderr is not None
            while True:
                # The first line comes after the imports.
                if not select.select([worker.stdout], [], [], HANGS if now is not None else 120)[0]:
                    worker.kill()
                    hung = True
                    found.outcomes["hung"] += 1
                    found.faults.append(f"seed {now}: more than {HANGS:.0f} s")
                    break
                line = worker.stdout.readline()
                if not line:
                    break
                told = json.loads(line)
                now = told["seed"]
                if "outcome" in told:
                    found.add(told)
                    tick()  # type: ignore[operator]
                    seed = now + WORKERS
            found.ran |= Path(folder, SENTINEL).exists()
            worker.wait()
            if seed < files:  # it died or hung at `now`
                if not hung:
                    said = worker.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
                    found.outcomes["died"] += 1
                    found.faults.append(f"seed {now}: exit {worker.returncode} {said}")
                if now is None:
                    return  # no worker even begins; the fault says why
                seed = now + WORKERS


def checkpoints(work_folder: Path, files: int = FILES) -> str:
    """Checkpoint files with bits, lengths, opcodes and names changed: read or refused in one line, nothing else."""
    found = Found()
    with Progress() as bar:
        task = bar.add_task("checkpoints", total=files)
        lanes = [
            threading.Thread(target=watch, args=(work_folder, lane, files, found, lambda: bar.advance(task)))
            for lane in range(WORKERS)
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    bad = sum(found.outcomes[kind] for kind in ("crashed", "hung", "died"))
    rows = [
        ("read, every tensor of it", found.outcomes["read"]),
        ("refused with one line, `checkpoint`", found.outcomes["refused"]),
        ("another exception", found.outcomes["crashed"]),
        ("died of a signal", found.outcomes["died"]),
        (f"no answer within {HANGS:.0f} s", found.outcomes["hung"]),
        ("payloads that ran", int(found.ran)),
        ("most memory beyond that of the imports", f"{found.grown / 2**20:.1f} MiB"),
    ]
    return "\n".join(
        [
            f"{files:,} files, seeds 0 to {files - 1:,}: files of torch.save (zip and legacy), safetensors files and "
            "hostile ones, of which bits, lengths, opcodes, names and numbers were changed, pieces cut, doubled or "
            "moved, mostly within a sound archive. Each second one is read with every name allowed, all in processes "
            f"that may take {SPARE / 2**20:.0f} MiB more than their imports did.",
            "",
            f"**{bad} of {files:,} were not as they must be.**",
            "",
            *["| outcome | files |", "|---|---|", *(f"| {what} | {count} |" for what, count in rows)],
            "",
            *["| refused because | files |", "|---|---|"],
            *(f"| {what} | {count} |" for what, count in found.refusals.most_common(30)),
            *["", *(f"- {fault}" for fault in found.faults[:20])],
        ]
    ).rstrip()


def again(numbers: list[int]) -> None:
    """The files of these seeds, one by one."""
    with tempfile.TemporaryDirectory() as folder:
        sources = seeds(Path(folder, "seeds"))
        for seed in numbers:
            name, raw = mutated(sources, seed)
            path = Path(folder, f"file.{name.rpartition('.')[2]}")
            path.write_bytes(raw)
            print(seed, name, len(raw), *judge(path, Everything() if seed % 2 else ()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        again([int(number) for number in sys.argv[1:]])
