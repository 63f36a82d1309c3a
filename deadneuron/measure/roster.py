"""What run.json says: the run itself, and its sites with their names, feeders and parameter groups."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deadneuron import __version__
from deadneuron.measure.clock import Groups, groups_by_parameter, list_groups
from deadneuron.measure.sites import LiveSite, plain_name, site_names
from deadneuron.profiles import Profile
from deadneuron.records import RunInfo, Site
from deadneuron.store.layout import FORMAT


def describe_run(
    path: Path,
    model: str,
    profile: Profile,
    optimizers: Sequence[Any],
    groups: tuple[str, ...],
    activations: Iterable[str],
    dataset_size: int | None,
) -> RunInfo:
    """A run that begins now. Without an optimizer it has one group, "lr"."""
    return RunInfo(
        format=FORMAT,
        run=str(path),
        started=now(),
        model=model,
        rank=0,
        world=1,
        versions={
            "deadneuron": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        profile=profile.name,
        sampling=profile.sampling,
        thresholds=profile.thresholds,
        groups=groups or ("lr",),
        settings=group_settings(optimizers, list_groups(optimizers)),
        modules=tuple(activations),
        dataset_size=dataset_size,
    )


def group_settings(optimizers: Sequence[Any], groups: Groups) -> tuple[dict[str, Any], ...]:
    """What each parameter group says besides its rate: momentum, betas, weight decay …, as plain values."""
    own = [optimizers[index].param_groups for index, _ in groups]
    found = [of[group] if group < len(of) else {} for of, (_, group) in zip(own, groups, strict=True)]
    plain = (bool, int, float, str)
    return tuple(
        {
            str(name): list(value) if isinstance(value, tuple) else value
            for name, value in group.items()
            if name not in _OF_THE_RATE
            and (isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value)))
        }
        for group in found
    )


_OF_THE_RATE = ("lr", "initial_lr", "params")


def now() -> str:
    """This moment, ISO 8601 with time zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def write_down(
    live: Sequence[LiveSite],
    known: Sequence[Site],
    model: nn.Module,
    optimizers: Sequence[Any],
    groups: Groups,
    only_group: tuple[int, ...],
) -> tuple[Site, ...]:
    """The records of all sites seen so far. A site that has a name keeps it: people may have read it.

    `only_group` holds the group of every site where there is no optimizer to ask; it is empty if that is not known.
    """
    parameters = {id(p): plain_name(n) for n, p in model.named_parameters()}
    places = groups_by_parameter(optimizers, groups)
    before = {site.number: site for site in known}
    names = [site.name for site in known] + site_names(live, parameters)[len(known) :]
    return tuple(
        Site(
            number=site.number,
            name=name,
            module=site.module,
            call=site.call,
            op=site.op,
            source=site.source,
            units=site.units,
            unit_axis=site.axis,
            axis_from=site.axis_from,
            gate=site.gate,
            outputs=site.outputs,
            is_output=site.is_output,
            feeder=_feeder(site, parameters, before.get(site.number)),
            groups=places.get(id(site.feeder), ()) if optimizers else only_group,
        )
        for site, name in zip(live, names, strict=True)
    )


def _feeder(site: LiveSite, parameters: Mapping[int, str], before: Site | None) -> str | None:
    if site.feeder is None:
        return None
    # One that was replaced by a new leaf (functional_call) keeps its name.
    return parameters.get(id(site.feeder), before.feeder if before is not None else None)
