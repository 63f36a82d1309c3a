"""`watch()`: checks what a user asks for, and starts a `Monitor`. Before training starts a mistake raises."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from deadneuron.errors import UsageError
from deadneuron.measure.activations import Choice, check_pattern, find_activations
from deadneuron.measure.clock import group_names, list_groups
from deadneuron.measure.masks import Mask, MaskSource
from deadneuron.measure.probe import Plan
from deadneuron.measure.roster import describe_run
from deadneuron.measure.stepping import steppable
from deadneuron.monitor import Monitor, monitors_of
from deadneuron.profiles import Profile, load_profile
from deadneuron.records import PHASES, Finding, Phase
from deadneuron.store.sink import Sink, as_sinks
from deadneuron.store.writer import claim_folder


def watch(
    model: nn.Module,
    optimizer: Any = None,
    run: str | Path | None = None,
    *,
    profile: str | Path | Profile = "default",
    every: int | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    activations: Mapping[str, tuple[float, float] | None] | None = None,
    unit_axis: Mapping[str, int] | None = None,
    batch_axis: int = 0,
    mask: MaskSource | None = None,
    phases: Phase | Sequence[Phase] = ("train",),
    dataset_size: int | None = None,
    sinks: Sequence[Sink] = (),
    on_finding: Callable[[Finding], None] | None = None,
    overwrite: bool = False,
) -> Monitor:
    """Watch a model's activations while it trains, and write what they do to a run folder.

    Use it as `with deadneuron.watch(model, optimizer): …` or keep the monitor and call `close()`. The loop inside stays
    as it is. The training stays bit-identical: its loss, weights, random numbers and optimizer state.

    Args:
        model: any module that applies activations: modules (nn.ReLU, nn.GELU …), functions (F.relu …), or both.
        optimizer: a torch optimizer, or a list of them; its steps are the run's steps, its rates the ones that deaths
            are dated by. None: call `monitor.step(lr=…)` once a step.
        run: the folder to write; None makes runs/<date-time>-<model> and prints its name.
        profile: "default", "strict", or the path of a TOML file: how to sample and how to judge.
        every: steps between full statistics (overrides the profile). Counts inside the gate are taken at every step.
        include: glob patterns of activation names to watch; None for all.
        exclude: glob patterns of activation names to leave out.
        activations: more modules that are activations, by glob pattern of their names or by class name; with the gate
            (low, high) that you state, or None for one that is derived from the module's own derivative.
        unit_axis: unit axis by glob pattern of activation names, where the one that was found is wrong.
        batch_axis: which axis of the model's input and of the activations holds independent examples.
        mask: which tokens are real, of shape (examples, tokens): the name of an argument of the model's forward
            ("attention_mask"; one that ends with "padding_mask" is true where there is padding), a function of the
            forward's arguments, or a tensor. Padding is left out of all counts. On a GPU it costs one wait a pass.
        phases: which passes count: "train" (model.training is true), "eval", or both.
        dataset_size: distinct training examples. A number of examples n that stands beside a count never exceeds it;
            without it, an example that comes again in a later epoch counts again.
        sinks: more places that the records go to while training, e.g. `[deadneuron.TensorBoard("tb/first")]`. They are
            written by the thread that writes the run folder; one that fails is dropped, and the training goes on.
        on_finding: called in the training thread with each new finding, at most once for each (code, place): while
            training as often as 2 % of the time allows, and at the end.
        overwrite: replace an older run in `run`.

    Raises:
        NoSitesError: there is no activation to watch.
        RunFolderError: the folder exists, or cannot be written.
        ProfileError: an unknown profile, key or value.
        UsageError: a pattern that matches nothing, or something that is no optimizer.
    """
    if not isinstance(model, nn.Module):
        raise UsageError("this is no torch.nn.Module", where=type(model).__name__, todo="give the model itself")
    chosen = load_profile(profile)
    if every is not None:
        if every < 1:
            raise UsageError("every must be at least 1", where=f"every={every}", todo="1 is every step")
        chosen = replace(chosen, sampling=replace(chosen.sampling, every=every))
    optimizers = [] if optimizer is None else list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
    optimizers = [steppable(one) for one in optimizers]
    phases = (phases,) if isinstance(phases, str) else tuple(phases)
    if dataset_size is not None and dataset_size < 1:
        raise UsageError("dataset_size must be at least 1", where=f"dataset_size={dataset_size}", todo="leave it out")
    unknown = set(phases) - set(PHASES)
    if unknown or not phases:
        raise UsageError("phases are 'train' and 'eval'", where=f"phases={phases}", todo="give one or both")
    sinks = as_sinks(sinks)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped: hooks on it are compiled with it
    choice = Choice.of(include, exclude)
    # An epsilon that does not suit is said here, before a folder is made.
    found = find_activations(model, choice, activations or {}, chosen.sampling.epsilon)
    for pattern in unit_axis or {}:
        check_pattern("unit_axis names no activation", pattern, model, [*found.kinds])
    plan = Plan(
        found=found,
        choice=choice,
        axes=unit_axis or {},
        batch_axis=batch_axis,
        mask=Mask(model, mask, batch_axis),
        phases=frozenset(phases),
        epsilon=chosen.sampling.epsilon,
    )
    name = type(model).__name__
    if any(live.writes(run) for live in monitors_of(model)):
        todo = "close() the first monitor, or give run= another name"
        raise UsageError("this model is already watched by this run", where=f"run={str(run)!r}", todo=todo)
    path = claim_folder(run, name, overwrite=overwrite)
    groups = group_names(optimizers, list_groups(optimizers))
    info = describe_run(path, name, chosen, groups, found.kinds, dataset_size)
    monitor = Monitor(model, optimizers, path, info, plan, sinks=sinks, on_finding=on_finding)
    for where, reason in found.gaps.items():
        monitor._trouble.note(where, reason)
    if run is None:
        print(f"deadneuron: writing {path}", file=sys.stderr)
    return monitor
