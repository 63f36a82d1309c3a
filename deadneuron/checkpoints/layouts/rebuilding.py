"""A learning-rate scheduler rebuilt from its saved state: torch's own class takes the very steps that training took.

The class is told by the keys of the state. Of the state only what that class itself writes is taken over, and all of
it is plain values: nothing that a file says can replace a method.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import lr_scheduler as schedulers

from deadneuron.records import Floats

LARGEST = 4_000_000  # rates of one interval, 32 MB; a schedule takes about 5 µs an update
_LONGEST = 1_000_000  # steps of a scheduler between two checkpoints
_PARTS = 32  # schedulers in a sequence or chain


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one optimizer's rates were."""

    name: str  # the scheduler's class
    by_update: Floats  # [updates, groups]
    final: Floats  # [groups] after the last step
    momenta: Floats | None  # [updates, groups], where the schedule moves momentum or beta1
    final_momenta: Floats | None


State = Mapping[str, Any]
_Build = Callable[[torch.optim.Optimizer, State], Any]

# By the keys that tell the class. The arguments only make an object: its state is loaded afterwards.
_KINDS: tuple[tuple[frozenset[str], _Build], ...] = (
    (frozenset({"_milestones", "_schedulers"}), lambda o, s: _sequence(o, s)),
    (frozenset({"_schedulers"}), lambda o, s: schedulers.ChainedScheduler(_parts(o, s), o)),
    (
        frozenset({"total_steps", "_schedule_phases"}),
        lambda o, s: schedulers.OneCycleLR(
            o, max_lr=1.0, total_steps=s["total_steps"], cycle_momentum=s["cycle_momentum"]
        ),
    ),
    (
        frozenset({"max_lrs", "total_size", "step_ratio"}),
        lambda o, s: schedulers.CyclicLR(
            o, base_lr=0.1, max_lr=1.0, mode=s["mode"], scale_mode=s["scale_mode"], cycle_momentum=s["cycle_momentum"]
        ),
    ),
    (
        frozenset({"T_0", "T_mult", "T_cur"}),
        lambda o, s: schedulers.CosineAnnealingWarmRestarts(o, T_0=s["T_0"], T_mult=s["T_mult"]),
    ),
    (frozenset({"T_max", "eta_min"}), lambda o, s: schedulers.CosineAnnealingLR(o, T_max=s["T_max"])),
    (frozenset({"step_size", "gamma"}), lambda o, s: schedulers.StepLR(o, step_size=s["step_size"])),
    (frozenset({"milestones", "gamma"}), lambda o, s: schedulers.MultiStepLR(o, milestones=[])),
    (frozenset({"start_factor", "end_factor", "total_iters"}), lambda o, s: schedulers.LinearLR(o)),
    (frozenset({"factor", "total_iters"}), lambda o, s: schedulers.ConstantLR(o)),
    (frozenset({"power", "total_iters"}), lambda o, s: schedulers.PolynomialLR(o)),
    (frozenset({"gamma", "base_lrs"}), lambda o, s: schedulers.ExponentialLR(o, gamma=s["gamma"])),
)
_BROKEN = (ArithmeticError, AttributeError, IndexError, KeyError, NameError, TypeError, ValueError, RuntimeError)


def count_of(state: State) -> int | None:
    """How often a scheduler has stepped."""
    for _ in range(_PARTS):  # a chain counts nothing itself: its first part does
        parts = state.get("_schedulers") if "last_epoch" not in state else None
        if not isinstance(parts, list | tuple) or not parts or not isinstance(parts[0], Mapping):
            break
        state = parts[0]
    count = state.get("last_epoch")
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def is_plateau(state: State) -> bool:
    """ReduceLROnPlateau: its rates only fall, so that equal rates at both ends stood still."""
    return {"num_bad_epochs", "cooldown_counter", "best"} <= state.keys()


def replay_schedule(
    state: State, groups: Sequence[Mapping[str, Any]], before: NDArray[np.int64], total: int
) -> Replayed | None:
    """Rates from a scheduler's `state` on: `groups` are its optimizer's settings at that time, `before` [updates] the
    scheduler's steps made before each update, `total` those until the end.

    None where its class has no saved function (LambdaLR), is unknown, or where the state is not one of its class.
    """
    if total > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            # It is stepped without an optimizer's steps, and a sequence starts its parts by number: both are told so.
            warnings.simplefilter("ignore")
            optimizer = _optimizer(groups)
            scheduler = _build(optimizer, state)
            if scheduler is None:
                return None
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                group.update({key: value for key, value in settings.items() if key in group or key in _MOVED})
            return _walk(scheduler, optimizer, before, total)
    except _BROKEN:  # a state that is not what its keys promise
        return None


