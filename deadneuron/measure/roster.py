"""From sites as they are measured to sites as they are written down: names, feeders, parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from deadneuron.measure.clock import Groups, groups_by_parameter
from deadneuron.measure.sites import LiveSite, plain_name, site_names
from deadneuron.records import Site


def write_down(
    live: Sequence[LiveSite],
    known: Sequence[Site],
    model: nn.Module,
    optimizers: Sequence[Any],
    groups: Groups,
    only_group: int | None,
) -> tuple[Site, ...]:
    """The records of all sites seen so far. A site that has a name keeps it: people may have read it.

    `only_group` is the group of every site where there is no optimizer to ask.
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
            source="module",
            units=site.units,
            unit_axis=site.axis,
            axis_from=site.axis_from,
            gate=site.gate,
            outputs=site.outputs,
            feeder=_feeder(site, parameters, before.get(site.number)),
            group=places.get(id(site.feeder)) if optimizers else only_group,
        )
        for site, name in zip(live, names, strict=True)
    )


def _feeder(site: LiveSite, parameters: Mapping[int, str], before: Site | None) -> str | None:
    if site.feeder is None:
        return None
    # One that was replaced by a new leaf (functional_call) keeps its name.
    return parameters.get(id(site.feeder), before.feeder if before is not None else None)
