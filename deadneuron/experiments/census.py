"""A census: which units fire on given batches, counted beside a training and without a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadneuron.errors import BranchError, NoSitesError
from deadneuron.measure.activations import Choice, Found, find_activations
from deadneuron.measure.drains import unpack
from deadneuron.measure.keeping import kept
from deadneuron.measure.masks import Mask
from deadneuron.measure.probe import Plan, Probe
from deadneuron.measure.reference import call_on, eager
from deadneuron.measure.sites import plain_name, site_names
from deadneuron.monitor import monitors_of, suspended
from deadneuron.records import Ints, Sampling

Forward = Callable[[nn.Module, Any], object]


@dataclass(frozen=True, slots=True)
class Census:
    """What was counted."""

    active: Mapping[str, Ints]  # by site: rows inside the gate of each unit
    examples: int  # independent ones
    gaps: tuple[str, ...]  # what could not be counted, and why


def take_census(
    model: nn.Module, batches: Sequence[Any], *, sampling: Sampling, forward: Forward | None = None
) -> Census:
    """Run `batches` through the model in eval mode and count, for each unit, the rows inside the gate.

    The model and all random numbers are as before afterwards, and open monitors count none of it. The sites, unit axes
    and masks are those of a monitor that watches the model, if there is one.

    A batch is a tensor, a tuple or list whose first entry the model is given, or a mapping of forward's arguments (keys
    that forward does not take are dropped); `forward(model, batch)` overrides that. Tensors go to the model's device.

    Raises:
        NoSitesError: the model has no activation that could be counted.
        BranchError: none was called, or the model cannot be called with such a batch.
    """
    watched = original = getattr(model, "_orig_mod", model)
    while isinstance(original, nn.parallel.DistributedDataParallel):  # it would wait for a backward pass
        original = original.module
    notes: list[str] = []

    def note(where: str, reason: str) -> None:
        notes.append(f"{where}: {reason}")

    probe: Probe | None = None
    with suspended(watched), kept(original), eager():
        try:
            probe = Probe(original, _plan(original, watched, sampling), note, note)
            probe.full = False
            original.eval()
            for batch in batches:
                # With a graph, although nobody goes back through it: it tells which layer feeds an activation, and
                # without one torch's transformer layers take a path on which no activation is called.
                with torch.enable_grad():
                    _call(forward, original, batch)
            probe.seal(0)
            counted = _counted(probe, original)
        finally:
            if probe is not None:
                probe.detach()
    active, examples = counted
    if not active:
        todo = "give forward=, which calls the model on a batch as training does"
        raise BranchError("no activation was called on the probe", where=type(original).__name__, todo=todo)
    return Census(active, examples, tuple(dict.fromkeys(notes)))


def _call(forward: Forward | None, model: nn.Module, batch: Any) -> None:
    if forward is not None:
        forward(model, batch)
        return
    given = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    todo = "give forward=, which calls the model on a batch as training does"
    if not isinstance(given, (Tensor, Mapping)):
        what = "a batch whose input is neither a tensor nor a dict"
        raise BranchError(what, where=type(given).__name__, todo=todo)
    device = next((one.device for one in (*model.parameters(), *model.buffers())), None)
    try:
        call_on(model, _moved(given, device))
    except (TypeError, RuntimeError, ValueError, AttributeError, IndexError) as error:
        what = f"the model cannot be called with what a batch begins with: {type(error).__name__}: {error}"
        raise BranchError(what, where=type(batch).__name__, todo=todo) from error


def _plan(model: nn.Module, watched: nn.Module, sampling: Sampling) -> Plan:
    """What a monitor that watches the model measures, or everything; in eval mode."""
    probe = next((monitor._probe for monitor in monitors_of(watched)), None)
    if probe is None:
        found = find_activations(model, Choice(), {}, sampling.epsilon)
        return Plan(found, Choice(), {}, 0, Mask(model, None, 0), frozenset({"eval"}), sampling)
    kinds = {tap.name: tap.kind for tap in probe.modules}
    everything = Found()
    with suppress(NoSitesError):  # none but those that the user named
        everything = find_activations(model, Choice(), {}, sampling.epsilon)
    muted = [kind.module for name, kind in everything.kinds.items() if name not in kinds]
    found = Found(kinds, muted=[*everything.muted, *muted], functional=probe.functional)
    mask = Mask(model, probe.mask.source, probe.batch_axis)
    return Plan(found, probe.choice, probe.axes, probe.batch_axis, mask, frozenset({"eval"}), sampling)


def _counted(probe: Probe, model: nn.Module) -> tuple[dict[str, Ints], int]:
    parameters = {id(parameter): plain_name(name) for name, parameter in model.named_parameters()}
    names = site_names(probe.sites, parameters)
    active: dict[str, Ints] = {}
    examples = 0
    for pool in probe.pools.values():
        for window in unpack(pool.pack(), phase="eval", rank=0, first_step=0, last_step=0, two_histograms=frozenset()):
            before = active.get(names[window.site])  # a site whose replicas lie on several devices
            active[names[window.site]] = window.active if before is None else before + np.asarray(window.active)
            examples = max(examples, window.samples)
    return active, examples


def _moved(value: Any, device: torch.device | None) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return {key: _moved(one, device) for key, one in value.items()} if isinstance(value, Mapping) else value
