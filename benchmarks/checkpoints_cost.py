"""What judging checkpoints costs: one of 1 GB beside reading its bytes once, and the replay of a pair of 100 million.

python benchmarks/checkpoints_cost.py [evidence replay] [--write]      (about 4 minutes and 4 GB of temporary files)

Every file is judged in a fresh process, with its pages in the cache; times are the least of 21. Memory is the peak that
the kernel counted for it (VmHWM), less what it was after the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from deadneuron.checkpoints.contents import Rates
from deadneuron.checkpoints.evidence.alone import traces_of
from deadneuron.checkpoints.evidence.layers import find_layers
from deadneuron.checkpoints.evidence.replay import replay
from deadneuron.checkpoints.layouts.opening import open_checkpoint
from deadneuron.profiles import load_profile

OUT = Path(__file__).parents[1] / "docs" / "proof" / f"{date.today()}-checkpoints-cost.md"
WIDE = 4096  # rows and columns of a weight: 64 MiB in float32, the largest tensor
UPDATES = 1000
DEAD = 97  # every so-many-th unit had no gradient: 1 %
ROUNDS = 21


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def net(layers: int, bias: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(one for _ in range(layers) for one in (nn.Linear(WIDE, WIDE, bias=bias), nn.ReLU())))


def gradients(model: nn.Module, generator: torch.Generator, live: bool) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) if live else torch.zeros_like(parameter)
        parameter.grad[::DEAD] = 0


def trained(layers: int, bias: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A few steps with random gradients; every DEAD-th unit had none but at the first."""
    model = net(layers, bias)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4, foreach=False)
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            parameter.grad[::DEAD] *= step == 0
        optimizer.step()
    return model, optimizer


def dictionary(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "global_step": step}


def pair(folder: Path, bias: bool) -> None:
    """Two checkpoints, UPDATES steps apart: zero gradients for the dead, and last a random one for all others."""
    model, optimizer = trained(6, bias)
    torch.save(dictionary(model, optimizer, 4), folder / "first.pt")
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        # Rows that live need no thousand gradients to differ: those of the dead are stepped, one chunk at a time.
        rows = torch.arange(parameter.shape[0]) % DEAD == 0
        own = nn.Parameter(parameter.detach()[rows])
        one = torch.optim.Adam([own], 1e-4, foreach=False)
        one.state[own] = {key: value.clone() if not value.dim() else value[rows] for key, value in state.items()}
        own.grad = torch.zeros_like(own)
        for _ in range(UPDATES):
            one.step()
        with torch.no_grad():
            parameter.mul_(1.001)
            parameter[rows] = own.detach()
            for key in ("exp_avg", "exp_avg_sq"):
                state[key].mul_(0.9)
                state[key][rows] = one.state[own][key]
            state["step"] += UPDATES
    torch.save(dictionary(model, optimizer, 4 + UPDATES), folder / "second.pt")


# ── measurements, each in a process of its own ───────────────────────────────────────────────────────────────────────