_MOVED = ("lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "max_momentum", "base_momentum")


def _walk(scheduler: Any, optimizer: torch.optim.Optimizer, before: NDArray[np.int64], total: int) -> Replayed | None:
    cycles = _cycles(scheduler)
    count = len(optimizer.param_groups)
    rates = np.empty((len(before), count))
    momenta = np.empty((len(before), count))
    done = 0
    row, moments = _now(optimizer)
    for update, steps in enumerate([*before.tolist(), total]):
        if done < steps:
            while done < steps:
                scheduler.step()
                done += 1
            row, moments = _now(optimizer)
        if update == len(before):
            final = np.array(moments) if cycles else None
            return Replayed(type(scheduler).__name__, rates, np.array(row), momenta if cycles else None, final)
        rates[update], momenta[update] = row, moments
    return None


def _optimizer(groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """One that carries groups and nothing else."""
    own = [
        {
            "params": [torch.nn.Parameter(torch.zeros(1))],
            **{key: settings[key] for key in _MOVED if key in settings},
            "lr": float(settings["lr"]),
            "initial_lr": float(settings.get("initial_lr", settings["lr"])),
        }
        for settings in groups
    ]
    optimizer: torch.optim.Optimizer
    if any("betas" in settings for settings in groups):
        optimizer = torch.optim.Adam(own, foreach=False)
    else:
        optimizer = torch.optim.SGD(own, momentum=0.5, foreach=False)
    return optimizer


def _build(optimizer: torch.optim.Optimizer, state: State) -> Any:
    if "lr_lambdas" in state or is_plateau(state):
        return None
    for needs, make in _KINDS:
        if needs <= state.keys():
            scheduler = make(optimizer, state)
            if scheduler is not None:
                _load(scheduler, state)
            return scheduler
    return None


def _parts(optimizer: torch.optim.Optimizer, state: State) -> list[Any]:
    saved = state["_schedulers"]
    if not 0 < len(saved) <= _PARTS:
        raise ValueError("too many schedulers")
    parts = [_build(optimizer, part) for part in saved]
    if any(part is None for part in parts):
        raise ValueError("one of its schedulers is not known")
    return parts


def _sequence(optimizer: torch.optim.Optimizer, state: State) -> Any:
    return schedulers.SequentialLR(optimizer, _parts(optimizer, state), milestones=list(state["_milestones"]))


def _load(scheduler: Any, state: State) -> None:
    """What the class itself saves, and nothing else."""
    own = scheduler.state_dict().keys() - {"_schedulers"}
    if missing := own - state.keys() - _NEWER:
        raise ValueError(f"the state lacks {', '.join(sorted(missing))}")
    taken = {key: state[key] for key in own if key in state}
    if "milestones" in taken:
        taken["milestones"] = Counter({int(step): int(times) for step, times in dict(taken["milestones"]).items()})
    if isinstance(taken.get("gamma"), int):
        taken["gamma"] = float(taken["gamma"])  # the power of an integer may fill all memory
    if "_scale_fn_custom" in own:
        scheduler.load_state_dict(dict(taken))
        return
    # Not load_state_dict: a sequence's and a chain's take their parts' states too, which were loaded above.
    vars(scheduler).update(taken)
    for part, saved in zip(getattr(scheduler, "_schedulers", ()), state.get("_schedulers", ()), strict=True):
        _load(part, saved)  # once more: making the sequence stepped its parts


_NEWER = {"_is_initial", "_get_lr_called_within_step", "_step_count", "_scale_fn_custom", "_last_lr"}


def _cycles(scheduler: Any) -> bool:
    parts = getattr(scheduler, "_schedulers", ())
    return bool(getattr(scheduler, "cycle_momentum", False)) or any(_cycles(part) for part in parts)


def _now(optimizer: torch.optim.Optimizer) -> tuple[list[float], list[float]]:
    groups = optimizer.param_groups
    return [float(group["lr"]) for group in groups], [_momentum(group) for group in groups]


def _momentum(group: Mapping[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))
