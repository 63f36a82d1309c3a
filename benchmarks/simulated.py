"""Runs whose deaths are drawn from a known hazard, written through the real run folder.

A unit fires in every step until its death and never again, so that what the reader must find is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deadneuron.profiles import load_profile
from deadneuron.records import BINS, RunInfo, Site, Tick, Window
from deadneuron.store.writer import Writer

UNITS, STEPS = 500, 1000
SPARE = 100  # steps behind those, the patience of the default profile: so that every death can be told
EXAMPLES = 64  # a step
Floats = NDArray[np.float64]


def schedule(step: int) -> float:
    """A warm-up over 100 steps and a cosine to zero over the rest."""
    if step < 100:
        return 0.1 * (step + 1) / 100
    return float(0.05 * (1 + np.cos(np.pi * (min(step, STEPS) - 100) / (STEPS - 100))))


@dataclass(frozen=True, slots=True)
class World:
    """What really happened: arrays over the steps."""

    multipliers: Floats
    deaths: NDArray[np.int64]
    at_risk: NDArray[np.int64]

    def last_steps(self) -> NDArray[np.int64]:
        """The last active step of each unit; the run's last one for those that live."""
        died = np.repeat(np.arange(STEPS), self.deaths)
        return np.concatenate([died, np.full(UNITS - len(died), STEPS + SPARE - 1)])


def draw(hazard: Floats, dispersion: float, exponent: float, rng: np.random.Generator) -> World:
    """Deaths at hazard[step] · multiplier^exponent, times a gamma number a step with that dispersion where it is > 0.

    The multiplier is 0.5 or 1.5, each as likely: an exponent of 0 is the null hypothesis.
    """
    multipliers = np.where(rng.random(STEPS) < 0.5, 0.5, 1.5)
    burst = rng.gamma(1 / dispersion, dispersion, STEPS) if dispersion else np.ones(STEPS)
    chance = -np.expm1(-hazard * multipliers**exponent * burst)
    deaths, at_risk = np.zeros(STEPS, dtype=np.int64), np.zeros(STEPS, dtype=np.int64)
    alive = UNITS
    for step in range(STEPS):
        at_risk[step] = alive
        deaths[step] = rng.binomial(alive, chance[step])
        alive -= deaths[step]
    return World(multipliers, deaths, at_risk)


def write(world: World, path: Path) -> None:
    """The run folder that a monitor would have written of this world."""
    profile = load_profile("default")
    site = Site(
        number=0,
        name="layer1",
        module="layer1",
        call=0,
        op="ReLU",
        source="module",
        units=UNITS,
        unit_axis=1,
        axis_from="producer",
        gate=(0.0, np.inf),
        feeder="layer1.bias",
        groups=(0,),
        outputs=None,
    )
    info = RunInfo(
        format=1,
        run=str(path),
        started="2026-11-25T00:00:00+00:00",
        model="Simulated",
        rank=0,
        world=1,
        versions={},
        profile=profile.name,
        sampling=profile.sampling,
        thresholds=profile.thresholds,
        groups=("SGD[0]",),
        modules=("layer1",),
        sites=(site,),
    )

    def fail(where: str, what: str) -> None:
        raise RuntimeError(f"{where}: {what}")

    writer = Writer(path, info, fail=fail)
    last = world.last_steps()
    ends = range(profile.sampling.window - 1, STEPS + SPARE, profile.sampling.window)
    windows = [_window(last, end - profile.sampling.window + 1, end) for end in ends]
    drawn = np.append(world.multipliers, np.where(np.arange(SPARE) % 2, 0.5, 1.5))
    ticks = [
        Tick(step, 1.7e9 + step, (schedule(step) * factor,), multipliers=(factor,))
        for step, factor in enumerate(drawn.tolist())
    ]
    writer.add("windows", lambda: windows)
    writer.add("ticks", lambda: ticks)
    writer.close()


def _window(last: NDArray[np.int64], first_step: int, last_step: int) -> Window:
    steps = last_step - first_step + 1
    active = np.clip(last - first_step + 1, 0, steps) * EXAMPLES
    fired = active > 0
    zeros = np.zeros(UNITS, dtype=np.int64)
    return Window(
        site=0,
        phase="train",
        rank=0,
        first_step=first_step,
        last_step=last_step,
        steps=steps,
        samples=steps * EXAMPLES,
        rows=steps * EXAMPLES,
        active=active,
        first_active=np.where(fired, first_step, -1),
        last_active=np.where(fired, np.minimum(last, last_step), -1),
        sampled_rows=EXAMPLES,
        above=zeros,
        nonfinite=zeros,
        first_nonfinite=np.full(UNITS, -1),
        mean=np.zeros(UNITS),
        square=np.ones(UNITS),
        magnitude=np.ones(UNITS),
        peak=np.ones(UNITS),
        histogram=np.zeros(BINS, dtype=np.int64),
        output_histogram=np.zeros(BINS, dtype=np.int64),
    )
