"""Random numbers: the state of every generator that a forward pass or a data loader may draw from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deadneuron.measure.aside import aside


@dataclass(frozen=True, slots=True)
class RngState:
    """Of Python's, numpy's and torch's global generators."""

    python: Any
    numpy: Any
    cpu: Tensor
    devices: dict[tuple[str, int], Tensor]  # by the device's kind and number


def rng_state() -> RngState:
    """The state of all global generators: Python, numpy, torch on the CPU and on every device that is in use."""
    with aside():
        devices = {(kind, index): get(index) for kind, index, get, _ in _in_use()}
        return RngState(random.getstate(), np.random.get_state(), torch.get_rng_state(), devices)


def set_rng_state(state: RngState) -> None:
    """Set all global generators to `state`. A device that came into use since then keeps what it has."""
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    with aside():
        torch.set_rng_state(state.cpu)
        for kind, index, _, put in _in_use():
            if (kind, index) in state.devices:
                put(state.devices[kind, index], index)


def differing(before: RngState, after: RngState) -> list[str]:
    """Names of the generators whose states differ."""
    with aside():
        same = {
            "python's random": before.python == after.python,
            "numpy.random": repr(before.numpy) == repr(after.numpy)
            and np.array_equal(np.asarray(before.numpy[1]), np.asarray(after.numpy[1])),
            "torch's generator": torch.equal(before.cpu, after.cpu),
        }
        for key, state in before.devices.items():
            same[f"the generator of {key[0]}:{key[1]}"] = key in after.devices and torch.equal(
                state, after.devices[key]
            )
    return [name for name, equal in same.items() if not equal]


def recall_generator(thing: Any) -> Callable[[], object] | None:
    """What sets one random generator (torch's, numpy's or Python's) back to where it is now; None if it is none."""
    if isinstance(thing, torch.Generator):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, np.random.Generator):
        return partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    if isinstance(thing, np.random.RandomState):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, random.Random):
        return partial(thing.setstate, thing.getstate())
    return None


_Get = Callable[[int], Tensor]
_Put = Callable[[Tensor, int], None]


def _in_use() -> list[tuple[str, int, _Get, _Put]]:
    """Devices whose generator may have been drawn from. Asking others would set them up."""
    found: list[tuple[str, int, _Get, _Put]] = []
    for kind in ("cuda", "xpu"):
        module: Any = getattr(torch, kind, None)
        if module is not None and module.is_initialized():
            found += [(kind, i, module.get_rng_state, module.set_rng_state) for i in range(module.device_count())]
    if torch.backends.mps.is_available():
        mps: Any = torch.mps
        found.append(("mps", 0, lambda _: mps.get_rng_state(), lambda state, _: mps.set_rng_state(state)))
    return found
