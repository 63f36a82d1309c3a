"""Seeds of replicates: the script's own seeds, moved by the same amount wherever it sets them.

Replicate 0 is the script's own training. What a script seeds by other means (a torch.Generator, numpy's default_rng)
is the same in all replicates; where nothing else varies they are identical, which the comparison finds out.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import torch

from deadneuron.integrations.patches import Patches

# Odd, so that no two of 2^32 replicates meet modulo 2^32 (numpy's seeds) or 2^63; large, so that no script's other
# seeds (0, 1, 2 …) are another replicate's.
STRIDE = 0x9E3779B1
_NAMES = ("seed", "a")  # of the argument; random.seed calls it a


def moved(seed: int, replicate: int, modulus: int) -> int:
    """The seed that stands for `seed` in a replicate; `seed` itself in replicate 0."""
    return seed if replicate == 0 else (seed + STRIDE * replicate) % modulus


def seed_everything(seed: int, replicate: int) -> None:
    """Seed Python, numpy and torch. Before `vary_seeds`, which would move these seeds once more."""
    random.seed(moved(seed, replicate, 2**63))
    np.random.seed(moved(seed, replicate, 2**32) % 2**32)
    torch.manual_seed(moved(seed, replicate, 2**63))


def vary_seeds(patches: Patches, replicate: int) -> None:
    """From now on what the script seeds Python, numpy and torch with is moved; nothing is done for replicate 0."""
    if replicate == 0:
        return
    inside: list[str] = []  # torch.manual_seed calls torch.cuda.manual_seed_all with the seed that was moved already

    def wrap(modulus: int) -> Any:
        def make(original: Any) -> Any:
            @functools.wraps(original)
            def seed(*args: Any, **kwargs: Any) -> Any:
                if not patches.active or inside:
                    return original(*args, **kwargs)
                inside.append("")
                try:
                    first = [_moved_if_number(value, replicate, modulus) for value in args[:1]]
                    named = {
                        k: _moved_if_number(v, replicate, modulus) if k in _NAMES else v for k, v in kwargs.items()
                    }
                    return original(*first, *args[1:], **named)
                finally:
                    inside.pop()

            return seed

        return make

    for owner, name, modulus in (
        (random, "seed", 2**63),
        (np.random, "seed", 2**32),
        (torch, "manual_seed", 2**63),
        (torch.random, "manual_seed", 2**63),
        (torch.cuda, "manual_seed", 2**63),
        (torch.cuda, "manual_seed_all", 2**63),
    ):
        patches.replace(owner, name, wrap(modulus))


def _moved_if_number(value: Any, replicate: int, modulus: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, torch.Tensor)):
        return value  # None asks for another seed each time
    if isinstance(value, torch.Tensor) and (value.numel() != 1 or value.is_floating_point()):
        return value
    return moved(int(value), replicate, modulus)
