"""Proofs of the dither: size and power on simulated runs, and what it finds on digits; docs/proof/<date>-dither-*.md.

python benchmarks/proof_dither.py [size digits] [--runs 500] [--seeds 24]
"""

from __future__ import annotations

import argparse
import math
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from simulated import SPARE, STEPS, draw, write

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.analysis.dithered import Contrast, hazard_ratio
from deadneuron.analysis.hazards import Series, hazard_series
from deadneuron.experiments.digits import Digits, load_digits
from deadneuron.experiments.dither import LRDither
from deadneuron.experiments.nets import build_mlp
from deadneuron.experiments.training import accuracy, make_optimizer, train
from deadneuron.frames import read_run

OUT = Path(__file__).parents[1] / "docs" / "proof"


# ── size and power ───────────────────────────────────────────────────────────────────────────────────────────────────

_CONSTANT = np.full(STEPS, 4e-4)
_FALLING = 3e-3 * np.exp(-np.arange(STEPS) / 150)
WORLDS = {
    "constant hazard, independent deaths": (_CONSTANT, 0.0),
    "constant hazard, bursts": (_CONSTANT, 30.0),
    "hazard falls as e^(-t/150), independent": (_FALLING, 0.0),
    "hazard falls as e^(-t/150), bursts": (_FALLING, 30.0),
}


def size(work: Path, options: argparse.Namespace) -> str:
    """Size and power of the dither's test, and coverage of its interval, on simulated runs."""
    rows = []
    for exponent, meaning in ((0, "none (the null)"), (1, "∝ lr"), (2, "∝ lr²")):
        for name, (hazard, dispersion) in WORLDS.items():
            rows.append([name, meaning, *_cell(work, hazard, dispersion, exponent, options.runs)])
    head = "world | effect of the rate | deaths a run (median) | rejected at 5 % | interval holds the ratio | "
    head += "hazard ratio: true | estimated (median) | interval (medians) | other links with a p"
    lines = [
        f"{options.runs} runs a row, 500 units, {STEPS} steps and {SPARE} more to confirm deaths, warm-up and cosine, "
        "each step's rate × 0.5 or × 1.5 by lot. Each run is written as a run folder, read and diagnosed; the deaths "
        "and the units at risk that come back are those that were drawn, step by step, or this stops. Bursts: one "
        "gamma number a step with dispersion 30 on the hazard. A share near 5 % is known to ±1.9 points, one near 90 % "
        f"to ±2.6 ({options.runs} runs, 95 %).",
        "",
        f"| {head} |",
        "|---" * 9 + "|",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]
    return "\n".join(lines)


def _cell(work: Path, hazard: Any, dispersion: float, exponent: float, runs: int) -> list[str]:
    rng = np.random.default_rng([int(dispersion), int(exponent), int(1e6 * hazard[0])])
    # Expected hazards of high and low steps; over gamma numbers g with dispersion k, E[e^(-hg)] = (1 + kh)^(-1/k).
    dies = (lambda h: 1 - (1 + dispersion * h) ** (-1 / dispersion)) if dispersion else (lambda h: -np.expm1(-h))
    weights = np.zeros(STEPS)
    links, deaths, others = [], [], 0
    for number in track(range(runs), f"{hazard[0]:g} {dispersion:g} {exponent:g}"):
        world, path = draw(hazard, dispersion, exponent, rng), work / str(number)
        write(world, path)
        run = read_run(path)
        diagnosis = diagnose(run)
        shutil.rmtree(path)
        (series,) = hazard_series(run, diagnosis.episodes, diagnosis.thresholds)
        assert series.deaths.tolist() == world.deaths.tolist()
        assert series.at_risk.tolist() == world.at_risk.tolist()
        links.append(next(link for link in diagnosis.links if (link.evidence, link.of) == ("dither", "deaths")))
        others += sum(link.p is not None for link in diagnosis.links) - (links[-1].p is not None)
        deaths.append(int(world.deaths.sum()))
        weights += world.at_risk
    truth = (weights * dies(hazard * 1.5**exponent)).sum() / (weights * dies(hazard * 0.5**exponent)).sum()
    told = [link for link in links if link.rate_ratio is not None]
    rejected = sum(link.p is not None and link.p <= 0.05 for link in links) / runs
    held = sum(link.low <= truth <= link.high for link in told) / len(told)
    middle = [float(np.median([getattr(link, name) for link in told])) for name in ("rate_ratio", "low", "high")]
    return [
        f"{np.median(deaths):.0f}",
        f"**{rejected:.1%}**",
        f"{held:.1%}" + ("" if len(told) == runs else f" of {len(told)}"),
        f"{truth:.2f}",
        f"{middle[0]:.2f}",
        f"{middle[1]:.2f} to {middle[2]:.2f}",
        str(others),
    ]


