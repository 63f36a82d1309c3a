"""What is measured of one trained net, layer by layer: by the monitor, and apart from it on the whole training set.

The names are those of `columns`. Counts of units stay counts; a value that could not be measured is None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deadneuron.frames import Run
from deadneuron.measure.gates import gate_of
from deadneuron.records import ZERO_BIN, Diagnosis, Episode

Measures = dict[str, Any]
_MOMENTS = (100, 200, 300)


def of_run(run: Run, diagnosis: Diagnosis) -> list[Measures]:
    """The monitor's measures, one dict a layer in order."""
    made = []
    for verdict in diagnosis.verdicts:
        if verdict.site is None or not verdict.units:
            continue
        windows = run.timelines[verdict.site].windows
        own = [episode for episode in diagnosis.episodes if episode.site == verdict.site]
        first, last = windows[0], windows[-1]
        at_zero = int(first.histogram[: ZERO_BIN + 1].sum()) / int(first.histogram.sum())
        size = float(np.mean(last.magnitude))  # NaN where the last window held no step of full statistics, or no number
        made.append(
            {
                "units": verdict.units,
                "zero_at_start": at_zero if (first.first_step, first.last_step) == (0, 0) else None,
                "outside": 1 - float(last.active.mean() / last.rows),
                "magnitude": size if np.isfinite(size) else None,
                "dead": verdict.dead,
                "born_dead": verdict.born_dead,
                "died": verdict.died,
                "closed_above": verdict.closed_above,
                "ever_dead": len({episode.unit for episode in own}),
                "revived": len({episode.unit for episode in own if episode.last_step is not None}),
                **{f"dead_at_{step}": _dead_at(own, step, diagnosis.last_step) for step in _MOMENTS},
            }
        )
    return made


def _dead_at(episodes: list[Episode], step: int, last_step: int | None) -> int | None:
    # Dated backwards: patience is needed to know of a death, not to have died.
    if last_step is None or last_step + 1 < step:
        return None
    return len({e.unit for e in episodes if e.first_step < step and (e.last_step is None or e.last_step >= step)})


class Looks:
    """Looks at all training images at once, now and then while a net trains."""

    def __init__(self, model: nn.Sequential, x: Tensor, y: Tensor, epsilon: float) -> None:
        self.model, self.x, self.y, self.epsilon = model, x, y, epsilon
        self._ever: list[Tensor] = []
        self._woke: list[Tensor] = []
        self._first: list[Measures] = []

    def look(self) -> None:
        """Note which units are silent now, and which that were silent at an earlier look are not."""
        self.model.eval()
        if not self._first:
            self._first = [self._at_start(z, g) for z, g in zip(*self._passes(), strict=True)]
        silent = [_silent(act, z, self.epsilon) for act, z in zip(_acts(self.model), self._forward(), strict=True)]
        if not self._ever:
            self._ever = [torch.zeros_like(now) for now in silent]
            self._woke = [torch.zeros_like(now) for now in silent]
        for ever, woke, now in zip(self._ever, self._woke, silent, strict=True):
            woke |= ever & ~now
            ever |= now

    def measures(self) -> list[Measures]:
        """All measures on the training set, one dict a layer, after training."""
        self.model.eval()
        made = []
        acts = _acts(self.model)
        for number, (act, z, gradient) in enumerate(zip(acts, *self._passes(), strict=True)):
            counts = {
                **self._first[number],
                "set_ever_silent": int(self._ever[number].sum()),
                "set_woke": int(self._woke[number].sum()),
            }
            finite = bool(torch.isfinite(z).all() and torch.isfinite(gradient).all())
            # Of a net that broke nothing is told at its end: a NaN is neither silent nor active.
            made.append(counts | (_at_end(act, z, gradient, self.epsilon) if finite else dict.fromkeys(_AT_END)))
        return made

    @torch.no_grad()
    def _forward(self) -> list[Tensor]:
        zs, h = [], self.x
        for layer in _layers(self.model):
            z = layer[:-1](h)
            zs.append(z)
            h = layer[-1](z)
        return zs

    def _passes(self) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Pre-activations of each layer, and the gradient of each image's loss with respect to them."""
        zs, h = [], self.x
        for layer in _layers(self.model):
            z = layer[:-1](h)
            zs.append(z)
            h = layer[-1](z)
        loss = nn.functional.cross_entropy(self.model[-1](h), self.y, reduction="sum")
        gradients = torch.autograd.grad(loss, zs)
        return [z.detach() for z in zs], gradients

    @staticmethod
    def _at_start(z: Tensor, gradient: Tensor) -> Measures:
        return {
            "set_zero_at_start": float((z <= 0).double().mean()),
            "set_never_at_start": int((z <= 0).all(0).sum()),
            "set_always_at_start": int((z > 0).all(0).sum()),
            "set_gradient_at_start": float(gradient.abs().double().mean()),
        }


_AT_END = (
    *("set_never", "set_silent", "set_gate", "set_below", "set_above"),
    *("set_magnitude", "set_slope", "set_gradient"),
)


def _at_end(act: nn.Module, z: Tensor, gradient: Tensor, epsilon: float) -> Measures:
    low, high = gate_of(act, epsilon)
    silent = _silent(act, z, epsilon)
    inner = z.clone().requires_grad_()
    out = act(inner)
    (slope,) = torch.autograd.grad(out.sum(), inner)
    return {
        "set_never": int((z <= 0).all(0).sum()),
        "set_silent": int(silent.sum()),
        "set_gate": int((~silent).sum()),
        "set_below": float((z <= low).double().mean()),
        "set_above": float((z >= high).double().mean()),
        "set_magnitude": float(out.detach().abs().double().mean()),
        "set_slope": float(slope.abs().double().mean()),
        "set_gradient": float(gradient.abs().double().mean()),
    }


def _silent(act: nn.Module, z: Tensor, epsilon: float) -> Tensor:
    low, high = gate_of(act, epsilon)
    return ~((z > low) & (z < high) | z.isnan()).any(0)


def _layers(model: nn.Sequential) -> list[nn.Sequential]:
    return [layer for layer in model if isinstance(layer, nn.Sequential)]


def _acts(model: nn.Sequential) -> list[nn.Module]:
    return [layer[-1] for layer in _layers(model)]
