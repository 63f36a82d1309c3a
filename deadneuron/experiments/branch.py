"""The learning-rate probe: some steps at each of several rates from one state of a training, which then goes on as if
nothing had been.

That a short branch forecasts what a rate does to the units was measured (docs/proof, and the notes that it names); that
one scaled step does not, too.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from deadneuron.errors import DeadneuronWarning, NotARunError, RunFolderError, UsageError
from deadneuron.experiments.census import Census, Forward, take_census
from deadneuron.experiments.curve import Branch, LayerPoint, Point
from deadneuron.experiments.portions import Portions, divide
from deadneuron.experiments.snapshot import Snapshot
from deadneuron.experiments.steps import Rates, StepCount
from deadneuron.measure.aside import aside
from deadneuron.measure.rescale import undithered
from deadneuron.measure.roster import now
from deadneuron.measure.stepping import steppable
from deadneuron.monitor import Monitor, suspended
from deadneuron.profiles import Profile, load_profile
from deadneuron.store.trials import write_trial

OnStep = Callable[[float, int], None]


def probe_learning_rates(
    model: nn.Module,
    optimizer: Any,
    step_fn: Callable[[Any], Any],
    batches: Iterable[Any],
    multipliers: Sequence[float] = (0.25, 0.5, 1, 2, 4, 8),
    steps: int = 20,
    probe: Iterable[Any] | None = None,
    *,
    scaler: Any = None,
    extra: Sequence[Any] = (),
    offload: bool = False,
    forward: Forward | None = None,
    run: str | Path | None = None,
    profile: str | Path | Profile = "default",
    on_step: OnStep | None = None,
) -> Branch:
    """How many units would die at which learning rate, from here.

    For each multiplier the training is taken from where it stands, its rates are multiplied, and `steps` steps are
    made; then those units are counted that had fired on the probe and are silent on all of it. At the end, also after
    an exception or Ctrl-C, everything is bit for bit as it was: weights, buffers, gradients, optimizer state, scaler,
    random numbers. The memory that this takes is one copy of the training's tensors.

    Args:
        model: the module that step_fn trains.
        optimizer: its optimizer, or a list of them; every group's rate is multiplied.
        step_fn: does one whole step on a batch (zero_grad, forward, backward, optimizer.step) and returns the loss. It
            must not step a learning-rate scheduler.
        batches: a DataLoader, or a list of batches. (What an iterator hands out is gone for the training.)
        multipliers: of the rates that are now in use.
        steps: in each branch. With 20 the count after 200 was forecast to a few percent.
        probe: batches to look at the units on. None: batches that follow those of the branches.
        scaler: the GradScaler, if step_fn uses one. A step that it skips counts as taken.
        extra: what else a step changes: an average of the weights, a second model, a generator of random numbers.
        offload: keep the copy in host memory.
        forward: `forward(model, batch)` calls the model on a batch of the probe. None: it is given a tuple's first
            entry, or a dict's entries by name.
        run: the run folder to keep the result with. None: that of the monitor that watches the model, if any.
        profile: how to judge: "default", "strict", or the path of a TOML file.
        on_step: called with (multiplier, step) after each step.

    Raises:
        BranchError: step_fn does not do one step at the rate that was set, gives no number, or something cannot be
            restored; or there is no batch, or no rate.
        UsageError: an argument that does not fit.
        NoSitesError: the model has no activation.
        NotARunError, ProfileError: `run` or `profile` is none.
    """
    wanted = _checked(multipliers, steps, run)
    thresholds = (judged := load_profile(profile)).thresholds
    optimizers = [steppable(one) for one in (optimizer if isinstance(optimizer, (list, tuple)) else [optimizer])]
    given = list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    rates = Rates(optimizers)
    with _alone(model, extra, optimizers) as monitors, undithered(optimizers):
        count = StepCount(optimizers, scaler)  # before the snapshot, which holds the optimizers' hooks too
        try:
            everything = (*extra, *_generators(batches), *_generators(probe))
            snapshot = Snapshot(model, given, scaler, everything, offload=offload)
            try:
                with _own_iterator(batches), _own_iterator(probe):
                    portions = divide(batches, steps, thresholds.samples, probe)
                one = _Branches(model, portions, rates, count, step_fn, forward, judged, on_step)
                before = one.census()
                points = [one.run(multiplier, steps, before, snapshot) for multiplier in wanted]
            finally:
                snapshot.restore()
        finally:
            count.remove()
    at = next((monitor._clock.step + 1 for monitor in monitors), None)
    result = replace(_result(points, before, rates, steps, portions, thresholds.branch), step=at)
    folder = Path(run) if run is not None else next((monitor.path for monitor in monitors), None)
    if folder is not None:
        _keep(folder, result)
    return result


class _Branches:
    """What all branches of one probe have in common."""

    def __init__(
        self,
        model: nn.Module,
        portions: Portions,
        rates: Rates,
        count: StepCount,
        step_fn: Callable[[Any], Any],
        forward: Forward | None,
        profile: Profile,
        on_step: OnStep | None,
    ) -> None:
        self.model, self.portions, self.rates, self.count = model, portions, rates, count
        self.step_fn, self.forward, self.profile, self.on_step = step_fn, forward, profile, on_step

    def census(self) -> Census:
        return take_census(self.model, self.portions.probe, sampling=self.profile.sampling, forward=self.forward)

    def run(self, multiplier: float, steps: int, before: Census, snapshot: Snapshot) -> Point:
        """One branch, from the snapshot on."""
        snapshot.restore()
        self.rates.set(multiplier)
        losses: list[float] = []
        for step in range(steps):
            losses.append(self.count.run(self.step_fn, self.portions.of_step(step)))
            self.rates.check(multiplier)
            if self.on_step is not None:
                self.on_step(multiplier, step)
            if not math.isfinite(losses[-1]):
                break
        diverged = not math.isfinite(losses[-1]) or not _is_finite(self.model)
        after = None if diverged else self.census()
        return _point(multiplier, self.rates.multiplied(multiplier), losses, before, after)


def _point(
    multiplier: float, rates: tuple[float, ...], losses: list[float], before: Census, after: Census | None
) -> Point:
    layers = tuple(_layers(before, after)) if after is not None else ()
    fired = sum(layer.fired for layer in layers)
    deaths, revived = sum(layer.new_deaths for layer in layers), sum(layer.revived for layer in layers)
    first, last = (loss if math.isfinite(loss) else None for loss in (losses[0], losses[-1]))
    return Point(
        multiplier=multiplier,
        rates=rates,
        steps=len(losses),
        diverged=after is None,
        first_loss=first,
        last_loss=last,
        alive=None if after is None else fired - deaths + revived,
        new_deaths=None if after is None else deaths,
        share=None if after is None or not fired else deaths / fired,
        silent_before=sum(int((active == 0).sum()) for active in before.active.values()),
        revived=None if after is None else revived,
        layers=layers,
    )


def _layers(before: Census, after: Census) -> Iterator[LayerPoint]:
    for name, active in before.active.items():
        now_active = after.active.get(name)
        if now_active is not None and len(now_active) == len(active):  # else it was not called: nothing can be said
            fired, fires = np.asarray(active) > 0, np.asarray(now_active) > 0
            deaths, revived = int((fired & ~fires).sum()), int((~fired & fires).sum())
            yield LayerPoint(name, len(active), int(fired.sum()), deaths, revived)


def _result(
    points: list[Point], before: Census, rates: Rates, steps: int, portions: Portions, threshold: float
) -> Branch:
    return Branch(
        points=tuple(points),
        groups=rates.names,
        steps=steps,
        units=sum(len(active) for active in before.active.values()),
        fired=sum(int((active > 0).sum()) for active in before.active.values()),
        examples=before.examples,
        held_out=portions.held_out,
        threshold=threshold,
        notes=(*portions.notes, *before.gaps),
    )


def _checked(multipliers: Sequence[float], steps: int, run: str | Path | None) -> list[float]:
    """The multipliers, each once, in order. Raises before anything is touched."""
    try:
        values = sorted({float(one) for one in multipliers})
    except (TypeError, ValueError):
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        todo = "give at least one, each above 0; 1 is the rate now in use"
        raise UsageError("multipliers must be positive numbers", where=f"multipliers={multipliers!r}", todo=todo)
    if steps < 1:
        raise UsageError("steps must be at least 1", where=f"steps={steps}", todo="20 forecast well")
    if run is not None and not (Path(run) / "run.json").exists():
        raise NotARunError("this is no run folder", where=str(run), todo="give one that watch() wrote, or leave it out")
    return values


@contextmanager
def _alone(model: nn.Module, extra: Sequence[Any], optimizers: Sequence[Any]) -> Iterator[list[Monitor]]:
    """No monitor of the model, of what it is a part of, or of an extra one counts what happens in here; those of the
    model."""
    with ExitStack() as stack:
        own = stack.enter_context(suspended(model, optimizers))
        for one in extra:
            if isinstance(one, nn.Module):
                stack.enter_context(suspended(one))
        yield own


@contextmanager
def _own_iterator(batches: Any) -> Iterator[None]:
    """A DataLoader with persistent workers has one iterator, which the user's loop may be in the middle of."""
    if not isinstance(batches, DataLoader):
        yield
        return
    theirs, batches._iterator = batches._iterator, None
    try:
        yield
    finally:
        batches._iterator = theirs


def _generators(batches: Any) -> list[Any]:
    """The random generators of a DataLoader's own, which iterating over it moves on."""
    sampler, inner = getattr(batches, "sampler", None), getattr(batches, "batch_sampler", None)
    holders = (batches, sampler, inner, getattr(inner, "sampler", None))
    found = {id(g): g for holder in holders if isinstance(g := getattr(holder, "generator", None), torch.Generator)}
    return list(found.values())


def _is_finite(model: nn.Module) -> bool:
    """Whether all parameters are."""
    with aside(), torch.no_grad():
        return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def _keep(folder: Path, result: Branch) -> None:
    """Put the result down beside the run; what fails here must not lose it."""
    try:
        write_trial(folder, result.trial(now()))
    except RunFolderError as error:
        warnings.warn(f"the probe's result could not be kept: {error}", DeadneuronWarning, stacklevel=3)
