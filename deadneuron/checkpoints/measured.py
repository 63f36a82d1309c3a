"""Checkpoints measured on data: the user's model with each checkpoint's weights, seen by the probe that watches runs.

Each checkpoint is one window of evaluation, booked as its step's. A unit is silent at a checkpoint if no row of all
batches was inside its gate; with too few examples for that nobody is called dead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from deadneuron.analysis.series import dormant, saturated
from deadneuron.checkpoints.contents import Checkpoint
from deadneuron.checkpoints.judging import Subject
from deadneuron.checkpoints.lives import Look, Span
from deadneuron.checkpoints.loading import load_weights
from deadneuron.errors import CheckpointError, DeadneuronError
from deadneuron.measure.activations import Choice, find_activations
from deadneuron.measure.drains import unpack
from deadneuron.measure.masks import Mask
from deadneuron.measure.probe import Plan, Probe
from deadneuron.measure.reference import call_on, eager
from deadneuron.measure.rng import rng_state, set_rng_state
from deadneuron.measure.roster import write_down
from deadneuron.profiles import Profile
from deadneuron.records import Gap, Site, Window
from deadneuron.states import FOR_EVER, make_timeline
from deadneuron.userfunctions import name_of, said

MEASURED = "measured"
"""Verdict.evidence: counted on the user's data."""

Factory = Callable[[], Any]
OnBatch = Callable[[int, int], None]
"""Told (checkpoints done, batches done in this one)."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was counted: of each checkpoint one window a site."""

    sites: tuple[Site, ...]
    windows: tuple[Window, ...]
    gaps: tuple[Gap, ...]
    model: str
    dated: bool  # whether the steps of the checkpoints are known


def measure(
    checkpoints: Sequence[Checkpoint],
    model: Factory | nn.Module,
    data: Factory | Iterable[Any],
    profile: Profile,
    *,
    batches: int | None = None,
    on_batch: OnBatch = lambda done, batch: None,
) -> Measured:
    """Count the rows inside the gate of every unit, on `data`, with the weights of each checkpoint.

    `model` is a module, of which a copy is used, or a function that makes one. It runs in eval mode and without
    gradients; random numbers are as before afterwards.
    `data` is an iterable of batches (tensors; tuples whose first entry is the model's input; dicts of forward's
    arguments), or a function that gives one: it is asked anew for each checkpoint. `batches`: at most so many.

    Raises `CheckpointError` where model and weights do not fit, or the user's functions raise.
    """
    numbers = rng_state()
    try:
        return _measure(checkpoints, _own(model), data, profile, batches, on_batch)
    finally:
        set_rng_state(numbers)


def _own(model: Factory | nn.Module) -> nn.Module:
    """A model whose weights may be replaced: a module of the user's is copied."""
    made = copy.deepcopy(model) if isinstance(model, nn.Module) else _called(model)
    made = getattr(made, "_orig_mod", made)  # not compiled: a few batches are not worth it
    if not isinstance(made, nn.Module):
        what = f"the model's function gave {type(made).__name__}"
        raise CheckpointError(what, where=name_of(model), todo="return a torch.nn.Module")
    return made.eval()


def _measure(
    checkpoints: Sequence[Checkpoint],
    made: nn.Module,
    data: Factory | Iterable[Any],
    profile: Profile,
    batches: int | None,
    on_batch: OnBatch,
) -> Measured:
    gaps: list[Gap] = []
    dated = all(checkpoint.step is not None for checkpoint in checkpoints)
    step = 0

    def note(where: str, reason: str) -> None:
        gaps.append(Gap(where, reason, step))

    found = find_activations(made, Choice(), {}, profile.sampling.epsilon)
    plan = Plan(found, Choice(), {}, 0, Mask(made, None, 0), frozenset({"eval"}), profile.sampling)
    probe = Probe(made, plan, note, note)
    windows: list[Window] = []
    try:
        for number, checkpoint in enumerate(checkpoints):
            step = number if checkpoint.step is None else checkpoint.step  # without steps only the order is known
            gaps += load_weights(made, checkpoint)
            probe.after_drain()  # learned gates are read again
            for count, batch in enumerate(islice(_batches(data), batches)):
                _run(made, batch, trace=number == count == 0)
                probe.seal(step)
                on_batch(number, count + 1)
            windows += _drained(probe, step)
        sites = write_down(probe.sites, (), made, (), [], ())
    finally:
        probe.detach()
    return Measured(sites, tuple(windows), tuple(dict.fromkeys(gaps)), type(made).__name__, dated)


