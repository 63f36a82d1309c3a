"""The hooks on one activation module: count the rows of its calls, now and then take full statistics.

Pre-hooks, because an in-place ReLU has overwritten its input before a forward hook runs. Whether a pass counts, and
whether it is one of full statistics, are flags that the hook reads: hooks are never attached or removed in between.
Nothing is ever raised into the user's forward: a failure is told to `fail` and the call goes unmeasured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deadneuron.measure import counters
from deadneuron.measure.axes import NO_AXIS
from deadneuron.measure.callstack import being_traced
from deadneuron.measure.inert import InertWhenCopied
from deadneuron.measure.pool import Slot
from deadneuron.measure.resolver import Resolver
from deadneuron.measure.sites import LiveSite
from deadneuron.records import Phase

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe


class Tap(InertWhenCopied):
    """The pre-hook of one activation module, which may serve several sites."""

    def __init__(self, probe: Probe, name: str, module: nn.Module) -> None:
        self.probe, self.name, self.module = probe, name, module
        self.resolver = Resolver(probe, name, module)
        self.pending: tuple[LiveSite, Phase] | None = None  # its output is wanted too

    @property
    def sites(self) -> list[LiveSite]:
        return self.resolver.sites

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if being_traced():
            return
        self.pending = None
        phase = self.probe.phase()
        if phase is None:
            return
        try:
            x = args[0] if args else kwargs.get("input")
            if isinstance(x, Tensor) and x.is_floating_point() and x.numel():
                self.observe(x, phase)
        except Exception as error:  # the user's forward goes on whatever happens here
            self.probe.fail(self.name, f"{type(error).__name__} while counting: {error}")

    def observe(self, x: Tensor, phase: Phase) -> None:
        probe = self.probe
        site = self.resolver.site(x)
        x, axis = _with_axis(x.detach(), site)
        if axis >= x.dim() or x.shape[axis] != site.units:
            seen = tuple(x.shape)
            probe.fail(self.name, f"expected {site.units} units on axis {axis}, got a tensor of shape {seen}")
            return
        pool = probe.pool(x.device, phase)
        slot = site.slot(pool)
        dims = tuple(i for i in range(x.dim()) if i != axis)
        rows = x.numel() // site.units
        low = None if site.low is None else _on_channels(site.low, x.dim())
        closed = counters.count_closed(x, dims, self.resolver.gate, low, probe.scratch)
        full = probe.full
        if full:
            self._take_statistics(x, dims, slot)
        if closed is not None:  # first, because it can fail (functional transforms), and then nothing is counted
            slot.open.sub_(closed)
        slot.open.add_(rows)
        slot.add_totals(rows, self._examples(x, axis, site), rows if full else 0)
        probe.dirty = True
        probe.ran = probe.ran or phase == "train"
        if full:
            self.pending = (site, phase)

    def _take_statistics(self, x: Tensor, dims: tuple[int, ...], slot: Slot) -> None:
        above = counters.count_above(x, dims, self.resolver.gate, self.probe.scratch)
        if above is not None:
            slot.above.add_(above.to(torch.int64))
        slot.nonfinite.add_(counters.count_nonfinite(x, dims, self.probe.scratch).to(torch.int64))
        total, square, peak = counters.sums(x, dims, self.probe.scratch)
        slot.undefined.add_(~(peak < torch.inf))
        slot.sum.add_(total)
        slot.square.add_(square)
        torch.maximum(slot.peak, peak.to(slot.peak.dtype), out=slot.peak)
        slot.histogram.add_(counters.histogram(x, self.probe.scratch))

    def take_output(self, output: Tensor) -> None:
        assert self.pending is not None
        site, phase = self.pending
        self.probe.last = (output, site)
        output, axis = _with_axis(output.detach(), site)
        slot = site.slot(self.probe.pool(output.device, phase))
        dims = tuple(i for i in range(output.dim()) if i != axis)
        slot.magnitude.add_(counters.magnitude(output, dims, self.probe.scratch))
        if site.outputs is None:
            slot.output_histogram.add_(counters.histogram(output, self.probe.scratch))

    def _examples(self, x: Tensor, unit_axis: int, site: LiveSite) -> int:
        """Independent examples that this call adds to n; a site called T times in one pass sees the same examples."""
        probe = self.probe
        if probe.stack.running:
            if site.entered == probe.passes:
                return 0
            site.entered = probe.passes
        axis = probe.batch_axis + x.dim() if probe.batch_axis < 0 else probe.batch_axis
        given = probe.stack.examples
        if 0 <= axis < x.dim() and axis != unit_axis:
            # Tokens or patches folded into the batch axis are no independent examples: the model's own input tells.
            return min(x.shape[axis], given) if given else x.shape[axis]
        # One step of a time-major sequence has lost its time axis: its batch axis is the one of the input's batch size.
        return given if given and any(n == given for i, n in enumerate(x.shape) if i != unit_axis) else 1


class Output(InertWhenCopied):
    """The forward hook of one activation module: the size of its output, when full statistics are due."""

    def __init__(self, tap: Tap) -> None:
        self.tap = tap

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.tap.pending is None or being_traced():
            return
        try:
            if isinstance(output, Tensor):
                self.tap.take_output(output)
        except Exception as error:
            self.tap.probe.fail(self.tap.name, f"{type(error).__name__} while measuring the output: {error}")
        finally:
            self.tap.pending = None


def _with_axis(x: Tensor, site: LiveSite) -> tuple[Tensor, int]:
    """The tensor and its unit axis; one single unit without an axis is given one."""
    axis = site.axis_in(x)
    return (x.unsqueeze(-1), x.dim()) if axis == NO_AXIS else (x, axis)


def _on_channels(low: Tensor, rank: int) -> Tensor:
    """Shape a PReLU's slopes as PReLU itself does: along axis 1, whatever the unit axis is."""
    shape = [1] * max(rank, 1)
    if low.numel() > 1:
        shape[min(1, rank - 1)] = low.numel()
    return low.reshape(shape)
