"""What a monitor leaves behind: nothing on the model, nothing on torch's stacks, nothing in memory."""

from __future__ import annotations

import copy
import gc
import tracemalloc
import types
import weakref

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from loops import batch, mlp, sgd
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from zoo import BATCH, INPUTS, UNITS, hooks_of, step_once

import deadneuron
from deadneuron.measure import compiled
from deadneuron.store.reader import read_folder


def depth():
    """How many function modes are on this thread's stack."""
    return torch._C._len_torch_function_stack()


class Throws(nn.Module):
    """All kinds of functional activations; raises in the one that it is told to."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, UNITS), nn.Linear(UNITS, UNITS)
        self.fourth, self.act, self.out = nn.Linear(UNITS, UNITS), nn.ReLU(), nn.Linear(UNITS, 1)
        self.error, self.where = None, ""

    def forward(self, x):
        h = self.act(self.first(x))
        h = self.second(h)
        h = h * torch.sigmoid(1.702 * h)
        if self.error is not None and self.where == "between":
            raise self.error
        h = torch.sigmoid(self.third(h))  # waits for what becomes of it
        if self.error is not None and self.where == "waiting":
            raise self.error
        return self.out(F.relu(self.fourth(h)))


class Shouting(TorchFunctionMode):
    """A user's mode that raises in the middle of an activation."""

    error: BaseException | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if self.error is not None and func in (F.relu, torch.sigmoid):
            raise self.error
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def clean_stack():
    assert depth() == 0
    yield
    assert depth() == 0


# ── after an exception ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine")], ids=["exception", "interrupt"])
@pytest.mark.parametrize("where", ["between", "waiting"])
def test_what_is_raised_in_forward_leaves_no_mode_and_the_next_pass_counts(where, error, run):
    model = Throws()
    before, attributes = hooks_of(model), copy.copy(vars(model))
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        step_once(model, optimizer, batch())
        model.error, model.where = error, where
        with pytest.raises(type(error), match="mine"):
            model(batch())
        model.error = None
        step_once(model, optimizer, batch())
        step_once(model, optimizer, batch())
        assert depth() == 0
        assert len(monitor.sites) == 4
        assert monitor.gaps == ()
    assert hooks_of(model) == before
    assert set(vars(model)) == set(attributes)
    rows = {site.name: 0 for site in monitor.sites}
    for window in read_folder(run).windows:
        rows[monitor.sites[window.site].name] += window.rows
    assert rows["act"] == 4 * BATCH
    assert rows["relu()"] == 3 * BATCH


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_midst_of_a_functional_activation_leaves_nothing(error, run):
    model, mode = Throws(), Shouting()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, optimizer, run)
    with mode:
        step_once(model, optimizer, batch())
        mode.error = error("mine")
        with pytest.raises(error):
            model(batch())
        mode.error = None
        monitor.close()
        assert depth() == 1
    assert not any("hooks" in name and value for name, value in vars(model).items())


def test_an_interrupt_that_skips_all_hooks_leaves_no_mode_after_the_next_step_or_close(run, monkeypatch):
    model = Throws()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, optimizer, run)
    model.error, model.where = KeyboardInterrupt(), "waiting"
    # What torch does where the interrupt comes in its own code, after the hooks before forward.
    monkeypatch.setattr(type(model), "forward", lambda self, x: interrupted(monitor))
    with pytest.raises(KeyboardInterrupt):
        model(batch())
    monkeypatch.undo()
    model.error = None
    monitor.close()
    assert depth() == 0
    model(batch())


def interrupted(monitor):
    monitor._probe.mode.put_on()
    raise KeyboardInterrupt


# ── beside the modes of others ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", ["the monitor", "the user"])
@pytest.mark.parametrize("mode", [Shouting, lambda: torch.device("cpu")], ids=["mode", "device"])
def test_modes_are_taken_off_in_any_order(mode, first, run):
    model = Throws()
    optimizer = sgd(model)
    mode = mode()
    mode.__enter__()
    monitor = deadneuron.watch(model, optimizer, run)
    step_once(model, optimizer, batch())
    if first == "the monitor":
        monitor.close()
        mode.__exit__(None, None, None)
    else:
        mode.__exit__(None, None, None)
        monitor.close()
    assert depth() == 0
    assert len(monitor.sites) == 4


@pytest.mark.parametrize("closes", ["inside", "after"])
def test_a_mode_that_the_model_itself_leaves_on_stays_and_ours_goes(closes, run):
    class Careless(Throws):
        def forward(self, x):
            self.mode = Shouting()
            self.mode.__enter__()
            if closes == "inside":
                monitor.close()
            return super().forward(x)

    model = Careless()
    optimizer = sgd(model)
    monitor = deadneuron.watch(model, optimizer, run)
    model(batch())
    assert depth() == 1
    model.mode.__exit__(None, None, None)
    monitor.close()