# ── digits ───────────────────────────────────────────────────────────────────────────────────────────────────────────

OPTIMIZERS = {"SGD": 0.5, "SGD+momentum": 0.1, "Adam": 0.01}
TRAINED, BATCH, WIDTH = 400, 64, 96
PERMANENT = 100  # steps without a row inside the gate on the whole training set


def digits(work: Path, options: argparse.Namespace) -> str:
    """The dither on digits: hazards of deaths and revivals in high against low steps, seeds pooled."""
    rows, costs, dated = [], [], []
    for name, lr in OPTIMIZERS.items():
        pooled: dict[str, list[Series]] = {}
        lags: list[int] = []
        ends: dict[bool, list[tuple[float, float, float]]] = {True: [], False: []}
        for seed in track(range(options.seeds), name):
            for dithered in (True, False):
                found, late, end = _trained(work / "run", name, lr, seed, dithered=dithered)
                lags += late
                ends[dithered].append(end)
                for kind, series in found.items():
                    pooled.setdefault(kind, []).append(series)
        for kind, many in pooled.items():
            rows += [[f"{name} {lr}", kind, of, *_told(hazard_ratio(many, of))] for of in ("deaths", "revivals")]
        costs.append([f"{name} {lr}", *_compared(ends)])
        exact, error = np.mean(np.array(lags) == 0), np.percentile(lags, 75)
        dated.append(f"{name}: {exact:.0%} (upper quartile of the error: {error:.0f} steps)")
    head = "optimizer | what is counted | of | events in high / low steps | ratio | 95 % interval | p"
    cost = "optimizer | diverged: without | with | training loss, last 50 steps: without | with | "
    cost += "accuracy: without | with | dead: without | with"
    lines = [
        f"MLP 64-96-96-96-10 (He), {options.seeds} seeds pooled, {TRAINED} steps and {PERMANENT} more to confirm "
        f"deaths, batch {BATCH}, `LRDither(optimizer, 0.5, 1.5)`.",
        "",
        f"| {head} |",
        "|---" * 7 + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"*The monitor's*: deaths of the default profile ({PERMANENT} silent steps), dated by the last mini-batch on "
        "which the unit fired; revivals of units that were dead. *Lasting, whole set*: units that fire on no image of "
        f"the training set for {PERMANENT} steps, dated by the update that silenced them there. *Silent, whole set*: "
        "every step in which a unit goes from firing on some image to none, and back; most of these are flickers.",
        "",
        "The monitor's ratio is weaker than that of lasting silence on the whole set. It sees a unit only on the "
        "mini-batches of the training: one that fires on few images is silent in many batches before it dies, and its "
        "death is dated to an earlier step, whose multiplier was another toss of the coin; its revival likewise to a "
        "later one. That draws ratios towards 1. Share of the monitor's deaths whose date is exact (no image of the "
        "training set makes the unit fire in the "
        f"{PERMANENT} steps behind it): {'; '.join(dated)}.",
        "",
        f"What it costs: the same seeds with and without, {TRAINED + PERMANENT} steps (means over the seeds of which "
        "neither diverged; ± is 1.96 standard errors of the mean difference).",
        "",
        f"| {cost} |",
        "|---" * 9 + "|",
        *(f"| {' | '.join(row)} |" for row in costs),
    ]
    return "\n".join(lines)


def _trained(
    path: Path, name: str, lr: float, seed: int, *, dithered: bool
) -> tuple[dict[str, Series], list[int], tuple[float, float, float]]:
    """One training: its series, by how many steps its deaths are dated too early, and (loss, accuracy, dead share)."""
    generator = torch.Generator().manual_seed(seed)
    data = load_digits(360, 16.0, generator)
    model = build_mlp(64, 10, width=WIDTH, depth=3, activation="ReLU", norm="none", init="he", generator=generator)
    optimizer = make_optimizer(name, model, lr, 0.9)
    dither = LRDither(optimizer, seed=seed) if dithered else None
    fired: list[np.ndarray] = []
    losses = train(
        model,
        optimizer,
        data,
        path,
        steps=TRAINED + PERMANENT,
        batch=BATCH,
        generator=generator,
        on_step=lambda step: None,
        look=(lambda: fired.append(_fires(model, data))) if dithered else None,
    )
    run = read_run(path)
    diagnosis = diagnose(run)
    dead = sum(v.dead or 0 for v in diagnosis.verdicts) / sum(v.units or 0 for v in diagnosis.verdicts)
    end = (float(np.mean(losses[-50:])), accuracy(model, data), dead)
    if dither is None:
        return {}, [], end
    dither.close()
    (monitors,) = hazard_series(run, diagnosis.episodes, diagnosis.thresholds)
    flags = np.array(fired)  # not looked at again after a step whose loss was no number
    drawn = run.ticks["dither:" + run.info.groups[0]].to_numpy()[: len(flags) - 1]
    lags = [
        int(np.flatnonzero(flags[e.first_step : e.first_step + PERMANENT, WIDTH * e.site + e.unit]).max(initial=0))
        for e in diagnosis.episodes
        if not e.born and e.first_step < len(drawn)
    ]
    return (
        {
            "the monitor's": monitors,
            "lasting, whole set": _lasting(flags, drawn),
            "silent, whole set": _silent(flags, drawn),
        },
        lags,
        end,
    )


