"""One activation, a module or a function that one module calls: count the rows of its calls, now and then in full.

Whether a pass counts, and whether it is one of full statistics, are flags that are read at every call: hooks are never
attached or removed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deadneuron.measure import compiled, counters
from deadneuron.measure.aside import aside, is_without_data
from deadneuron.measure.axes import NO_AXIS
from deadneuron.measure.kinds import Kind
from deadneuron.measure.pool import Slot
from deadneuron.measure.resolver import Resolver
from deadneuron.measure.sites import LiveSite
from deadneuron.records import Phase

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe

COMPLEX = "it was given complex numbers, which no gate divides"


class Tap:
    """One activation, which may serve several sites."""

    def __init__(
        self, probe: Probe, name: str, kind: Kind, caller: nn.Module | None = None, key: object = None
    ) -> None:
        self.probe, self.name, self.kind = probe, name, kind
        self.caller = caller  # the module that calls it, if it is a function
        self.key = key or self  # what compiled code calls it by
        self.who, self.order = compiled.register(self), probe.order
        self.resolver = Resolver(probe, self)
        self.pending: tuple[LiveSite, Phase] | None = None  # its output is wanted too
        self.overtaken = 0  # the id of what it was given before a hook that was registered after ours

    @property
    def sites(self) -> list[LiveSite]:
        return self.resolver.sites

    def begin(self, x: Any) -> None:
        """The activation module is given `x`. Never raises."""
        probe = self.probe
        if probe.inside is not None and probe.inside is not self:
            return  # a part of another activation
        phase = probe.phase()
        if phase is None:  # perhaps another thread's pass: nothing of the one that is counted may change
            return
        probe.inside, self.pending = self, None
        try:
            with aside():
                if not isinstance(x, Tensor):
                    return
                if x.is_floating_point():
                    if x.numel():
                        self.observe(x, phase)
                elif x.is_complex():
                    probe.note(self.name, COMPLEX)
        except Exception as error:  # the user's forward goes on whatever happens here
            probe.fail(self.name, f"{type(error).__name__} while counting: {error}")

    def end(self, output: Any) -> None:
        """The activation has given `output`. Never raises."""
        if not self.probe.stack.mine():
            return
        if self.probe.inside is self:
            self.probe.inside = None
        if self.pending is None:
            return
        try:
            if isinstance(output, Tensor):
                with aside():
                    self.take_output(output)
        except Exception as error:
            self.probe.fail(self.name, f"{type(error).__name__} while measuring the output: {error}")
        finally:
            self.pending = None

    def note_overtaken(self) -> None:
        """What a later hook has put in the place of the pre-activation was not counted."""
        self.probe.note(
            self.name, "a hook that was registered after watch() changed what it is given, unseen in one pass"
        )

    def end_alone(self, x: Tensor) -> None:
        """The same where the output cannot be had: it is computed again from the pre-activation."""
        if self.pending is not None:
            with torch.no_grad(), aside():
                self.end(self.kind.module.forward(x.detach()))

    def observe(self, x: Tensor, phase: Phase) -> None:
        """Count the rows of one pre-activation. May raise."""
        probe = self.probe
        if is_without_data(x):
            return
        site = self.resolver.site(x)
        x, axis = _with_axis(x.detach(), site)
        if axis >= x.dim() or x.shape[axis] != site.units:
            seen = tuple(x.shape)
            probe.fail(self.name, f"expected {site.units} units on axis {axis}, got a tensor of shape {seen}")
            return
        examples = self._examples(x, axis, site)
        whole = x
        x, axis = probe.mask.select(x, axis)
        if not x.numel():
            return
        pool = probe.pool(x.device, phase)
        slot = site.slot(pool)
        dims = tuple(i for i in range(x.dim()) if i != axis)
        rows = x.numel() // site.units
        low = None if site.low is None else _on_channels(site.low, x.dim(), 1 if x is whole else axis)
        closed = counters.count_closed(x, dims, self.kind.gate, low, probe.scratch)
        full = probe.full
        if full:
            self._take_statistics(x, dims, slot)
        if closed is not None:  # first, because it can fail (functional transforms), and then nothing is counted
            slot.open.sub_(closed)
        slot.open.add_(rows)
        slot.add_totals(rows, examples, rows if full else 0)
        probe.dirty = probe.heard = True
        probe.ran = probe.ran or phase == "train"
        if full:
            self.pending = (site, phase)

    def _take_statistics(self, x: Tensor, dims: tuple[int, ...], slot: Slot) -> None:
        above = counters.count_above(x, dims, self.kind.gate, self.probe.scratch)
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
        """Measure what the call that was observed last gave. May raise."""
        assert self.pending is not None
        site, phase = self.pending
        self.probe.last = (output, site)
        output, axis = self.probe.mask.select(*_with_axis(output.detach(), site))
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


class Mute:
    """An activation that is not measured: what its forward calls is no activation of its caller's."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.who, self.order = compiled.register(self), probe.order
        self.overtaken = 0

    def note_overtaken(self) -> None:
        return None

    def begin(self, x: Any) -> None:
        if self.probe.stack.mine():
            self.probe.inside = self.probe.inside or self

    def end(self, output: Any) -> None:
        if self.probe.inside is self and self.probe.stack.mine():
            self.probe.inside = None


def _with_axis(x: Tensor, site: LiveSite) -> tuple[Tensor, int]:
    """The tensor and its unit axis; one single unit without an axis is given one."""
    axis = site.axis_in(x)
    return (x.unsqueeze(-1), x.dim()) if axis == NO_AXIS else (x, axis)


def _on_channels(low: Tensor, rank: int, axis: int) -> Tensor:
    """Shape a PReLU's slopes as PReLU itself does: along axis 1 of what it is given, whatever the unit axis is."""
    shape = [1] * max(rank, 1)
    if low.numel() > 1:
        shape[min(axis, rank - 1)] = low.numel()
    return low.reshape(shape)
