"""The hooks on activation modules: find the site of this call, count its rows, now and then take full statistics.

Pre-hooks, because an in-place ReLU has overwritten its input before a forward hook runs. Whether a pass counts, and
whether it is one of full statistics, are flags that the hook reads: hooks are never attached or removed in between.
Nothing is ever raised into the user's forward: a failure is told to `fail` and the call goes unmeasured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deadneuron.errors import UsageError
from deadneuron.measure import counters
from deadneuron.measure.axes import NO_AXIS
from deadneuron.measure.callstack import CallStack, being_traced, first_floats
from deadneuron.measure.feeders import Producer, still_fed_by, trace
from deadneuron.measure.gates import edge_outputs, gate_of, learned_low
from deadneuron.measure.inert import InertWhenCopied
from deadneuron.measure.pool import Pool
from deadneuron.measure.sites import AxisFrom, LiveSite, containers_of, guess_axis
from deadneuron.records import Phase

_MOST_OUTSIDE = 32  # calls of one activation by hand between two steps that may each be a site
_in_backward: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


class Probe:
    """All hooks of one monitor on one model, and the counters behind them."""

    def __init__(
        self,
        model: nn.Module,
        activations: Mapping[str, nn.Module],
        *,
        epsilon: float,
        phases: frozenset[Phase],
        axes: Mapping[str, int],
        batch_axis: int,
        fail: Callable[[str, str], None],
    ) -> None:
        self.model, self.epsilon, self.phases, self.axes, self.batch_axis = model, epsilon, phases, axes, batch_axis
        self.fail = fail  # (where, reason): becomes a Gap and one warning
        self.on = True
        self.full = True  # full statistics in this step
        self.dirty = False  # a pass was counted since the last seal
        self.ran = False  # a training pass began since the last seal, counted or not
        self.passes = 0
        self.counted = 0  # of them, those of a phase that counts
        self.sites: list[LiveSite] = []
        self.pools: dict[tuple[torch.device, Phase], Pool] = {}
        self.scratch = counters.Scratch()
        self._outputs: Tensor | None = None  # NaN or Inf once a model's output was, since it was last taken
        self.names = {module: name for name, module in model.named_modules()}
        self.stack = CallStack(self._on_enter, self._on_leave, batch_axis)
        self.taps = [Tap(self, name, module) for name, module in activations.items()]
        self._handles: list[RemovableHandle] = self.stack.attach(containers_of(model, activations.values()))
        for tap in self.taps:
            self._handles.append(tap.module.register_forward_pre_hook(tap, with_kwargs=True))
            self._handles.append(tap.module.register_forward_hook(Output(tap), prepend=True))

    def detach(self) -> None:
        """Remove every hook and let go of the model and all tensors. Safe to call twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.on = False
        self.model = nn.Identity()
        self.names.clear()
        self.taps.clear()
        self.pools.clear()
        self._outputs = None
        self.scratch.clear()
        for site in self.sites:
            site.feeder, site.low = None, None
            site.slots.clear()
        self.stack.reset()

    def phase(self) -> Phase | None:
        """The phase of a pass that is running now, or None if it does not count."""
        # In a backward pass only the recomputation of gradient checkpointing calls forward: it was counted already.
        if not self.on or _in_backward() != -1:
            return None
        if not self.stack.mine():
            self.fail("threads", "a pass ran beside another one in a second thread: it was not counted")
            return None
        phase: Phase = "train" if self.model.training else "eval"
        return phase if phase in self.phases else None

    def pool(self, device: torch.device, phase: Phase) -> Pool:
        key = (device, phase)
        if key not in self.pools:
            self.pools[key] = Pool(device, phase)
        return self.pools[key]

    def seal(self, step: int) -> None:
        """Book what was counted since the last call as `step`'s."""
        if self.dirty:
            for pool in self.pools.values():
                pool.seal(step, self.full)
            self.dirty = False
        self.ran = False
        self.stack.reset()

    def refresh_gates(self) -> None:
        """Read learned gates again."""
        for tap in self.taps:
            low = learned_low(tap.module, self.epsilon)
            for site in tap.sites:
                site.low = low

    def why_unseen(self) -> str:
        """Why an activation was never seen, as far as it can be told."""
        if self.counted:
            return "never called while the model ran (or only in compiled code, which is not measured)"
        wanted = " or ".join(sorted(self.phases))
        ran = f": all {self.passes} passes of the model were in another mode" if self.passes else ""
        compiled = "" if self.passes else "; a model that was compiled before is not measured"
        return f"never called in {wanted} mode{ran}{compiled}"

    def take_finite(self) -> Tensor | None:
        """Whether the model's outputs since the last call were finite, as a tensor of one bool; None if none was seen.

        Of each output the first example tells: weights that turned NaN reach every example.
        """
        outputs, self._outputs = self._outputs, None
        return None if outputs is None else torch.isfinite(outputs)

    def _on_leave(self, output: Any) -> None:
        if self.phase() != "train":
            return
        try:
            values = first_floats(output)
            if values is None:
                return
            values = values.detach()
            total = (values[0] if values.dim() else values).sum(dtype=torch.float32)
            if self._outputs is None:
                with torch.inference_mode(False), torch.no_grad():
                    self._outputs = torch.zeros((), dtype=torch.float32, device=total.device)
            self._outputs.add_(total.to(self._outputs.device, non_blocking=True))
        except Exception as error:
            self.fail("output", f"{type(error).__name__} while looking at the model's output: {error}")

    def _on_enter(self) -> None:
        self.passes += 1
        self.counted += self.phase() is not None
        if self.model.training and _in_backward() == -1:
            self.ran = True