def subjects_of(
    measured: Measured, profile: Profile, spans: Callable[[str | None], Mapping[int, Span]] = lambda feeder: {}
) -> list[Subject]:
    """One subject a site, with a look for each checkpoint that it was seen in.

    `spans` gives, for a feeder, the lowest and highest rate of the updates from each checkpoint's step to the next one.
    """
    return [
        _subject(
            site, [one for one in measured.windows if one.site == site.number], profile, spans(site.feeder), measured
        )
        for site in measured.sites
    ]


def _subject(
    site: Site, windows: Sequence[Window], profile: Profile, spans: Mapping[int, Span], measured: Measured
) -> Subject:
    thresholds = profile.thresholds
    looks: list[Look] = []
    before: int | None = None
    for window in windows:
        blind = window.first_nonfinite >= 0  # NaN counts as inside the gate
        alone = before is None or not measured.dated  # of its own: nothing is known of how long ago the last look was
        since = thresholds.patience if alone or before is None else window.last_step - before
        covers = since if window.samples >= thresholds.samples else 0
        before_it = looks[-1].still if looks else None
        if before_it is None:
            before_it = np.zeros(site.units, dtype=np.bool_)
        # What has NaN counts as active, and is neither active nor silent: it stays what it was.
        still = np.where(blind, before_it, window.active == 0)
        rates = spans.get(window.last_step)
        looks.append(Look(window.first_step, window.last_step, covers, still, rates, window.samples))
        before = window.last_step
    timeline = make_timeline(site, windows[-1:])
    numbers: dict[str, Any] = {}
    if timeline is not None:
        last, flat = timeline.windows[-1], saturated(timeline.windows, site.gate)
        fired = last.active > 0
        numbers = {
            "rare": int((fired & (last.active / last.rows < thresholds.rare)).sum()),
            "dormant": dormant(timeline.windows, thresholds.dormant),
            "saturated": None if flat is None else sum(flat),
            "closed_above": int((~fired & (last.above * 2 > last.sampled_rows)).sum()),
        }
    assert timeline is None or timeline.most == FOR_EVER
    facts = (f"counted on {looks[-1].samples:,} examples a checkpoint",) if looks else ()
    return Subject(
        site.number,
        site.name,
        site.op,
        site.units,
        tuple(looks),
        MEASURED if looks else "",
        dated=measured.dated,
        nonfinite=int((windows[-1].first_nonfinite >= 0).sum()) if windows else 0,
        facts=facts,
        numbers=numbers,
    )


def _called(function: Factory) -> Any:
    try:
        return function()
    except DeadneuronError:
        raise
    except Exception as error:
        raise CheckpointError(said(error, "it raised"), where=name_of(function), todo="mend it") from error


def _batches(data: Factory | Iterable[Any]) -> Iterable[Any]:
    """Batches from the beginning; what the user's code raises in between is told as his."""
    given = _called(data) if callable(data) else data
    try:
        yield from given
    except TypeError as error:
        if hasattr(given, "__iter__"):
            raise CheckpointError(said(error, "the data raised"), todo="mend it") from error
        what = f"the data is no iterable of batches but {type(given).__name__}"
        raise CheckpointError(what, todo="return a loader, a list of batches, or a generator") from error
    except Exception as error:
        raise CheckpointError(said(error, "the data raised"), todo="mend it") from error


def _run(model: nn.Module, batch: Any, *, trace: bool) -> None:
    """One batch; with `trace` under autograd, whose graph tells what feeds each activation."""
    device = next((one.device for one in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    try:
        with torch.set_grad_enabled(trace), eager():
            call_on(model, _moved(batch, device))
    except Exception as error:
        what = said(error, "the model cannot be called with what a batch begins with")
        raise CheckpointError(what, todo="give batches as the model takes them: x, (x, y) or a dict") from error


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _moved(one, device) for name, one in value.items()}
    return [_moved(one, device) for one in value] if isinstance(value, (list, tuple)) else value


def _drained(probe: Probe, step: int) -> list[Window]:
    windows: list[Window] = []
    two = frozenset(site.number for site in probe.sites if site.outputs is None)
    for pool in probe.pools.values():
        windows += unpack(pool.pack(), phase="eval", rank=0, first_step=step, last_step=step, two_histograms=two)
        pool.clear()
    if not windows:
        todo = "is data a list of batches that the model is called with? was none given?"
        raise CheckpointError("no activation was called", where=f"step {step}", todo=todo)
    return windows
