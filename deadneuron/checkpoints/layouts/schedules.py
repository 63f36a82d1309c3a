"""The learning rates that the updates between two checkpoints used, as far as the two tell.

From the schedulers' saved states, from logged rates, or because the rate stood still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadneuron.checkpoints.contents import Checkpoint, Group, Rates
from deadneuron.checkpoints.layouts.rebuilding import LARGEST, Replayed, count_of, is_plateau, replay_schedule
from deadneuron.checkpoints.layouts.scalars import number_in
from deadneuron.records import Floats, Ints

_ROUNDING = 1e-9  # relative: another version of torch may round the last bits of a rate otherwise


@dataclass(frozen=True, slots=True)
class _Beats:
    """When a scheduler stepped between two checkpoints."""

    before: Ints  # [updates] its steps made before each update, since the earlier checkpoint
    total: int  # its steps until the later one
    certain: bool  # no other way fits its counts


def rates_between(earlier: Checkpoint, later: Checkpoint) -> Rates | None:
    """The rate of every group (over all optimizers) for each of the updates between two checkpoints; None where it
    cannot be told.

    A rebuilt schedule counts only if it ends at the rate that the later checkpoint records.
    """
    groups, final = _groups(earlier), _groups(later)
    first, last = _recorded(groups), _recorded(final)
    if earlier.step is None or later.step is None or first is None or last is None or len(first) != len(last):
        return None
    updates = later.step - earlier.step
    if updates < 1 or not len(first) or updates * len(first) > LARGEST:
        return None
    moved = _rebuilt(earlier, later, updates)
    if moved is not None:
        return moved
    logged = {**dict(earlier.rates), **dict(later.rates)}
    inside = {step - 1: rate for step, rate in logged.items() if earlier.step < step <= later.step}
    if len(inside) == updates and inside[earlier.step] == first[0]:
        return _from_log(np.array([inside[earlier.step + k] for k in range(updates)]), first, last, True)
    if bool(np.all(first == last)) and all(rate == first[0] for rate in inside.values()):
        return _standing(earlier, later, groups, updates, first)
    if inside:
        # At both ends the checkpoints' own rates, which are surer than a log's.
        known = {**inside, earlier.step: float(first[0]), later.step: float(last[0])}
        points = sorted(known)
        values = np.interp(np.arange(earlier.step, later.step), points, [known[point] for point in points])
        return _from_log(values, first, last, False)
    return None


def _groups(checkpoint: Checkpoint) -> list[Group]:
    return [group for optimizer in checkpoint.optimizers for group in optimizer.groups]


def _recorded(groups: Sequence[Group]) -> Floats | None:
    """[groups] the rate that the next update would use."""
    found = [number_in(group.settings.get("lr")) for group in groups]
    rates = [rate for rate in found if rate is not None]
    return np.array(rates) if len(rates) == len(found) else None


def _standing(earlier: Checkpoint, later: Checkpoint, groups: Sequence[Group], updates: int, first: Floats) -> Rates:
    """The same rates at both ends, and no log that says otherwise."""
    constant = np.repeat(first[None, :], updates, axis=0)
    saved = (*earlier.schedulers, *later.schedulers)
    still = _counts(earlier.schedulers) == _counts(later.schedulers) or all(is_plateau(state) for state in saved)
    if saved and still:
        return Rates(constant, "the rate is the same at both ends, and its schedule did not move it", True)
    # torch's schedulers leave "initial_lr" in the groups that they move.
    if saved or any("initial_lr" in group.settings for group in groups):
        return Rates(constant, "the rate is the same at both ends; its schedule in between is not known", False)
    return Rates(constant, "the rate is the same at both ends", True)


def _counts(schedulers: Sequence[Mapping[str, Any]]) -> list[int | None]:
    return [count_of(state) for state in schedulers]


def _from_log(values: Floats, first: Floats, last: Floats, exact: bool) -> Rates:
    """`values` [updates] of the first group; the log names no other: they follow it in proportion."""
    evidence = "every update's rate was logged" if exact else "interpolated between logged rates"
    if bool(np.all(first == first[0]) and np.all(last == last[0])):
        return Rates(np.repeat(values[:, None], len(first), axis=1), evidence, exact)
    share = first / first[0] if first[0] else np.ones_like(first)
    evidence += " of the first group; the others keep their proportion to it"
    return Rates(values[:, None] * share[None, :], evidence, False)


def _rebuilt(earlier: Checkpoint, later: Checkpoint, updates: int) -> Rates | None:
    """From the schedulers' states, where every optimizer that has a scheduler has a saved one, and all reproduce."""
    moved = [any("initial_lr" in group.settings for group in one.groups) for one in earlier.optimizers]
    if not any(moved):  # at step 0 of a training whose scheduler was made after it was saved
        moved = [any("initial_lr" in group.settings for group in one.groups) for one in later.optimizers]
    if not earlier.schedulers or sum(moved) != len(earlier.schedulers) or sum(moved) != len(later.schedulers):
        return None
    parts: list[Replayed] = []
    taken = 0
    exact = certain = True
    for start, end, has in zip(earlier.optimizers, later.optimizers, moved, strict=True):
        first, last = _recorded(start.groups), _recorded(end.groups)
        if first is None or last is None:
            return None
        if not has:
            if not np.array_equal(first, last):
                return None
            parts.append(Replayed("", np.repeat(first[None, :], updates, axis=0), first, None, None))
            continue
        state, after = earlier.schedulers[taken], later.schedulers[taken]
        taken += 1
        beats = _beats(earlier, later, count_of(state), count_of(after))
        if beats is None:
            return None
        part = replay_schedule(state, [group.settings for group in start.groups], beats.before, beats.total)
        if part is None or not np.allclose(part.final, last, rtol=_ROUNDING, atol=0.0):
            return None
        parts.append(part)
        certain = certain and beats.certain
        exact = exact and np.array_equal(part.final, last)
    names = list(dict.fromkeys(part.name for part in parts if part.name))
    momenta = _momenta(parts)
    evidence = f"rebuilt from the saved state of {' and '.join(names)}"
    if not certain:
        evidence += ", whose steps are not placed for certain"
    elif not exact:
        evidence += ", up to rounding"
    return Rates(np.concatenate([part.by_update for part in parts], axis=1), evidence, exact and certain, momenta)


