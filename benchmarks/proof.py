"""Long proofs: more seeds, kills, broken files and twins than a test suite has time for; docs/proof/<date>-*.md.

python benchmarks/proof.py [seeds kills fuzz memory twins checkpoints]      (all: about 20 minutes on two cores)
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from fuzz_checkpoints import checkpoints
from rich.progress import track

import deadneuron
from deadneuron.errors import DeadneuronError
from deadneuron.experiments.demo import demo_config, run_demo
from deadneuron.profiles import load_profile
from deadneuron.report.text import render_text
from deadneuron.store.reader import read_folder

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "proof"


def seeds(work: Path) -> str:
    """The demo over ten seeds: the monitor's verdict beside a measurement on the whole training set."""
    config = demo_config()
    rows = []
    for seed in track(range(10), "seeds"):
        config["training"]["seed"] = seed
        for outcome in run_demo(work / str(seed), config, lambda name, step: None):
            verdicts = outcome.diagnosis.verdicts
            dead = " / ".join(f"{(v.dead or 0) / (v.units or 1):.1%}" for v in verdicts)
            never = " / ".join(f"{share:.1%}" for share in outcome.never)
            cells = (
                outcome.name,
                seed,
                outcome.diagnosis.status,
                dead,
                never,
                verdicts[0].since,
                f"{outcome.accuracy:.3f}",
            )
            rows.append(cells)
    rows.sort(key=lambda cells: cells[:2])
    head = "| net | seed | status | dead for the monitor, layers 1 / 2 / 3 | positive on no training image | "
    head += "median death, layer 1 | test accuracy |"
    return "\n".join(
        [head, "|---|---|---|---|---|---|---|", *("| " + " | ".join(map(str, row)) + " |" for row in rows)]
    )


CHILD = """
import sys, time, torch, deadneuron
from torch import nn
from deadneuron.profiles import load_profile
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
deadneuron.watch(model, optimizer, run=sys.argv[1], profile=sys.argv[2])
step = 0
while True:
    optimizer.zero_grad()
    model(torch.randn(11, 7)).square().mean().backward()
    optimizer.step()
    print(step, time.time(), flush=True)
    step += 1
    time.sleep(0.001)
"""


def kills(work: Path) -> str:
    """A training killed with SIGKILL at random moments: how much of it is lost."""
    flush = 0.2
    profile = work / "kills.toml"
    profile.write_text(f"[sampling]\nflush_seconds = {flush}\n")
    lost_seconds, lost_steps, unreadable = [], [], 0
    chance = random.Random(0)
    for number in track(range(40), "kills"):
        run, log = work / f"killed{number}", work / f"log{number}"
        with log.open("w") as out:
            child = subprocess.Popen([sys.executable, "-c", CHILD, str(run), str(profile)], stdout=out)
            while not log.stat().st_size and child.poll() is None:  # loading torch is no training
                time.sleep(0.05)
            time.sleep(4 * chance.random())
            child.send_signal(signal.SIGKILL)
            child.wait()
        lines = [line.split() for line in log.read_text().splitlines() if line.count(" ") == 1]
        times = {int(step): float(at) for step, at in lines}
        try:
            stored = read_folder(run)
            render_text(deadneuron.diagnose(deadneuron.read_run(run)))
        except DeadneuronError:
            unreadable += 1
            continue
        done = max(times, default=-1)
        last = max((window.last_step for window in stored.windows), default=-1)
        lost_steps.append(done - last)
        lost_seconds.append(times[done] - times.get(last, min(times.values())))
    return (
        f"40 trainings, killed with SIGKILL up to 4 s after their first step; flush every {flush} s.\n\n"
        f"| | |\n|---|---|\n| runs that could not be read or reported | {unreadable} |\n"
        f"| seconds of training lost, median | {sorted(lost_seconds)[len(lost_seconds) // 2]:.2f} |\n"
        f"| seconds of training lost, most | {max(lost_seconds):.2f} |\n"
        f"| steps lost, most | {max(lost_steps)} |"
    )


