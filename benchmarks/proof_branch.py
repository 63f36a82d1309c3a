"""The learning-rate probe against really training at that rate, and what it costs; docs/proof/<date>-branch.md.

python benchmarks/proof_branch.py      (about 4 minutes on one core)
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import deadneuron
from deadneuron.experiments.digits import load_digits
from deadneuron.experiments.nets import build_mlp
from deadneuron.experiments.snapshot import Snapshot

OUT = Path(__file__).parents[1] / "docs" / "proof"
SEEDS = range(11, 19)  # 0-2 were looked at while the script was written
BEFORE, REAL, LAST, BATCH, FLAG = 20, 200, 50, 64, 0.15
MULTIPLIERS = (1, 2, 4, 6, 8, 12, 16, 32)
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD .1": lambda p: torch.optim.SGD(p, 0.1),
    "SGD+momentum .02": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "Adam .001": lambda p: torch.optim.Adam(p, 0.001),
}


@dataclass(frozen=True)
class Pair:
    optimizer: str
    seed: int
    multiplier: float
    predicted: float | None  # share of new deaths; None if the branch diverged
    real: float | None  # None if the real training diverged


class Training:
    """A net 64-96-96-96-10 on the digits, he initialization, after 20 steps."""

    def __init__(self, optimizer: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.digits = load_digits(200, 16.0, generator)
        net = {"width": 96, "depth": 3, "activation": "ReLU", "norm": "none", "init": "he"}
        self.model = build_mlp(64, 10, generator=generator, **net)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        for batch in self.stream(seed + 1000, BEFORE):
            self.step(batch)

    def loader(self, seed: int) -> DataLoader[Any]:
        data = TensorDataset(self.digits.train_x, self.digits.train_y)
        generator = torch.Generator().manual_seed(seed)
        return DataLoader(data, BATCH, shuffle=True, drop_last=True, generator=generator)

    def stream(self, seed: int, steps: int) -> Iterator[Any]:
        loader = self.loader(seed)
        while steps > 0:
            for batch in loader:
                steps -= 1
                if steps >= 0:
                    yield batch

    def step(self, batch: Any) -> float:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def fires(self) -> Tensor:
        """Which hidden units are positive on any training image: counted by hand, apart from the library."""
        x, found = self.digits.train_x, []
        for name, layer in self.model.named_children():
            x = layer(x)
            if name.startswith("layer"):
                found.append((x > 0).any(0))
        return torch.cat(found)

    def real(self, multiplier: float, seed: int) -> float | None:
        """Share of the units that fire now and are silent at every look in the last steps of a real training."""
        state = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict()))
        before, ever, finite = self.fires(), None, True
        for group in self.optimizer.param_groups:
            group["lr"] *= multiplier
        for number, batch in enumerate(self.stream(seed, REAL), start=1):
            finite = finite and math.isfinite(self.step(batch))
            if not finite:
                break
            if number > REAL - LAST:
                now = self.fires()
                ever = now if ever is None else ever | now
        self.model.load_state_dict(state[0])
        self.optimizer.load_state_dict(state[1])
        return None if not finite or ever is None else float((before & ~ever).sum() / before.sum())


def pairs(seeds: range, whole: bool) -> list[Pair]:
    """All pairs; the probe is the default one, or (`whole`) all held-out and training images."""
    found = []
    for seed in track(list(seeds), "whole set" if whole else "default probe"):
        for name in OPTIMIZERS:
            one = Training(name, seed)
            probe = list(one.digits.train_x.split(256)) if whole else None
            loader = one.loader(seed + 31337)  # an order of its own
            curve = deadneuron.probe_learning_rates(one.model, one.optimizer, one.step, loader, MULTIPLIERS, 20, probe)
            for point in curve.points:
                real = one.real(point.multiplier, seed + 777)
                found.append(Pair(name, seed, point.multiplier, point.share, real))
    return found


def judged(found: list[Pair]) -> str:
    """The figures of one kind of probe."""
    both = [(p.predicted, p.real) for p in found if p.predicted is not None and p.real is not None]
    errors = sorted(abs(a - b) for a, b in both)
    # A branch that diverged is a flag, and stands for all units lost.
    flags = [(p.predicted is None or p.predicted > FLAG, p.real > FLAG) for p in found if p.real is not None]
    all_finals = [(1.0 if p.predicted is None else p.predicted, p.real) for p in found if p.real is not None]
    hits = sum(a and b for a, b in flags)
    precision, recall = hits / max(1, sum(a for a, _ in flags)), hits / max(1, sum(b for _, b in flags))
    diverged = [p for p in found if p.real is None]
    rows = {
        "pairs": len(found),
        "real training diverged (left out)": len(diverged),
        "… of these the branch diverged or was over 15 %": sum(
            p.predicted is None or p.predicted > FLAG for p in diverged
        ),
        "branch diverged, real training did not (left out of the errors; a flag)": len(all_finals) - len(both),
        "pairs compared": len(both),
        "mean absolute error, percentage points": f"{100 * sum(errors) / len(errors):.1f}",
        "median absolute error, percentage points": f"{100 * errors[len(errors) // 2]:.1f}",
        "mean absolute error with a diverged branch as 100 %": f"{100 * _mean(abs(a - b) for a, b in all_finals):.1f}",
        "Spearman": f"{spearmanr([a for a, _ in both], [b for _, b in both]).statistic:.2f}",
        "flag > 15 %: precision": f"{precision:.2f} ({hits} of {sum(a for a, _ in flags)})",
        "flag > 15 %: recall": f"{recall:.2f} ({hits} of {sum(b for _, b in flags)})",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def by_rate(found: list[Pair]) -> str:
    """Predicted and real shares, mean over seeds."""
    lines = ["| optimizer | × | branch, 20 steps | real, 200 steps | pairs | diverged: branch / real |"]
    lines.append("|---|---|---|---|---|---|")
    for name in OPTIMIZERS:
        for multiplier in MULTIPLIERS:
            mine = [p for p in found if (p.optimizer, p.multiplier) == (name, multiplier)]
            both = [p for p in mine if p.predicted is not None and p.real is not None]
            shares = ("–", "–")
            if both:
                shares = (f"{_mean(p.predicted for p in both):.1%}", f"{_mean(p.real for p in both):.1%}")
            diverged = f"{sum(p.predicted is None for p in mine)} / {sum(p.real is None for p in mine)}"
            lines.append(f"| {name} | {multiplier} | {shares[0]} | {shares[1]} | {len(both)} | {diverged} |")
    return "\n".join(lines)


def cost() -> str:
    """Memory of a snapshot, and the time of a branch beside as many plain steps; Adam, one thread."""
    model = nn.Sequential(nn.Linear(64, 2048), nn.ReLU(), *(_block() for _ in range(4)), nn.Linear(2048, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    torch.manual_seed(0)
    batches = [(torch.rand(128, 64), torch.randint(10, (128,))) for _ in range(40)]
    for batch in batches[:3]:
        step(batch)
    weights = sum(_bytes(t) for t in [*model.parameters(), *model.buffers()])
    gradients = sum(_bytes(p.grad) for p in model.parameters() if p.grad is not None)
    state = sum(_bytes(t) for entry in optimizer.state.values() for t in entry.values() if isinstance(t, Tensor))
    resident = _resident()
    began = time.perf_counter()
    snapshot = Snapshot(model, optimizer)
    took = time.perf_counter() - began
    grown = _resident() - resident
    began = time.perf_counter()
    snapshot.restore()
    restored = time.perf_counter() - began
    held = snapshot.bytes
    del snapshot
    began = time.perf_counter()
    for batch in batches[:20]:
        step(batch)
    plain = time.perf_counter() - began
    began = time.perf_counter()
    deadneuron.probe_learning_rates(model, optimizer, step, batches, (1,), 20)
    one = time.perf_counter() - began
    began = time.perf_counter()
    deadneuron.probe_learning_rates(model, optimizer, step, batches)
    six = time.perf_counter() - began
    rows = {
        "parameters and buffers": _mib(weights),
        "gradients": _mib(gradients),
        "optimizer state": _mib(state),
        "together": _mib(weights + gradients + state),
        "copies of the snapshot (`Snapshot.bytes`)": _mib(held),
        "growth of the process' resident memory while the snapshot was made": _mib(grown),
        "making it": f"{1000 * took:.0f} ms",
        "restoring it, and comparing every bit": f"{1000 * restored:.0f} ms",
        "20 plain steps": f"{plain:.2f} s",
        "a probe of one rate: 20 steps, two looks at 20 held-out batches, two restores": f"{one:.2f} s",
        "a probe of six rates (the default)": f"{six:.2f} s, {six / 6 / plain:.2f} of 20 plain steps a rate",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _block() -> nn.Module:
    return nn.Sequential(nn.Linear(2048, 2048), nn.BatchNorm1d(2048), nn.ReLU())


def _mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def main() -> None:
    torch.set_num_threads(1)
    began = time.monotonic()
    default, whole = pairs(SEEDS, whole=False), pairs(SEEDS, whole=True)
    rates = ", ×".join(map(str, MULTIPLIERS))
    body = f"""Net 64-96-96-96-10, he initialization, the digits (1,597 training images), batches of {BATCH}.

After {BEFORE} steps at the optimizer's own rate: `probe_learning_rates` at ×{rates} (20 steps each, batches in an order
of its own) and, from the same state, {REAL} real steps at each of these rates. Predicted: the probe's share of new
deaths. Real: of the units that fired on a training image before, those silent on all training images at every look in
steps {REAL - LAST + 1} to {REAL}, counted apart from the library. Seeds {SEEDS.start} to {SEEDS.stop - 1}; nothing was
chosen on them.

## The default probe: what is left of the epoch, 4 batches that no branch trained on

{judged(default)}

{by_rate(default)}

## The units looked at on the whole training set (`probe=`)

{judged(whole)}

{by_rate(whole)}

## Cost

A net of four blocks of 2,048 units with batch norm, Adam, batches of 128, one thread.

{cost()}"""
    took = time.monotonic() - began
    made = f"`python benchmarks/proof_branch.py`, {took:.0f} s, torch {torch.__version__}, {platform.machine()}"
    path = OUT / f"{date.today()}-branch.md"
    path.write_text(f"# The learning-rate probe against really training at that rate\n\n{made}\n\n{body}\n", "utf-8")
    print(f"{path}\n{body}\n")


if __name__ == "__main__":
    main()
