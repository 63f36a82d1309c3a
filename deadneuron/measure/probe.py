"""All that watches one model: its hooks, its sites, and the counters behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deadneuron.measure import counters
from deadneuron.measure.callstack import CallStack, first_floats
from deadneuron.measure.gates import learned_low
from deadneuron.measure.pool import Pool
from deadneuron.measure.sites import LiveSite, containers_of
from deadneuron.measure.tap import Output, Tap
from deadneuron.records import Phase

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
        self.last: tuple[Tensor, LiveSite] | None = None  # what an activation gave last, when statistics were due
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
        self._outputs, self.last = None, None
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
        return None if outputs is None else outputs < torch.inf  # -Inf masks a choice; NaN and Inf are not below Inf

    def _on_leave(self, output: Any) -> None:
        if self.phase() != "train":
            return
        try:
            values = first_floats(output)
            if values is None:
                return
            if self.last is not None and (values is self.last[0] or values._base is self.last[0]):
                self.last[1].is_output = True
            values = values.detach()
            total = (values[0] if values.dim() else values).sum(dtype=torch.float32)
            if self._outputs is None:
                with torch.inference_mode(False), torch.no_grad():
                    self._outputs = torch.zeros((), dtype=torch.float32, device=total.device)
            self._outputs.add_(total.to(self._outputs.device, non_blocking=True))
        except Exception as error:
            self.fail("output", f"{type(error).__name__} while looking at the model's output: {error}")
        finally:
            self.last = None

    def _on_enter(self) -> None:
        self.last = None
        self.passes += 1
        self.counted += self.phase() is not None
        if self.model.training and _in_backward() == -1:
            self.ran = True