def fuzz(work: Path) -> str:
    """Run folders with bytes flipped, cut, doubled or filled with noise: a Gap or one clear line, never a crash."""
    model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.PReLU(), torch.nn.Linear(13, 11), torch.nn.GELU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with deadneuron.watch(model, optimizer, run=work / "sound") as monitor:
        for step in range(170):
            optimizer.zero_grad()
            model(torch.randn(5, 7)).square().mean().backward()
            optimizer.step()
            if step % 60 == 59:
                monitor.diagnose()  # flushes, so that there are several parts
    chance = random.Random(0)
    refused: dict[str, int] = {}
    survived = crashed = 0
    crashes: list[str] = []
    for _ in track(range(5000), "fuzz"):
        broken = work / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(work / "sound", broken)
        victims = [path for path in broken.rglob("*") if path.is_file()]
        victim = chance.choice(victims)
        victim.write_bytes(_mutate(victim.read_bytes(), chance))
        try:
            render_text(deadneuron.diagnose(deadneuron.read_run(broken)))
            survived += 1
        except DeadneuronError as error:
            refused[error.code] = refused.get(error.code, 0) + 1
        except Exception as error:
            crashed += 1
            crashes.append(f"{type(error).__name__}: {error} ({victim.name})")
    lines = ["5,000 run folders, each with one file mutated.", "", "| outcome | folders |", "|---|---|"]
    lines.append(f"| reported (what could not be read is a gap) | {survived} |")
    lines += [f"| refused with one line, `{code}` | {count} |" for code, count in sorted(refused.items())]
    lines.append(f"| crashed | {crashed} |")
    return "\n".join(lines + [f"- {crash}" for crash in sorted(set(crashes))[:20]])


def _mutate(data: bytes, chance: random.Random) -> bytes:
    raw = bytearray(data)
    kind = chance.randrange(5)
    if kind == 0:  # bits
        for _ in range(chance.randint(1, 20)):
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    elif kind == 1:  # cut
        del raw[chance.randrange(len(raw)) :]
    elif kind == 2:  # a block of noise
        start = chance.randrange(len(raw))
        raw[start : start + 64] = chance.randbytes(64)
    elif kind == 3:  # a block twice
        start = chance.randrange(len(raw))
        raw[start:start] = raw[start : start + 100]
    else:  # digits of the JSON, or bytes that look like them
        for index, byte in enumerate(raw):
            if 48 <= byte <= 57 and chance.random() < 0.05:
                raw[index] = chance.choice(b"0123456789-e.")
    return bytes(raw)


