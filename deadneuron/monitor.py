"""`Monitor`: the only room that holds state for a user.

Before training starts a mistake raises (see `deadneuron.watching`). From then on nothing is raised into the user's
loop: what fails becomes a `Gap` and one warning, and the training goes on as if nobody watched.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor, nn

from deadneuron.measure.clock import Clock, LiveTick, Number, group_names, steppable
from deadneuron.measure.compiled import forget_programs
from deadneuron.measure.drains import unpack
from deadneuron.measure.newcomers import Newcomers
from deadneuron.measure.probe import Plan, Probe
from deadneuron.measure.reference import ReferenceBatch
from deadneuron.measure.roster import group_settings, now, write_down
from deadneuron.measure.scaler import unwatch_scalers, watch_scalers
from deadneuron.measure.silence import unseen, why_silent
from deadneuron.measure.trouble import Trouble
from deadneuron.records import Diagnosis, Finding, Gap, RunInfo, Site, Window
from deadneuron.store.sink import Sink
from deadneuron.store.writer import Writer

_MANY_PASSES = 10  # without a step: the optimizer was forgotten, or is another one
_NO_NEWS = ("too-short", "silent", "no-steps")
_live: weakref.WeakSet[Monitor] = weakref.WeakSet()
_LOOK_SHARE = 0.02  # of the training's time that diagnoses for on_finding may take


class Monitor:
    """A running observation; made by `deadneuron.watch()`."""

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Any],
        path: Path,
        info: RunInfo,
        plan: Plan,
        *,
        reference: ReferenceBatch | None,
        sinks: Sequence[Sink],
        on_finding: Callable[[Finding], None] | None,
    ) -> None:
        self.path = path
        """The run folder."""
        self._info = info
        self._optimized = bool(optimizers)
        self._on_finding = on_finding
        self._reference = reference
        self._told: set[tuple[str, str]] = set()
        self._looked = (time.monotonic(), 0.0)  # when the last diagnosis for on_finding ended, how long it took
        self._closed = False
        self._paused = False  # and a step went by since
        self._pid = os.getpid()
        # The open window's steps. The first step has a window of its own: what the initialization alone did.
        self._first, self._last = 0, 0
        self._snapshot = time.monotonic()
        self._trouble = Trouble()
        self._writer = writer = Writer(path, info, fail=self._trouble.fail, sinks=sinks)
        self._trouble.write = lambda gap: writer.add("gaps", lambda: [gap])
        writer.open_sinks()
        self._probe = Probe(model, plan, self._trouble.fail, self._trouble.note)
        if forget_programs():
            print(
                "deadneuron: what torch.compile made before is compiled anew, with the counters in it", file=sys.stderr
            )
        self._clock = Clock(optimizers, self._on_step, self._on_tick, self._trouble.fail)
        watch_scalers(self._clock)
        self._newcomers: Newcomers | None = None
        if optimizers:
            self._look_for_newcomers()
        # Dropped unclosed, with its model and optimizer (a notebook cell that is run again): the thread must end.
        self._finalizer = weakref.finalize(self, writer.close)
        self._finalizer.atexit = False
        me = weakref.ref(self)
        # A script that just ends, without `with` or close(), keeps its last window too.
        self._at_exit = partial(_close_if_alive, me)
        atexit.register(self._at_exit)
        _live.add(self)

    # ── what a user calls ────────────────────────────────────────────────────────────────────────────────────────────

    def writes(self, run: str | Path | None) -> bool:
        """Whether this monitor writes to this run folder."""
        return run is not None and Path(run).absolute() == self.path.absolute()

    @property
    def sites(self) -> tuple[Site, ...]:
        """The activation sites seen so far."""
        if not self._closed:
            self._publish_sites()
        return self._info.sites

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What could not be measured so far, and why."""
        return self._trouble.gaps

    @property
    def model(self) -> nn.Module:
        """What is watched; an empty module once it is closed."""
        return self._probe.model

    @property
    def optimizers(self) -> tuple[Any, ...]:
        """Those whose steps are counted."""
        return tuple(self._clock.optimizers)

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self._clock.step + 1

    @property
    def in_step(self) -> bool:
        """Whether a training pass of the model has begun since the last step."""
        return self._probe.ran

    def follow(self, optimizer: Any) -> None:
        """Count the steps of an optimizer that was made after `watch()`. Others are noticed at their first step."""

        def adopt() -> None:
            self._clock.adopt(steppable(optimizer))
            self._optimized = True
            self._look_for_newcomers()

        if not self._closed:
            self._trouble.guard("optimizer", adopt)

    def join_step(self) -> None:
        """Where watching began inside of a step (in its closure), count that step."""
        if not self._closed:
            self._trouble.guard("optimizer", self._clock.join)

    def log(self, loss: float | Tensor | None = None, grad_norm: float | Tensor | None = None) -> None:
        """Note the loss or gradient norm of this step. Tensors are read later, off the training thread."""
        if not self._closed:
            values: dict[str, Number] = {"loss": loss, "grad_norm": grad_norm}
            self._trouble.guard("log", lambda: self._clock.log(values, passes_since=self._probe.ran))

    def step(self, lr: float | Tensor | Sequence[float]) -> None:
        """Count one step of a loop without a torch optimizer, at this learning rate (one, or one for each group)."""
        if not self._closed:
            rates: Sequence[Number] = list(lr) if isinstance(lr, (list, tuple)) else [lr]  # type: ignore[list-item]
            if not self._optimized and len(rates) > len(self._info.groups):
                self._info = replace(self._info, groups=tuple(f"lr[{index}]" for index in range(len(rates))))
            self._trouble.guard("step", lambda: self._clock.manual(rates))

    def pause(self) -> None:
        """Stop counting until `resume()`; steps and rates go on. What is not counted is a gap."""
        self._probe.on = False

    def resume(self) -> None:
        """Count again after `pause()`."""
        self._probe.on = not self._closed
        self._paused = False

    def diagnose(self) -> Diagnosis:
        """Judge the run as it stands now: the same `Diagnosis` that a report is made of."""
        if not self._closed:
            self._take_snapshot()
            self._writer.flush()
        # By name: analysis is pandas' side of the waist, and is loaded only when somebody asks.
        run = import_module("deadneuron.frames").read_run(self.path)
        diagnosis: Diagnosis = import_module("deadneuron.analysis.diagnosis").diagnose(run)
        return diagnosis

    def close(self) -> None:
        """Remove all hooks and finish the run folder. Safe to call twice, and at any time."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        for what in (self._drain_rest, self._clock.detach, self._finish_folder):
            self._trouble.guard("close", what)
        self._trouble.guard("on_finding", self._tell)
        unwatch_scalers(self._clock)
        if self._newcomers is not None:
            self._newcomers.detach()
        self._finalizer.detach()
        self._probe.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        if kind is not None and not self._closed:
            self._info = replace(self._info, ended_by=kind.__name__)
        self.close()
        return False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"step {self._clock.step}"
        return f"<Monitor of {self._info.model}, {len(self._info.sites)} sites, {state}, writes {self.path}>"

    # ── what the clock calls ─────────────────────────────────────────────────────────────────────────────────────────

    def _on_step(self, step: int, complete: bool) -> None:
        """All passes of this step have run; with several optimizers, `complete` once all have stepped."""
        self._probe.seal(step)
        self._trouble.step = step
        if not self._probe.on and not self._paused:
            self._paused = True
            self._trouble.note("run", f"paused from step {step} on", step)
        self._trouble.guard("output", self._note_finite)
        sampling = self._info.sampling
        # The first step is drained as soon as anybody steps, so that nothing but the initialization is in it.
        if step > self._last or (step == self._last and (complete or step == 0)):
            self._refer(step)
            self._drain(step)
            # What still runs in an incomplete step belongs to the next window, which then begins with that step. (But
            # for the first step: two windows that begin with the same step would be taken for two ranks' parts of one.)
            self._first = step + 1 if complete or step == 0 else step
            self._last = ((step + 1) // sampling.window + 1) * sampling.window - 1
            self._probe.after_drain()
            self._trouble.guard("on_finding", self._look)
        elif time.monotonic() - self._snapshot > sampling.flush_seconds:
            self._take_snapshot()
        due = (step + 1) % sampling.every == 0
        self._probe.full = due if complete else due or step % sampling.every == 0

    def _look_for_newcomers(self) -> None:
        if self._newcomers is None:
            self._newcomers = Newcomers(self._probe.model, self._clock, self._trouble.note)

    def _note_finite(self) -> None:
        tick = self._clock.current
        if tick is not None:
            tick.finite = self._probe.take_finite(tick.finite)

    def _on_tick(self, tick: LiveTick) -> None:
        self._writer.add("ticks", lambda: [tick.finished()])

    # ── from the counters to the folder ──────────────────────────────────────────────────────────────────────────────

    def _refer(self, step: int) -> None:
        """Run the frozen batch through the weights that this step's forward had."""
        if self._reference is None or not self._probe.on:
            return
        try:
            with ExitStack() as stack:
                for other in _sharing(self._probe.model):
                    if other is not self:  # it is no pass of what that one watches
                        stack.enter_context(other._probe.suspended())
                self._reference.run(self._probe, step)
            self._info = replace(self._info, reference=self._reference.cost)
            self._writer.update(self._info)
        except Exception as error:  # the model does not take it: it would not the next time either
            self._reference = None
            reason = str(error).partition("\n")[0][:200]
            self._trouble.fail("reference", f"the reference batch cannot be run ({type(error).__name__}: {reason})")

    def _drain(self, step: int) -> None:
        self._publish_sites()
        self._writer.add("windows", self._packed(step))
        for pool in self._probe.pools.values():
            pool.clear()
        self._snapshot = time.monotonic()
        silence = why_silent(self._probe, began=step > 0)
        if silence:
            self._trouble.fail("run", f"no pass of the model was seen in steps {self._first}–{step}: {silence}")

    def _take_snapshot(self) -> None:
        """Hand the open window, as it stands, to the writer; nothing is cleared."""
        self._snapshot = time.monotonic()
        if self._clock.step >= self._first:
            self._publish_sites()
            self._writer.set_open(self._packed(self._clock.step))

    def _packed(self, step: int) -> Callable[[], list[Window]]:
        packs = [(pool.pack(), pool.phase) for pool in self._probe.pools.values() if pool.slots]
        two = frozenset(site.number for site in self._probe.sites if site.outputs is None)
        first, rank = self._first, self._info.rank

        def produce() -> list[Window]:
            windows = []
            for packed, phase in packs:
                windows += unpack(packed, phase=phase, rank=rank, first_step=first, last_step=step, two_histograms=two)
            return windows

        return produce

    def _drain_rest(self) -> None:
        # Training passes after the last step (a loop that broke off, a model that was never stepped) count as the next
        # step's, evaluation passes as the last one's.
        step = self._clock.step + (self._probe.dirty and self._probe.ran)
        if self._probe.dirty:
            step = max(step, self._first)
        self._probe.seal(step)
        if step >= self._first:
            self._drain(step)
        told = {gap.where for gap in self._trouble.gaps}
        for name, reason in unseen(self._probe).items():
            if name not in told:
                self._trouble.note(name, reason, 0)
        if self._clock.step < 0 and self._probe.counted >= _MANY_PASSES:
            reason = f"not one step in {self._probe.counted} passes"
            advice = "give watch() the one that trains this model, or call monitor.step()"
            self._trouble.fail("optimizer", f"{reason}: {advice}")

    def _finish_folder(self) -> None:
        self._info = replace(self._info, ended=now())
        self._writer.update(self._info)
        self._writer.close()

    def _publish_sites(self) -> None:
        """Write down sites that were first seen, or better known, since the last drain."""
        clock, info = self._clock, self._info
        groups = group_names(clock.optimizers, clock.groups) if self._optimized else info.groups
        only_group = (0,) if len(groups) == 1 else ()
        sites = write_down(self._probe.sites, info.sites, self._probe.model, clock.optimizers, clock.groups, only_group)
        if sites != info.sites or groups != info.groups:
            settings = group_settings(clock.optimizers, clock.groups) if self._optimized else info.settings
            self._info = replace(info, sites=sites, groups=groups, settings=settings)
            self._writer.update(self._info)

    def _look(self) -> None:
        """Diagnose for on_finding, as often as a small share of the time allows."""
        ended, took = self._looked
        if self._on_finding is None or time.monotonic() - ended < took / _LOOK_SHARE:
            return
        import_module("deadneuron.analysis.diagnosis")  # loading pandas is no part of what a look costs
        began = time.monotonic()
        self._tell()
        self._looked = (time.monotonic(), time.monotonic() - began)

    def _tell(self) -> None:
        """Call on_finding with what it has not been told. That a run is short yet is no news while it runs."""
        if self._on_finding is None:
            return
        for finding in self.diagnose().findings:
            key = (finding.code, finding.where)
            if key not in self._told and (self._closed or finding.code not in _NO_NEWS):
                self._told.add(key)
                self._trouble.guard("on_finding", partial(self._on_finding, finding))