class Tap(InertWhenCopied):
    """The pre-hook of one activation module, which may serve several sites."""

    def __init__(self, probe: Probe, name: str, module: nn.Module) -> None:
        self.probe, self.name, self.module = probe, name, module
        self.gate = gate_of(module, probe.epsilon)
        self.outputs = edge_outputs(module)
        self.sites: list[LiveSite] = []
        self.routes: dict[tuple[nn.Module | None, int], LiveSite] = {}  # (caller, call number) → its site last time
        self.pending: tuple[LiveSite, Phase] | None = None  # its output is wanted too

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
        site = self._site(x)
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
        closed = counters.count_closed(x, dims, self.gate, low, probe.scratch)
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

    def _take_statistics(self, x: Tensor, dims: tuple[int, ...], slot: Any) -> None:
        above = counters.count_above(x, dims, self.gate, self.probe.scratch)
        if above is not None:
            slot.above.add_(above.to(torch.int64))
        slot.nonfinite.add_(counters.count_nonfinite(x, dims, self.probe.scratch).to(torch.int64))
        total, square, peak = counters.sums(x, dims, self.probe.scratch)
        slot.sum.add_(total)
        slot.square.add_(square)
        torch.maximum(slot.peak, peak.to(slot.peak.dtype), out=slot.peak)
        slot.histogram.add_(counters.histogram(x, self.probe.scratch))

    def take_output(self, output: Tensor) -> None:
        assert self.pending is not None
        site, phase = self.pending
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

    def _site(self, x: Tensor) -> LiveSite:
        caller = self.probe.stack.caller()
        call = self.probe.stack.next_call(self.module)
        site = self.routes.get((caller, call))
        if site is None or (x.grad_fn is not None and not _confirmed(site, x)):
            site = self.routes[caller, call] = self._resolve(x, caller, call)
        return site

    def _resolve(self, x: Tensor, caller: nn.Module | None, call: int) -> LiveSite:
        """The site of this caller and feeder, or of this call where no feeder is known; a new one if there is none."""
        producer = trace(x)
        feeder = producer.feeder if producer is not None else None
        where = self.probe.names.get(caller, "") if caller is not None else ""
        path = producer.path if producer is not None else None
        known = self.routes.get((caller, call))
        for site in self.sites:
            if site.caller != where:
                continue
            feederless = feeder is None and x.grad_fn is not None and site.feeder is None and site.nth == call
            # The same parameter by another path is another site (relu(y) beside relu(-y)), unless it is the same call.
            same = feeder is not None and site.feeder is feeder and (site.path in (path, None) or site.nth == call)
            if feederless or same:
                site.path, site.traced = path, True
                self._learn_axis(site, x, producer)
                return site
        if known is not None and feeder is not None and known.path == path and self._was_replaced(known, x):
            known.feeder = feeder  # new leaves every step: functional_call, load_state_dict(assign=True)
            return known
        if known is None and caller is None and x.grad_fn is None:
            return self._outside(call) or self._new_site(x, producer, where, call)
        if known is None or (known.feeder is not None and known.feeder.requires_grad):
            return self._new_site(x, producer, where, call)
        if producer is not None:  # first seen without a graph, or frozen since
            if self._axis(x, producer)[0] != known.axis_in(x):  # and its axis was guessed wrongly
                return self._new_site(x, producer, where, call)
            known.feeder, known.path = (known.feeder, None) if feeder is None else (feeder, producer.path)
        known.traced = x.grad_fn is not None
        return known

    def _was_replaced(self, site: LiveSite, x: Tensor) -> bool:
        """Whether what fed the site is no parameter of the model any longer, while the site's shape is what it was."""
        units = x.shape[axis] if -x.dim() <= (axis := site.axis_in(x)) < x.dim() else None
        current = any(parameter is site.feeder for parameter in self.probe.model.parameters())
        return not current and (site.axis == NO_AXIS or units == site.units)

    def _outside(self, call: int) -> LiveSite | None:
        """The site of a call outside of every container and without a graph: nothing but other calls can tell it."""
        fed = [site for site in self.sites if site.feeder is not None]
        if len(fed) == 1:
            return fed[0]
        if fed or call >= _MOST_OUTSIDE:
            raise LookupError("called by hand and without a gradient: which layer it belongs to cannot be told")
        return None

    def _learn_axis(self, site: LiveSite, x: Tensor, producer: Producer | None) -> None:
        axis, _ = self._axis(x, producer)
        if axis != NO_AXIS and x.shape[axis] == site.units:
            site.axes[x.dim()] = axis

    def _new_site(self, x: Tensor, producer: Producer | None, caller: str, call: int) -> LiveSite:
        axis, axis_from = self._axis(x, producer)
        site = LiveSite(
            number=len(self.probe.sites),
            module=self.name,
            call=len(self.sites),
            op=type(self.module).__name__,
            units=1 if axis == NO_AXIS else x.shape[axis],
            axis=axis,
            axis_from=axis_from,
            gate=self.gate,
            outputs=self.outputs,
            caller=caller,
            nth=call,
            feeder=producer.feeder if producer else None,
            path=producer.path if producer else None,
            traced=x.grad_fn is not None,
            low=learned_low(self.module, self.probe.epsilon),
            axes={x.dim(): axis},
        )
        if axis_from == "shape" and x.dim() > 2:
            shape = tuple(x.shape)
            self.probe.fail(self.name, f"unit axis {axis} assumed for shape {shape}: say it with unit_axis=")
        self.sites.append(site)
        self.probe.sites.append(site)
        return site

    def _axis(self, x: Tensor, producer: Producer | None) -> tuple[int, AxisFrom]:
        if self.name in self.probe.axes:
            axis = self.probe.axes[self.name]
            if not -x.dim() <= axis < x.dim():
                raise UsageError(f"unit_axis {axis} is outside of a tensor of shape {tuple(x.shape)}", where=self.name)
            return axis % x.dim(), "user"
        if producer is not None and producer.axis is not None and producer.axis < x.dim():
            return producer.axis, "producer"
        return guess_axis(self.probe.model, self.module, x)


def _confirmed(site: LiveSite, x: Tensor) -> bool:
    """Whether this call's pre-activation still comes from what feeds the site (or from nothing that can be known)."""
    if site.feeder is None or site.path is None:
        return site.traced
    return still_fed_by(x, site.path, site.feeder)


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
