"""Evidence of checkpoints against recorded gradients: real trainings, planted and natural deaths, every optimizer.

python benchmarks/proof_checkpoints.py [--seeds 5] [--from-seed 100]

About 10 minutes; writes docs/proof/<date>-checkpoints-evidence.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from deadneuron.checkpoints.evidence.alone import traces_of
from deadneuron.checkpoints.evidence.replay import replay
from deadneuron.profiles import load_profile

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "proof" / f"{date.today()}-checkpoints-evidence.md"
sys.path.insert(0, str(ROOT / "tests"))  # the trainings are those of the tests

from checkpoints.digits import MODELS, PLANTED, train  # noqa: E402
from checkpoints.variants import VARIANTS, maker  # noqa: E402

PROFILE = load_profile()
FORENSICS, PATIENCE = PROFILE.checkpoints, PROFILE.thresholds.patience
FIRST, LAST, PLANT = 500, 600, 250
NORM_RATE = 10  # conv-bn takes rates ten times as high before units die by themselves


@dataclass
class Count:
    """Of units: told and true, told but not true, true but not told."""

    right: int = 0
    wrong: int = 0
    missed: int = 0
    natural: int = 0  # of those that are true: not planted

    def add(self, told: Any, true: Any) -> None:
        self.right += int((told & true).sum())
        self.wrong += int((told & ~true).sum())
        self.missed += int((~told & true).sum())
        self.natural += int(true[PLANTED:].sum())

    def cells(self) -> list[str]:
        told, true = self.right + self.wrong, self.right + self.missed
        return [
            *(f"{true:,}", f"{self.natural:,}"),
            *(_share(self.right, told), _share(self.right, true), str(self.wrong), str(self.missed)),
        ]


def _share(part: int, whole: int) -> str:
    """Rounded down, so that 1.0000 says all of them."""
    return f"{int(10000 * part / whole) / 10000:.4f}" if whole else "-"


@dataclass
class Ages:
    errors: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    broken: int = 0  # proofs that the truth gainsays
    proved: int = 0
    alive: int = 0  # had a gradient within the patience


def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, LAST)


CELLS = {
    **{name: (name, None, {}) for name in VARIANTS},
    "AdamW, cosine": ("AdamW", cosine, {}),
    "SGD with L2, cosine": ("SGD with L2", cosine, {}),
    **{
        f"{name}, {how}": (name, None, {how: True})
        for name in ("momentum with L2", "Adam", "Adam with L2", "AdamW", "Adagrad")
        for how in ("foreach", "fused")
    },
}


def trainings(kind: str, cell: str, seeds: range) -> Any:
    name, schedule, more = CELLS[cell]
    for seed in seeds:
        make = maker(name, **more)
        if kind == "conv-bn":
            rate = make([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] * NORM_RATE
            make = maker(name, **more, lr=rate)
        try:
            yield train(
                kind, make, schedule=schedule, steps=LAST, plant=PLANT, keep=(PLANT - 50, FIRST, LAST), seed=seed
            )
        except AssertionError:  # it diverged
            continue


def two(training: Any, replayed: Count, alone: Count) -> None:
    """Replay with the rates and from the state alone."""
    ends = training.checkpoints[FIRST], training.checkpoints[LAST]
    for count, rates in ((replayed, training.between(FIRST, LAST)), (alone, None)):
        for interval in replay(*ends, training.layers, rates, FORENSICS):
            if interval.still is not None:
                count.add(interval.still, training.truth(interval.layer, FIRST, LAST))


def one(training: Any, counts: dict[str, Count], ages: Ages) -> None:
    """Each kind of evidence of one checkpoint."""
    norms = {layer.name for layer in training.layers if layer.op.endswith("norm")}
    for step, checkpoint in training.checkpoints.items():
        silent = training.silent(step)
        for said in traces_of(checkpoint, training.layers, PATIENCE, FORENSICS):
            true = training.last(said.layer, step)
            if said.never is not None:
                counts["never"].add(said.never, np.isinf(true))
            if said.age is not None:
                counts["age ≥ 50"].add(said.age >= 50, true >= 50)
                counts[f"age ≥ {PATIENCE}"].add(said.age >= PATIENCE, true >= PATIENCE)
                known = (true >= 20) & (true < (said.saturates or np.inf) - 20)
                ages.told += list(said.age[known])
                ages.true += list(true[known])
            if said.age_most is not None:
                ages.broken += int((np.isfinite(said.age_most) & (true > said.age_most)).sum())
                ages.proved += int((said.age_most < PATIENCE).sum())
                ages.alive += int((true < PATIENCE).sum())
            if said.closed is not None:
                name = "closed by its norm" if said.layer in norms else "closed for every input"
                counts[name].add(said.closed, silent[said.layer])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--from-seed", type=int, default=100, help="rules were made on seeds 0 to 4: prove on others")
    asked = parser.parse_args()
    seeds = range(asked.from_seed, asked.from_seed + asked.seeds)
    torch.set_num_threads(1)
    replays, evidence, aged = [], [], []
    total, total_alone = Count(), Count()
    for kind, cell in track([(kind, cell) for kind in MODELS for cell in CELLS], "checkpoints"):
        replayed, alone, counts, ages, runs = Count(), Count(), defaultdict(Count), Ages(), 0
        for training in trainings(kind, cell, seeds):
            two(training, replayed, alone)
            one(training, counts, ages)
            runs += 1
        replays.append([kind, cell, str(runs), *replayed.cells(), *alone.cells()[2:]])
        for sums, count in ((total, replayed), (total_alone, alone)):
            for name in vars(sums):
                setattr(sums, name, getattr(sums, name) + getattr(count, name))
        if cell in VARIANTS:
            evidence += [[kind, cell, name, *count.cells()] for name, count in counts.items()]
            if ages.told:
                wrong = np.abs(np.array(ages.told) - np.array(ages.true))
                related = np.corrcoef(ages.told, ages.true)[0, 1] if len(wrong) > 9 else np.nan
                proof = [f"{ages.proved:,} of {ages.alive:,}", str(ages.broken)] if ages.proved else ["-", "-"]
                aged.append([kind, cell, str(len(wrong)), f"{np.median(wrong):.0f}", f"{related:.2f}", *proof])
    replays.append(["all", "", "", *total.cells(), *total_alone.cells()[2:]])
    text = _text(seeds, replays, evidence, aged)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text, "utf-8")
    print(text)


def _text(seeds: range, replays: list[list[str]], evidence: list[list[str]], aged: list[list[str]]) -> str:
    asked = f"--seeds {len(seeds)} --from-seed {seeds[0]}"
    made = f"`python benchmarks/proof_checkpoints.py {asked}`, torch {torch.__version__}, CPU"
    how = f"""{made}. Trainings of {LAST} steps on scikit-learn's digits, at rates at which units die; {PLANTED} units