@torch.no_grad()
def _fires(model: torch.nn.Module, data: Digits) -> np.ndarray:
    """Whether each hidden unit fires on any image of the training set."""
    flags, x = [], data.train_x
    for name, layer in model.named_children():
        x = layer(x)
        if name.startswith("layer"):
            flags.append((x > 0).any(0))
    return torch.cat(flags).numpy()


def _silent(flags: np.ndarray, drawn: np.ndarray) -> Series:
    before, after = flags[: len(drawn)], flags[1 : len(drawn) + 1]
    counts = [(before & ~after), before, (~before & after), ~before]
    steps = np.arange(len(drawn))
    return Series(0, steps, drawn, drawn, *(count.sum(axis=1) for count in counts))


def _lasting(flags: np.ndarray, drawn: np.ndarray) -> Series:
    """As the monitor counts, but on the whole set: silence that lasts PERMANENT steps."""
    told = len(flags) - PERMANENT
    silent_for = np.zeros(flags.shape, dtype=np.int64)
    for step in range(1, len(flags)):
        silent_for[step] = np.where(flags[step], 0, silent_for[step - 1] + 1)
    silent_for[:] += ~flags[0] & (np.cumsum(flags, axis=0) == 0)  # from the first look on
    comes = np.full(flags.shape, len(flags))
    for step in range(len(flags) - 2, -1, -1):
        comes[step] = np.where(flags[step + 1], step + 1, comes[step + 1])
    # At step s a unit is in an episode if the silence it is in began before and lasts long enough in all.
    total = silent_for + comes - np.arange(len(flags))[:, None] - 1
    inside = ~flags & (total >= PERMANENT)
    known = ~flags & (silent_for >= PERMANENT)
    at = slice(0, told - 1)
    deaths = (~inside[at] & inside[1:told]).sum(axis=1)
    revivals = (known[at] & flags[1:told]).sum(axis=1)
    steps = np.arange(told - 1)
    return Series(0, steps, drawn[at], drawn[at], deaths, (~inside[at]).sum(axis=1), revivals, known[at].sum(axis=1))


def _told(found: Contrast) -> list[str]:
    events = f"{found.high_events} / {found.low_events}"
    if found.ratio is None or found.low is None or found.high is None:
        return [events, "–", "–", "–"]
    excluded = found.low > 1 or found.high < 1
    interval = f"{found.low:.2f} to {found.high:.2f}"
    p = "–" if found.p is None else f"{found.p:.4f}"
    return [events, f"{found.ratio:.2f}", f"**{interval}**" if excluded else interval, p]


def _compared(ends: dict[bool, list[tuple[float, float, float]]]) -> list[str]:
    both = np.array([ends[False], ends[True]])  # [without or with, seeds, measures]
    lost = ~np.isfinite(both[:, :, 0])
    cells = [str(count) for count in lost.sum(axis=1).tolist()]
    kept = both[:, ~lost.any(axis=0)]
    for index, form in enumerate(("{:.4f}", "{:.4f}", "{:.3f}")):
        without, with_dither = kept[:, :, index]
        half = 1.96 * float(np.std(with_dither - without, ddof=1)) / math.sqrt(len(without))
        cells += [form.format(without.mean()), f"{form.format(with_dither.mean())} (±{form.format(half)})"]
    return cells


PROOFS: dict[str, Callable[[Path, argparse.Namespace], str]] = {"size": size, "digits": digits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proofs", nargs="*", default=list(PROOFS), help=", ".join(PROOFS))
    parser.add_argument("--runs", type=int, default=500, help="simulated runs a row")
    parser.add_argument("--seeds", type=int, default=24, help="trained nets an optimizer")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    for name in options.proofs:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            body = PROOFS[name](Path(folder), options)
            took = time.monotonic() - began
        title = (PROOFS[name].__doc__ or name).strip()
        command = f"`python benchmarks/proof_dither.py {name}`"
        made = f"{command}, {took:.0f} s, torch {torch.__version__}, {platform.machine()}"
        path = OUT / f"{date.today()}-dither-{name}.md"
        path.write_text(f"# {title}\n\n{made}\n\n{body}\n", "utf-8")
        print(f"{path}\n{body}\n")


if __name__ == "__main__":
    main()
