"""Models whose dead units are planted, and the one check that all of them go through.

A case is run twice from the same seed: once under the monitor, once under the oracle that listens to ATen. Every call
that the oracle hears must be counted at the site that the case names, or be one of the gaps that it names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from oracle import Call, Oracle, counts
from torch import Tensor, nn
from watching import added_up
from zoo import BATCH, INPUTS, NEVER, UNITS, step_once, thresholds_linear

import deadneuron

STEPS = 11
# With inputs between -1 and 1: always above zero, far below, half, seldom, far above.
THRESHOLDS = [-1.0, NEVER, 0.0, 0.7, -NEVER]
BELOW, ABOVE = {1}, {4}  # dead where the gate has a lower end, an upper end

Drive = Callable[[nn.Module, Any], None]
ORACLE_NAMES = {"swish": "sigmoid", "logsigmoid": "log_sigmoid"}


@dataclass(frozen=True)
class Truth:
    """What is true of one site, and which of the calls that the oracle hears are its own."""

    dead: Set[int]
    units: int = UNITS
    rows: int = STEPS * BATCH
    n: int = STEPS * BATCH
    axis: int = -1
    at: str | None = None  # the module that the oracle hears it in; told by the site's name unless said
    op: str | None = None  # likewise
    turn: tuple[int, int] = (0, 1)  # (i, k): the i-th of each k such calls
    inner: Callable[[float], float] = float  # what the oracle hears of a pre-activation: rising
    select: Callable[[Tensor, int], Tensor] | None = None  # the rows of the k-th call that count

    def claims(self, name: str, calls: list[Call]) -> list[Call]:
        """The site's calls."""
        base = name.partition("@")[0].partition(" ")[0]
        at, op = self.at, self.op
        if base.endswith("()"):
            caller, _, function = base.removesuffix("()").rpartition(".")
            at, op = caller if at is None else at, op or ORACLE_NAMES.get(function, function)
        at = base if at is None else at
        found = [call for call in calls if call.module == at and op in (None, call.op)]
        return found[self.turn[0] :: self.turn[1]]


@dataclass(frozen=True)
class Case:
    """A model, what is done with it, and the truth."""

    build: Callable[[], nn.Module]
    drive: Drive
    sites: Mapping[str, Truth]  # by site name
    evals: Mapping[str, Truth] = field(default_factory=dict)  # the same in evaluation passes, if those count
    gaps: Mapping[str, str] = field(default_factory=dict)  # where → a part of why
    unmeasured: frozenset[tuple[str, str]] = frozenset()  # (module, op) that is a gap, or left out on purpose
    opaque: frozenset[str] = frozenset()  # kernels that the oracle cannot look into either
    options: Mapping[str, Any] = field(default_factory=dict)  # of watch()
    plain: Drive | None = None  # what the oracle listens to, where that differs
    optimizers: Callable[[nn.Module], Any] = lambda model: frozen(model)


def frozen(model: nn.Module) -> torch.optim.Optimizer:
    """Steps that change nothing: the truth stays what the weights were set to."""
    return torch.optim.SGD(model.parameters(), lr=0.0)


def inputs(*shape: int) -> Tensor:
    """Numbers between -1 and 1."""
    return torch.rand(*(shape or (BATCH, INPUTS))) * 2 - 1


def steps(x: Callable[[], Any] = inputs, count: int = STEPS, loop: Callable[..., Any] = step_once) -> Drive:
    """So many training steps, each on what `x` gives."""

    def drive(model, optimizer):
        for _ in range(count):
            loop(model, optimizer, x())

    return drive


class Layers(nn.Module):
    """A layer with planted units, what `act` makes of it, and a head."""

    def __init__(self, act: Callable[..., Tensor], thresholds=THRESHOLDS):
        super().__init__()
        self.fc, self.head = thresholds_linear(thresholds), nn.Linear(len(thresholds), 2)
        self.act = act

    def forward(self, x):
        return self.head(self.act(self.fc(x)))


class _Listener(Oracle):
    """Knows also whether the model was in training when it heard a call."""

    def __init__(self, model: nn.Module):
        super().__init__(model)
        self.model, self.training = model, []

    def _look(self, func, args, kwargs) -> None:
        before = len(self.calls)
        super()._look(func, args, kwargs)
        self.training += [self.model.training] * (len(self.calls) - before)

    def of(self, *, training: bool) -> list[Call]:
        return [call for call, trained in zip(self.calls, self.training, strict=True) if trained is training]


def listen(case: Case) -> _Listener:
    """What the oracle hears of a case."""
    torch.manual_seed(0)
    model = case.build()
    optimizer = case.optimizers(model)
    torch.manual_seed(1)
    with _Listener(model) as oracle:
        (case.plain or case.drive)(model, optimizer)
    return oracle


def watched(case: Case, run: Path):
    """What the monitor makes of it: the run, each site's windows added up, and the gaps."""
    torch.manual_seed(0)
    model = case.build()
    optimizer = case.optimizers(model)
    torch.manual_seed(1)
    with deadneuron.watch(model, optimizer, run, **case.options) as monitor:
        case.drive(model, optimizer)
    return added_up(run), {gap.where: gap.reason for gap in monitor.gaps}


def check(case: Case, run: Path) -> None:
    """The monitor against the truth and against the oracle."""
    stored, gaps = watched(case, run)
    oracle = listen(case)
    assert gaps.keys() == case.gaps.keys(), gaps
    assert all(case.gaps[where] in reason for where, reason in gaps.items()), gaps
    assert {opaque.aten.partition(".")[0] for opaque in oracle.opaque} == case.opaque
    phases = case.options.get("phases", ("train",))
    for phase, truths in {"train": case.sites, "eval": case.evals}.items():
        windows = {stored.info.sites[w.site].name: w for w in stored.windows if w.phase == phase}
        assert windows.keys() == truths.keys(), phase
        heard = oracle.of(training=phase == "train")
        left = {call.order for call in heard} if phase in phases else set()
        for name, truth in truths.items():
            site = next(site for site in stored.info.sites if site.name == name)
            calls = truth.claims(name, heard)
            _check_site(name, truth, windows[name], site, calls)
            assert left >= {call.order for call in calls}, f"{name} takes calls of another site"
            left -= {call.order for call in calls}
        unaccounted = {(call.module, call.op) for call in heard if call.order in left}
        assert unaccounted <= case.unmeasured, phase
        if phase == "train":
            assert unaccounted == case.unmeasured


def _check_site(name: str, truth: Truth, window, site, calls: list[Call]) -> None:
    assert calls, f"the oracle heard nothing of {name}"
    assert (site.units, len(window.active)) == (truth.units, truth.units), name
    kept = [replace(call, x=truth.select(call.x, k)) if truth.select else call for k, call in enumerate(calls)]
    gate = tuple(end if math.isinf(end) else truth.inner(end) for end in site.gate)
    active = [counts(call, truth.axis, gate) for call in kept]
    rows = sum(call.x.numel() // truth.units for call in kept)
    assert (window.rows, rows) == (truth.rows, truth.rows), name
    assert window.samples == truth.n, name
    assert window.active.tolist() == [sum(column) for column in zip(*active, strict=True)], name
    dead = {unit for unit, hits in enumerate(window.active.tolist()) if hits == 0}
    assert dead == truth.dead, f"{name}: {_precision_and_recall(dead, truth.dead)}"


def _precision_and_recall(said: Set[int], true: Set[int]) -> str:
    right = len(said & true)
    return f"precision {right / max(len(said), 1):.3f}, recall {right / max(len(true), 1):.3f}"