of each hidden layer are planted dead at step {PLANT}. Truth: whether a gradient of the unit's rows was ever anything
but 0, recorded at every step. P is the precision, R the recall; `dead` counts units that are so in truth, `natural`
those of them that were not planted. No rule or threshold was chosen on these seeds."""
    return "\n".join(
        [
            "# What checkpoints tell, against recorded gradients",
            "",
            how,
            "",
            f"## Two checkpoints: zero-gradient replay, steps {FIRST} to {LAST}",
            "",
            *_table(
                "net, optimizer, runs, dead, natural, P, R, wrong, missed, P without rates, R, wrong, missed", replays
            ),
            "",
            f"## One checkpoint: at steps {PLANT - 50}, {FIRST} and {LAST}",
            "",
            '"closed" is held against being positive on no image, all else against recorded gradients.',
            "",
            *_table("net, optimizer, evidence, dead, natural, P, R, wrong, missed", evidence),
            "",
            "Ages of units whose last gradient came 20 steps ago or more, and not longer ago than ages saturate; and",
            f"units proved to have had a gradient within {PATIENCE} steps, of those that had one.",
            "",
            *_table("net, optimizer, units, median error, correlation, proved alive, proofs that are wrong", aged),
            "",
        ]
    )


def _table(head: str, rows: list[list[str]]) -> list[str]:
    names = head.split(", ")
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]


if __name__ == "__main__":
    main()