def monitors_of(model: nn.Module) -> list[Monitor]:
    """The open monitors of this very model."""
    model = getattr(model, "_orig_mod", model)
    return [monitor for monitor in _live if not monitor._closed and monitor._probe.model is model]


@contextmanager
def suspended(model: nn.Module, optimizers: Sequence[Any] = ()) -> Iterator[list[Monitor]]:
    """Passes and steps in here are not the training's: no monitor of this model counts them, or misses them.

    Nor does one of a part of it, of a model that it is a part of, or one that counts steps of these optimizers. Gives
    the monitors of this very model.
    """
    stepped = {id(one) for one in optimizers}
    followed = [one for one in _live if not one._closed and any(id(own) in stepped for own in one.optimizers)]
    with ExitStack() as stack:
        for monitor in {*_sharing(model), *followed}:
            stack.enter_context(monitor._probe.suspended())
            stack.enter_context(monitor._clock.suspended())
        yield monitors_of(model)


def _sharing(model: nn.Module) -> list[Monitor]:
    """The open monitors that a pass of this model runs through: of it, of a part of it, or of what it is a part of."""
    parts = {id(part) for part in model.modules()}
    return [one for one in _live if not one._closed and any(id(part) in parts for part in one.model.modules())]


def _close_if_alive(reference: weakref.ref[Monitor]) -> None:
    monitor = reference()
    if monitor is not None:
        monitor.close()