class Mixed(torch.nn.Module):
    """Activations of all kinds: a module, a formula, functions; one that waits for its use."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(13, 13) for _ in range(4))
        self.act, self.head = torch.nn.GELU(), torch.nn.Linear(13, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.layers[0](x))
        x = self.layers[1](x)
        x = x * torch.sigmoid(x)
        x = torch.relu(self.layers[2](x))
        return self.head(torch.tanh(self.layers[3](x)))


def memory(work: Path) -> str:
    """20,000 watched steps beside 20,000 unwatched ones: what the process holds."""
    rows = []
    waits = load_profile("default").sampling.flush_seconds + 1
    for name in ("unwatched", "watched", "watched, compiled"):
        torch.manual_seed(0)
        model = Mixed()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        call = torch.compile(model, backend="eager") if "compiled" in name else model
        monitor = deadneuron.watch(model, optimizer, run=work / name) if name != "unwatched" else None
        for step in track(range(20_001), name):
            optimizer.zero_grad()
            call(torch.randn(11, 13)).square().mean().backward()
            optimizer.step()
            if step % 5_000 == 0 and step:
                time.sleep(waits)  # what waits to be written is no leak
                gc.collect()
                rows.append((name, f"{step:,}", f"{_resident() / 2**20:.1f}", f"{len(gc.get_objects()):,}"))
        if monitor is not None:
            monitor.close()
            del monitor
        del model, optimizer, call
        torch._dynamo.reset()
        gc.collect()
        rows.append((name, "closed", f"{_resident() / 2**20:.1f}", f"{len(gc.get_objects()):,}"))
    lines = ["| training | step | MiB resident | Python objects |", "|---|---|---|---|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def twins(work: Path) -> str:
    """Trainings watched and unwatched from one seed: what is not the same bit for bit."""
    sys.path.append(str(ROOT / "tests"))
    from cells import Cell, all_cells
    from twins import STEPS
    from twins import twins as train_twice

    torch.set_num_threads(1)
    cells: list[Cell] = all_cells()
    same: Counter[str] = Counter({cell.way: 0 for cell in cells})
    seeing: Counter[str] = Counter()
    sizes: dict[str, dict[str, str]] = {}
    seen: dict[str, dict[str, set[str]]] = {}
    wrong = []
    for number, cell in enumerate(track(cells, "twins")):
        what = f"{cell.model} | {cell.optimizer} | {cell.precision} | {'yes' if cell.checkpointed else 'no'}"
        try:
            pair = train_twice(cell, work / str(number))
        except Exception as error:
            told, fault = type(error).__name__, f"raised {str(error)[:200].strip()!r}"
        else:
            told, fault = _how_much(pair), _first_fault(pair, exactly=cell.compiler != "inductor")
            same[cell.way] += not pair.differences
            seeing[cell.way] += bool(pair.watched.sites)
            graphs = f", graphs {pair.plain.graphs} → {pair.watched.graphs}" if cell.compiler else ""
            counts = f"{len(pair.watched.sites)} seen, {len(pair.watched.gaps)} gaps{graphs}"
            seen.setdefault(cell.model, {}).setdefault(cell.way, set()).add(counts)
        sizes.setdefault(what, {})[cell.way] = told
        if fault:
            wrong.append(f"- {cell}: {told}, {fault}")
    ways = list(same)
    return "\n".join(
        [
            f"{len(cells)} cells of {STEPS} steps. Compared: the loss of every step; at the end weights, buffers, "
            "gradients, optimizer states, and the random states of torch, numpy and Python. Full statistics fall into "
            "every 3rd step, and a reference batch is run every 7th. `watch, x` is watched before it is compiled by x, "
            "`x, watch` after.",
            "",
            f"**{len(wrong)} of {len(cells)} cells are not as they must be**: the same bit for bit; with inductor, "
            "which may round otherwise when it compiles something else, the same random states (but for LBFGS where "
            "its numbers tell it to evaluate more or less often).",
            *(["", *wrong] if wrong else []),
            "",
            *_table(
                ["way", "cells", "the same bit for bit", "activations seen in"],
                [[w, sum(c.way == w for c in cells), same[w], seeing[w]] for w in ways],
            ),
            "",
            "The largest difference, relative to the largest value of its tensor; `=` is the same bit for bit.",
            "",
            *_table(
                ["model", "optimizer", "precision", "checkpoints", *ways],
                [[what, *(row.get(way, "") for way in ways)] for what, row in sizes.items()],
            ),
            "",
            "What the monitor saw of it, and the number of graphs unwatched → watched.",
            "",
            *_table(
                ["model", *ways],
                [[model, *("; ".join(sorted(row.get(way, ()))) for way in ways)] for model, row in seen.items()],
            ),
        ]
    )


def _how_much(pair: Any) -> str:
    kinds = {"first loss": "loss.0.", "losses": "loss", "weights": "net"}
    if any(name.endswith("func_evals") for name in pair.differences):
        return f"{_sizes(pair, kinds)}, other numbers of evaluations"
    return _sizes(pair, kinds | {"random": "random"})


def _sizes(pair: Any, kinds: dict[str, str]) -> str:
    told = ", ".join(f"{name} {size:.0e}" for name, kind in kinds.items() if (size := pair.largest(kind)))
    return told or (f"only {next(iter(pair.differences))}" if pair.differences else "=")


def _first_fault(pair: Any, exactly: bool) -> str:
    # LBFGS evaluates as often as its numbers tell it to, and each time draws dropout.
    as_often = not any(name.endswith("func_evals") for name in pair.differences)
    faults = [name for name in pair.differences if exactly or (as_often and name.startswith("random"))]
    return f"{len(faults)} values from {faults[0]} on" if faults else ""


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


PROOFS: dict[str, Callable[[Path], str]] = {
    "seeds": seeds,
    "kills": kills,
    "fuzz": fuzz,
    "memory": memory,
    "twins": twins,
    "checkpoints": checkpoints,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proofs", nargs="*", default=list(PROOFS), help=", ".join(PROOFS))
    OUT.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().proofs:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            body = PROOFS[name](Path(folder))
            took = time.monotonic() - began
        title = (PROOFS[name].__doc__ or name).strip()
        made = f"`python benchmarks/proof.py {name}`, {took:.0f} s, torch {torch.__version__}, {platform.machine()}"
        path = OUT / f"{date.today()}-{name}.md"
        path.write_text(f"# {title}\n\n{made}\n\n{body}\n", "utf-8")
        print(f"{path}\n{body}\n")


if __name__ == "__main__":
    main()