def _momenta(parts: Sequence[Replayed]) -> Floats | None:
    if all(part.momenta is None for part in parts):
        return None
    nothing = [np.full_like(part.by_update, np.nan) for part in parts]
    found = [part.momenta if part.momenta is not None else blank for part, blank in zip(parts, nothing, strict=True)]
    return np.concatenate(found, axis=1)


def _beats(earlier: Checkpoint, later: Checkpoint, start: int | None, end: int | None) -> _Beats | None:
    """When a scheduler stepped that had stepped `start` and `end` times at the two checkpoints.

    None where its steps in between cannot be placed.
    """
    if start is None or end is None or end < start or earlier.step is None or later.step is None:
        return None
    first, last, total = earlier.step, later.step, end - start
    updates = last - first
    numbers = np.arange(updates)
    if total == 0:
        return _Beats(np.zeros(updates, np.int64), 0, True)
    # Written after the scheduler's own step (0) or before it (1): the same at both, but for one before the training.
    for before in (0, 1):
        begun = first - start == before or first == start == 0
        if begun and last - end == before:
            return _Beats(numbers + (first - start), total, True)
    if total == updates:
        return _Beats(numbers, total, False)  # it counts something else too: skipped updates, an earlier training
    if later.format == "Accelerate" and total % updates == 0 and start * updates == first * total:
        return _Beats(numbers * (total // updates), total, True)  # Accelerate steps it once for every process
    lengths = {
        last // (end + before)
        for before in (0, 1)
        if end + before and last % (end + before) == 0
        if first == start == 0 or first == last // (end + before) * (start + before)
    }
    if len(lengths) != 1:
        return None
    # Checkpoints inside epochs of another length could have the same counts: only a file can tell that an epoch ended.
    ended = later.epoch_ended and (earlier.epoch_ended or first == 0)
    return _Beats((first + numbers) // lengths.pop() - start, total, ended)
