"""Do the sites of a run account for every activation that the oracle saw? Counts row by row, nothing left over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

import numpy as np
from oracle import Call, counts

from deadneuron.records import Gap, Site, Window

# What an operator is called in the class names of torch.nn.
CLASSES = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "rrelu": "RReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "softplus": "Softplus",
    "hardtanh": "Hardtanh",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "threshold": "Threshold",
    "log_sigmoid": "LogSigmoid",
}
# Operators that are a part of these activations, which are judged whole.
WHOLE = {"sigmoid": ("Swish",), "tanh": ("GELU",), "erf": ("GELU",)}


def problems(sites: Iterable[Site], windows: Iterable[Window], calls: Iterable[Call], gaps: Iterable[Gap]) -> list[str]:
    """Every site and every call that does not fit, in words; empty if all is accounted for."""
    totals: dict[int, np.ndarray] = {}
    for window in windows:
        totals[window.site] = totals.get(window.site, 0) + np.array([window.rows, *window.active])
    left = list(calls)
    found = []
    for site in sites:
        inner = [call for call in left if _is_inside(call, site)]
        own = [call for call in inner if _is_same(call, site)]
        if not own:  # a composite: its operators are its own, what goes into them is not what goes into it
            left = [call for call in left if call not in inner]
            if not inner:
                found.append(f"{site.name}: nothing such ran")
            continue
        mine = _adding_up(own, site, totals.get(site.number, np.zeros(1 + site.units, int)))
        if mine is None:
            found.append(f"{site.name} ({site.op}, axis {site.unit_axis}): counts of no calls add up to it")
        else:
            left = [call for call in left if call not in mine]
    names = {gap.where for gap in gaps}
    left = [call for call in left if not any(_is_named(call, name) for name in names)]
    return found + [
        f"{call.op} in {call.module} {tuple(call.x.shape)} is neither site nor gap: {call.line}" for call in left
    ]


def _caller(site: Site) -> str:
    """The module whose forward applies a functional site."""
    return site.module.partition("()")[0].rpartition(".")[0]


def _is_inside(call: Call, site: Site) -> bool:
    if site.source == "module":
        return call.module == site.module or call.module.startswith(f"{site.module}.")
    fresh = call.module.startswith("<")  # a module made in a forward: whose is not known
    return (call.module == _caller(site) or fresh) and (_is_same(call, site) or site.op in WHOLE.get(call.op, ()))


def _is_same(call: Call, site: Site) -> bool:
    name = CLASSES.get(call.op, "")
    if site.source == "module" and call.module != site.module and not site.op.startswith(name):
        return False
    if site.op == name:
        return not (call.op in ("gelu", "gelu_tanh") and site.op != "GELU")
    # classes of other libraries around one operator: SiLUActivation, GELUTanh, ReLUSquaredActivation
    return call.op not in WHOLE and name != "" and site.op.startswith(name)


def _adding_up(calls: list[Call], site: Site, total: np.ndarray) -> list[Call] | None:
    """Calls whose rows and active rows add up to the site's: the n-th ones of each pass, or several such."""
    by_place: dict[int, list[Call]] = defaultdict(list)
    seen: dict[int, int] = {}
    for call in calls:
        run = call.pass_number
        by_place[seen.get(run, 0)].append(call)
        seen[run] = seen.get(run, 0) + 1
    axis = site.unit_axis
    places = {
        place: (group, sum(np.array([call.x.numel() // site.units, *counts(call, axis, site.gate)]) for call in group))
        for place, group in by_place.items()
        if all(axis < call.x.dim() and call.x.shape[axis] == site.units for call in group)
    }
    for size in (1, *range(len(places), 1, -1)):
        chosen_sets = [tuple(places)] if size > 1 and len(places) > 12 else combinations(places, size)
        for chosen in chosen_sets:
            if np.array_equal(sum(places[place][1] for place in chosen), total):
                return [call for place in chosen for call in places[place][0]]
    return None


def _is_named(call: Call, name: str) -> bool:
    where = name.partition("()")[0]
    caller, _, function = where.rpartition(".")
    if name.endswith(")") or "()" in name:
        meant = {function.lower(), *(part for part, wholes in WHOLE.items() if function in map(str.lower, wholes))}
        same = call.op in meant or CLASSES.get(call.op, "").lower() in meant
        return same and (call.module == caller or call.module.startswith("<"))
    return call.module == where or call.module.startswith(f"{where}.")
