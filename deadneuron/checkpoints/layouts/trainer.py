"""The learning rates that transformers' Trainer logs: trainer_state.json, log_history."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deadneuron.checkpoints.layouts.scalars import number_in
from deadneuron.records import Gap

_LOGS_THE_LAST_UPDATE = (4, 51)  # the first transformers that does (pull request 36973); earlier ones log the next one


def logged_rates(
    state: Mapping[str, Any], recorded: float | None, version: str | None
) -> tuple[tuple[tuple[int, float], ...], tuple[Gap, ...]]:
    """((step, the rate that update step-1 used), …) of the first parameter group, and gaps.

    At step s, after s updates, transformers 4.51 and later log the rate that update s-1 used, earlier ones the rate
    of update s. The file does not say which; `recorded`, the optimizer's rate at this checkpoint, is that of the next
    update and tells. Where the rate stands still there, the `version` that wrote the folder's config.json tells.
    """
    logged: dict[int, float] = {}
    history = state.get("log_history")
    for entry in history if isinstance(history, list) else ():
        if isinstance(entry, Mapping):
            step, rate = entry.get("step"), number_in(entry.get("learning_rate"))
            if isinstance(step, int) and not isinstance(step, bool) and rate is not None:
                logged[step] = rate
    if not logged:
        return (), ()
    shift = _shift(logged, state.get("global_step"), recorded, version)
    if shift is None:
        reason = "the logged rates may be those of the update before or after: nothing tells which, they are not used"
        return (), (Gap("trainer_state.json", reason, 0),)
    return tuple((step + shift, rate) for step, rate in sorted(logged.items())), ()


def _shift(logged: Mapping[int, float], step: object, recorded: float | None, version: str | None) -> int | None:
    if len(set(logged.values())) == 1 or not isinstance(step, int):
        return 0
    here, before = logged.get(step), logged.get(step - 1)
    if here is not None and recorded is not None:
        if here != recorded:
            return 0
        if before is not None and before != here:
            return 1
    if version is not None and (numbers := re.match(r"(\d+)\.(\d+)", version)):
        return 0 if (int(numbers[1]), int(numbers[2])) >= _LOGS_THE_LAST_UPDATE else 1
    # Where not every update is logged, rates are interpolated anyway, and one update is nothing to that.
    return None if all(number in logged for number in range(1, step + 1)) else 0
