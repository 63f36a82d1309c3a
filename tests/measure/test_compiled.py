"""Compiled models: one graph as before, counted to the row, and left alone afterwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint
from watching import added_up, frozen_sgd
from zoo import INPUTS, NEVER, step_once, thresholds_linear

import deadneuron
from deadneuron.errors import DeadneuronWarning
from deadneuron.measure import compiled

pytestmark = [
    # Torch's own, where it traces a tensor that is no leaf, and where it exports or loads inductor.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
BACKENDS = ["eager", "aot_eager"]
BATCHES = (17, 19, 17, 23, 29)  # the second size makes torch.compile take the batch size for a symbol
FIRST, SECOND = [-9.0, NEVER, 0.0], [NEVER, 0.5, -9.0]


class Block(nn.Module):
    """A module and a function, the second in front of dropout; in a checkpoint if it is told so."""

    def __init__(self, checkpointed=False):
        super().__init__()
        self.fc1, self.act, self.fc2 = thresholds_linear(FIRST, 3), nn.ReLU(inplace=True), thresholds_linear(SECOND, 3)
        self.checkpointed = checkpointed

    def inner(self, x):
        return F.dropout(F.relu(self.fc2(self.act(self.fc1(x)))), 0.1, self.training)

    def forward(self, x):
        return x + (checkpoint(self.inner, x, use_reentrant=False) if self.checkpointed else self.inner(x))


class Tower(nn.Module):
    def __init__(self, checkpointed=False):
        super().__init__()
        self.blocks = nn.ModuleList(Block(checkpointed) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def by_blocks(model, backend):
    for block in model.blocks:
        block.compile(backend=backend, fullgraph=True)
    return model


def in_a_step(model, backend):
    return torch.compile(lambda x: model(x), backend=backend, fullgraph=True)


WAYS = {
    "the model": lambda model, backend: torch.compile(model, backend=backend, fullgraph=True),
    "each block": by_blocks,
    "a function that calls the model": in_a_step,
}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()


def graphs():
    assert not torch._dynamo.utils.counters["graph_break"]
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def steps(called, model, optimizer):
    generator = torch.Generator().manual_seed(7)  # of its own: compiled dropout may draw otherwise
    for size in BATCHES:
        step_once(called, optimizer, torch.randn(size, INPUTS, generator=generator))
    return [parameter.detach().clone() for parameter in model.parameters()]


def summary(run):
    """What was counted, without what full statistics and rounding are made of."""
    stored = added_up(run)
    names = {site.number: site for site in stored.info.sites}
    return {
        (names[w.site].name, names[w.site].feeder): (w.rows, w.samples, w.sampled_rows, w.active.tolist())
        for w in stored.windows
    }


def watched(run, way, backend, checkpointed, *, again=False):
    model = Tower(checkpointed)
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, every=2) as monitor:
        called = WAYS[way](model, backend) if way else model
        steps(called, model, optimizer)
    assert monitor.gaps == ()
    if again:
        steps(called, model, optimizer)
    return summary(run)


@pytest.mark.parametrize("checkpointed", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_model_is_counted_as_it_is_uncompiled(way, backend, checkpointed, run):
    counted = watched(run / "compiled", way, backend, checkpointed)
    assert counted == watched(run / "plain", None, None, checkpointed)
    assert [key for key in counted if key[0].startswith("blocks.1")] == [
        ("blocks.1.act", "blocks.1.fc1.bias"),
        ("blocks.1.relu()", "blocks.1.fc2.bias"),
    ]
    rows, samples, _, active = counted["blocks.0.act", "blocks.0.fc1.bias"]
    assert (rows, samples) == (sum(BATCHES), sum(BATCHES))
    assert [unit for unit, count in enumerate(active) if not count] == [1]


@pytest.mark.parametrize("way", WAYS)
def test_watching_makes_no_further_graph(way, run):
    model = Tower()
    steps(WAYS[way](model, "aot_eager"), model, frozen_sgd(model))
    plain = graphs()
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    watched(run, way, "aot_eager", False)
    assert graphs() == plain


def test_inductor_counts_the_same(run):
    assert watched(run / "compiled", "the model", "inductor", False) == watched(run / "plain", None, None, False)


@pytest.mark.parametrize("given", ["the model", "what torch.compile made of it"])
def test_a_program_that_was_compiled_before_is_compiled_anew(given, run, capfd):
    model = Tower()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    optimizer = frozen_sgd(model)
    steps(compiled, model, optimizer)
    with deadneuron.watch(model if given == "the model" else compiled, optimizer, run, every=2) as monitor:
        steps(compiled, model, optimizer)
    assert monitor.gaps == ()
    assert summary(run).keys() == watched(run.parent / "plain", None, None, False).keys()
    assert "compiled anew" in capfd.readouterr().err


def test_nothing_is_said_of_programs_where_there_were_none(run, capfd):
    watched(run, None, None, False)
    assert capfd.readouterr().err == ""


def test_the_compiled_program_lives_on_when_the_monitor_is_closed(run):
    before = watched(run / "first", "the model", "aot_eager", False)
    assert watched(run / "second", "the model", "aot_eager", False, again=True) == before


def test_an_unwatched_copy_with_the_same_code_is_not_counted(run):
    model, twin = Tower(), Tower()
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, every=2):
        steps(torch.compile(model, backend="aot_eager", fullgraph=True), model, optimizer)
        steps(torch.compile(twin, backend="aot_eager", fullgraph=True), twin, frozen_sgd(twin))
    assert summary(run) == watched(run.parent / "plain", None, None, False)


def test_a_functional_sigmoid_in_a_compiled_program_is_a_gap(run):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(INPUTS, 5)

        def forward(self, x):
            h = self.fc(x)
            return h * torch.sigmoid(h)

    model = Gated()
    with deadneuron.watch(model, None, run) as monitor:
        torch.compile(model, backend="aot_eager", fullgraph=True)(torch.randn(7, INPUTS))
    assert [(gap.where, gap.reason) for gap in monitor.gaps] == [
        ("sigmoid()", "in compiled code it is not told from a part of a formula")
    ]
    assert monitor.sites == ()


def test_what_is_exported_is_free_of_operators_of_ours(run):
    model = Tower().eval()
    with deadneuron.watch(model, None, run, phases="eval"):
        exported = torch.export.export(model, (torch.randn(7, INPUTS),))
        traced = torch.jit.trace(model, (torch.randn(7, INPUTS),), check_trace=False)
    assert "deadneuron" not in str(exported.graph)
    assert "deadneuron" not in str(traced.inlined_graph)


def test_code_that_was_compiled_for_an_unwatched_twin_does_not_make_the_monitor_blind(run):
    def layers():
        return nn.Sequential(thresholds_linear(FIRST, 3), nn.ReLU(), nn.Linear(3, 2))

    model, twin = layers(), layers()
    optimizer = frozen_sgd(model)
    with deadneuron.watch(model, optimizer, run, every=2) as monitor:
        torch._dynamo.config.skip_nnmodule_hook_guards = True  # as where torch.compile is first used after watch()
        steps(torch.compile(twin, backend="aot_eager", fullgraph=True), twin, frozen_sgd(twin))
        with pytest.warns(DeadneuronWarning, match="compiled anew"):
            steps(torch.compile(model, backend="aot_eager", fullgraph=True), model, optimizer)
    assert [gap.where for gap in monitor.gaps] == ["run"]
    (counted,) = summary(run).values()
    assert counted[0] == sum(BATCHES[1:]), "all but the first pass"
    assert counted[3][1] == 0


def test_turns_with_an_unwatched_twin_leave_nothing_unseen(run):
    model, twin = Tower(), Tower()
    optimizer = frozen_sgd(model)
    called, other = (torch.compile(one, backend="aot_eager", fullgraph=True) for one in (model, twin))
    with deadneuron.watch(model, optimizer, run, every=2) as monitor:
        for _ in range(3):
            steps(other, twin, frozen_sgd(twin))
            steps(called, model, optimizer)
    assert monitor.gaps == ()
    assert {rows for rows, *_ in summary(run).values()} == {3 * sum(BATCHES)}


def test_what_torch_compile_is_asked_for_is_asked_no_longer_after_close(run):
    assert torch._dynamo.config.skip_nnmodule_hook_guards
    watched(run, "the model", "eager", False)
    assert torch._dynamo.config.skip_nnmodule_hook_guards


def test_a_transform_of_torch_func_inside_a_compiled_program_goes_on_uncounted(run):
    model = Tower()
    optimizer = frozen_sgd(model)
    x = torch.randn(7, INPUTS)
    called = torch.compile(lambda x: torch.func.jvp(model.eval(), (x,), (x,))[1], backend="aot_eager", fullgraph=True)
    with deadneuron.watch(model, optimizer, run, phases="eval") as monitor:
        with pytest.warns(DeadneuronWarning, match=r"torch\.func"):
            called(x)
        model(x)
    assert [gap.where for gap in monitor.gaps] == ["torch.func"]
    assert {rows for rows, *_ in summary(run).values()} == {7}


def test_compiled_code_that_calls_no_hooks_is_dropped_once_and_not_in_every_window(run, monkeypatch):
    dropped = []
    monkeypatch.setattr(compiled, "forget_programs", lambda: not dropped.append(1))
    model = Tower()
    with deadneuron.watch(model, None, run) as monitor:
        dropped.clear()  # what attaching dropped is another matter
        with pytest.warns(DeadneuronWarning):
            monitor.step(lr=0.1)
        for _ in range(199):  # five windows in all
            monitor.step(lr=0.1)
    assert dropped == [1]
    assert [gap.reason.partition(": ")[2] for gap in monitor.gaps if gap.where == "run"][:2] == [
        "what torch.compile made is compiled anew, with the counters in it",
        "its hooks are not called",
    ]