def peak() -> int:
    """Bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def judge_one(path: str) -> dict[str, float]:
    """The evidence and the two ways of reading in turn, so that whatever else the machine does hits all of them."""
    profile = load_profile()
    buffer = memoryview(bytearray(4 << 20))

    def judge() -> None:
        checkpoint = open_checkpoint(path)
        traces_of(checkpoint, find_layers(checkpoint), profile.thresholds.patience, profile.checkpoints)

    def reused() -> None:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):  # type: ignore[attr-defined]
                pass

    def whole() -> None:
        Path(path).read_bytes()

    def opening() -> None:
        open_checkpoint(path)

    before = peak()
    judge()
    memory = peak() - before
    times: dict[str, list[float]] = {"judge": [], "opening": [], "reused": [], "whole": []}
    for turn in range(ROUNDS):
        for work in (judge, opening, reused, whole) if turn % 5 == 0 else (judge, opening, reused):
            times[work.__name__].append(timed(work))
    return {"memory": memory, **{name: min(taken) for name, taken in times.items()}}


def replay_pair(folder: str, screened: str) -> dict[str, float]:
    first, second = (open_checkpoint(Path(folder) / name) for name in ("first.pt", "second.pt"))
    layers = find_layers(first)
    by_update = torch.full((UPDATES, 1), 1e-4, dtype=torch.float64).numpy()
    known = Rates(by_update, "the rate is the same at both ends", True)
    forensics = load_profile().checkpoints
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1).step()  # what the first step of a process imports
    before = peak()
    began = time.perf_counter()
    found = replay(first, second, layers, known, forensics, screened=screened == "yes")
    took = time.perf_counter() - began
    still = sum(int(one.still.sum()) for one in found if one.still is not None)
    expected = len(layers) * len(range(0, WIDE, DEAD))
    assert still == expected, (still, expected, found[0].reason)
    rows = sum(layer.units for layer in layers)
    return {"seconds": took, "memory": peak() - before, "rows": rows, "still": still}


def apart(name: str, *arguments: str) -> dict[str, float]:
    """The result of one measurement in a fresh process."""
    done = subprocess.run([sys.executable, __file__, "--one", name, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(what it is, path), one at a time: each is removed before the next is made."""
    for bias in (True, False):
        kind = "linear layers with biases" if bias else "linear layers without biases"
        path = folder / "model.safetensors"
        save_file(net(16, bias).state_dict(), path)
        yield f"safetensors, weights; {kind}", path
        path.unlink()
        path = folder / "training.pt"
        torch.save(dictionary(*trained(5, bias), 4), path)
        yield f"zip, weights and Adam; {kind}", path
        path.unlink()


def evidence(folder: Path) -> str:
    """One checkpoint's evidence beside reading its bytes once"""
    head = "file, GB, evidence ms, of it opening ms, readinto ms, ratio, read() whole ms, ratio, memory MB, allowed MB"
    rows = [head.split(", ")]
    for name, path in files(folder):
        own = apart("judge_one", str(path))
        times = [own["judge"], own["reused"], own["whole"]]
        shown = [f"{1000 * one:.0f}" for one in times]
        ratios = [f"{times[0] / one:.2f}" for one in times[1:]]
        size = f"{path.stat().st_size / 1e9:.2f}"
        memory = [f"{own['memory'] / 1e6:.0f}", f"{(2 * WIDE * WIDE * 4) / 1e6 + 200:.0f}"]
        opened = f"{1000 * own['opening']:.0f}"
        rows.append([name, size, shown[0], opened, shown[1], ratios[0], shown[2], ratios[1], *memory])
    return table(rows)


def replays(folder: Path) -> str:
    """Replay of a pair of 100 million parameters with Adam"""
    rows = [["pair", "screened", "seconds", "rows a second", "parameters a second", "memory MB"]]
    for bias in (True, False):
        pair(folder, bias)
        for screened in ("yes", "no"):
            own = apart("replay_pair", str(folder), screened)
            shown = [f"{own['seconds']:.2f}", f"{own['rows'] / own['seconds']:,.0f}"]
            each = f"{own['rows'] * WIDE / own['seconds'] / 1e6:,.0f} million"
            kind = f"{own['rows'] * WIDE / 1e6:.0f} million weights, {'with' if bias else 'without'} biases"
            rows.append([kind, screened, *shown, each, f"{own['memory'] / 1e6:.0f}"])
    return table(rows)


def table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


TABLES = {"evidence": evidence, "replay": replays}
ONE = {"judge_one": judge_one, "replay_pair": replay_pair}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(ONE[asked.tables[0]](*asked.tables[1:])))
        return
    parts = []
    for name in asked.tables:
        with tempfile.TemporaryDirectory() as folder:
            parts.append(f"## {TABLES[name].__doc__}\n\n{TABLES[name](Path(folder))}")
            print(parts[-1], flush=True)
    made = f"`python benchmarks/checkpoints_cost.py`, torch {torch.__version__}, CPU, {torch.get_num_threads()} threads"
    how = f"{made}, {os.cpu_count()} cores; K = {UPDATES} updates, 1 unit of {DEAD} without a gradient."
    if asked.write:
        OUT.write_text(f"# What judging checkpoints costs\n\n{how}\n\n" + "\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