def test_an_exception_in_a_checkpointed_segment_leaves_nothing(run):
    class Segments(Throws):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    model = Segments()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, run) as monitor:
        step_once(model, optimizer, batch())
        model.error, model.where = ValueError("mine"), "waiting"
        with pytest.raises(ValueError, match="mine"):
            model(batch())
        model.error = None
        step_once(model, optimizer, batch())
    assert monitor.gaps == ()


@pytest.mark.parametrize("where", ["while it is traced", "while it runs"])
def test_an_exception_in_a_compiled_model_leaves_nothing(where, run):
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, 1)

        def forward(self, x):
            h = F.relu(self.first(x))
            if where == "while it is traced" and x.shape[0] == 2:
                raise ValueError("mine")
            return self.second(h)

    torch._dynamo.reset()
    model = Chooses()
    optimizer = sgd(model)
    call = torch.compile(model, backend="eager")
    with deadneuron.watch(model, optimizer, run) as monitor:
        for _ in range(3):
            call(batch()).sum().backward()
            optimizer.step()
        wrong = torch.randn(2, INPUTS) if where == "while it is traced" else torch.randn(BATCH, INPUTS + 1)
        with pytest.raises(Exception):  # noqa: B017, PT011 whatever torch makes of it
            call(wrong)
        assert depth() == 0
        call(batch()).sum().backward()
        optimizer.step()
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert len(monitor.sites) == 1
    torch._dynamo.reset()


# ── in the middle of a step ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_monitor_that_is_closed_while_its_optimizer_steps_leaves_no_hook(run):
    model = mlp()
    optimizer = sgd(model)
    before = hooks_of(model, optimizer)
    monitor = deadneuron.watch(model, optimizer, run)
    count, after = monitor._clock.on_step, []
    monitor._clock.on_step = lambda *step: (count(*step), monitor.close())
    mine = optimizer.register_step_pre_hook(lambda *args: after.append(1))
    step_once(model, optimizer, batch())
    mine.remove()
    assert after == [1]
    assert hooks_of(model, optimizer) == before
    assert monitor.gaps == ()


def test_a_monitor_that_was_dropped_does_not_break_the_steps_of_the_next(run, tmp_path):
    before = set(_global_optimizer_pre_hooks)
    old = mlp()
    deadneuron.watch(old, sgd(old), run)
    model = mlp()
    optimizer = sgd(model)
    with deadneuron.watch(model, optimizer, tmp_path / "next"):
        del old
        gc.collect()
        step_once(model, optimizer, batch())
        step_once(model, optimizer, batch())
    deadneuron.watch(model, optimizer, tmp_path / "last").close()
    assert set(_global_optimizer_pre_hooks) <= before


# ── in memory ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ends", ["after a step", "after an exception", "compiled"])
def test_a_closed_monitor_holds_no_tensor_of_the_model_and_not_the_model(ends, run):
    gc.collect()
    before = set(compiled._owners)
    model = Throws()
    optimizer = sgd(model)
    call = torch.compile(model, backend="eager") if ends == "compiled" else model
    monitor = deadneuron.watch(model, optimizer, run)
    x = batch()
    call(x).sum().backward()
    optimizer.step()
    if ends == "after an exception":
        model.error, model.where = ValueError(), "waiting"
        with pytest.raises(ValueError):  # noqa: PT011
            model(x)
    monitor.close()
    gone = [weakref.ref(thing) for thing in (model, optimizer, x, *model.parameters(), monitor._probe)]
    # What is left are the numbers by which compiled code finds what counts, which is gone.
    assert all(t.numel() == 1 and t.dtype == torch.int64 for t in tensors_behind(monitor))
    model.error = None
    assert monitor.sites
    del model, optimizer, x, call, monitor
    torch._dynamo.reset()
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)
    assert set(compiled._owners) <= before


def tensors_behind(thing):
    """All tensors that anything reachable from `thing` holds, code and modules of Python left out."""
    found, seen, queue = [], {id(thing)}, [thing]
    while queue:
        for next_one in gc.get_referents(queue.pop()):
            if id(next_one) in seen or isinstance(next_one, (types.ModuleType, types.FunctionType, type)):
                continue
            seen.add(id(next_one))
            (found if isinstance(next_one, torch.Tensor) else queue).append(next_one)
    return found


def test_memory_stays_flat_while_it_watches(run):
    model = Throws()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with deadneuron.watch(model, optimizer, run, every=10) as monitor:
        objects, memory = [], []
        tracemalloc.start()
        try:
            for step in range(2_000):
                step_once(model, optimizer, batch())
                if step % 500 == 499:
                    monitor._writer.flush()  # what waits for its next turn, seconds away, is no leak
                    gc.collect()
                    objects.append(len(gc.get_objects()))
                    memory.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert objects[-1] - objects[1] < 200
    assert memory[-1] - memory[1] < 100_000
