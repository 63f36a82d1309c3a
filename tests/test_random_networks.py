"""Random networks, trained under the monitor: every site's counts are those of the oracle, and nothing else changes.

The networks are `growing`'s, which knows every site before it runs. The oracle listens to the unwatched twin.

python tests/test_random_networks.py 500      draws that many anew
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from growing import BATCHES, INPUTS, NORMS, SHAPES, WIDTHS, Net, Place, Plan, Spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Call, Oracle, counts
from phrases import SPELLINGS
from torch import nn

import deadneuron
from deadneuron.records import PHASES
from deadneuron.store.reader import read_folder

# ── what is drawn ────────────────────────────────────────────────────────────────────────────────────────────────────

FUNCTIONS = [name for name, spelling in SPELLINGS.items() if spelling.module is None]
MODULES = [name for name, spelling in SPELLINGS.items() if spelling.module is not None]


@st.composite
def specs(draw, layout: str, inputs: int, shared: str) -> Spec:
    width = draw(st.sampled_from(WIDTHS))
    is_shared = draw(st.booleans()) and bool(shared)
    spelling = shared if is_shared else draw(st.sampled_from([*SPELLINGS]))
    recurrent = layout == "tokens" and draw(st.booleans())
    if recurrent:
        norm = residual = dropout = pool = ""
        layers = rounds = 1
    else:
        norm = draw(st.sampled_from(NORMS[layout]))
        residual = draw(st.sampled_from(["", "before", "after"])) if width == inputs else ""
        # Behind a dropout the layer could be farther from the sum than what the residual branch begins with.
        dropout = draw(st.sampled_from(["", "", "after"] + ["before"] * (residual != "before")))
        layers = draw(st.integers(1, 3))
        rounds = draw(st.integers(1, 2)) if width == inputs else 1
        pools = layout in ("sequences", "images") and residual == "" and layers * rounds == 1
        pool = draw(st.sampled_from(["", "before", "after"])) if pools else ""
    # Without a graph an activation is told by the layer that ran last, which must then be what feeds it.
    alone = not (recurrent or "before" in (residual, dropout, pool) or (layout == "nhwc" and not norm))
    ways = ["", "", *["reentrant"] * alone]
    if spelling != "nn.RReLU":  # torch repeats its noise in this checkpoint only by chance
        ways.append("other")
    return Spec(
        spelling=spelling,
        width=width,
        layers=layers,
        rounds=rounds,
        norm=norm,
        bias=draw(st.booleans()),
        residual=residual,
        dropout=dropout,
        pool=pool,
        checkpoint=draw(st.sampled_from(ways)),
        recurrent=recurrent,
        shared=is_shared,
        frozen=residual != "before" and draw(st.integers(0, 5)) == 5,
        dead=draw(st.integers(0, 2)),
    )


@st.composite
def plans(draw, backends: tuple[str, ...] = ("",)) -> Plan:
    backend = draw(st.sampled_from(backends))
    layout = draw(st.sampled_from([*SHAPES]))
    shared = draw(st.sampled_from(["", *MODULES]))
    blocks: list[Spec] = []
    for _ in range(draw(st.integers(1, 4))):
        blocks.append(draw(specs(layout, blocks[-1].width if blocks else WIDTHS[0], shared)))
    if backend:  # what torch's own compiled checkpoint does not repeat
        blocks = [replace(b, checkpoint="") if b.dropout or b.norm == "batch" else b for b in blocks]
    graphless = not any(b.recurrent or "before" in (b.residual, b.dropout, b.pool) for b in blocks) and layout != "nhwc"
    return Plan(
        layout=layout,
        channels_last=layout == "images" and draw(st.booleans()),
        dtype=draw(st.sampled_from(["float32", "float64", "bfloat16"])),
        stem=draw(st.sampled_from(["", *FUNCTIONS])),
        blocks=tuple(blocks),
        batches=tuple(draw(st.lists(st.sampled_from(BATCHES), min_size=3, max_size=7))),
        accumulate=draw(st.integers(1, 2)),
        evaluate=draw(st.sampled_from(["", "after", "first"] if graphless else ["", "after"])),
        inference=draw(st.booleans()),
        compile=backend,
    )


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Trained:
    """What a training leaves behind, and what the oracle heard in it."""

    losses: list[float] = field(default_factory=list)
    weights: dict[str, bytes] = field(default_factory=dict)
    passes: list[tuple[str, int, list[Call]]] = field(default_factory=list)  # phase, examples, calls


def train(model: Net, call: nn.Module, plan: Plan, listen: bool, run: Path | None) -> tuple[Trained, list]:
    """Train `model` by calling `call` (the model itself, or a compiled one); the gaps are the monitor's."""
    torch.manual_seed(17)
    trained = Trained()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    monitor = deadneuron.watch(model, optimizer, run, every=2, phases=PHASES) if run is not None else None
    for step, examples in enumerate(plan.batches):
        if plan.evaluate == "first" or (plan.evaluate == "after" and step):
            model.eval()
            with torch.inference_mode() if plan.inference else torch.no_grad():
                forward(model, call, plan, examples, listen, trained)
            model.train()
        optimizer.zero_grad()
        for _ in range(plan.accumulate):
            loss = forward(model, call, plan, examples, listen, trained)
            loss.backward()
            trained.losses.append(loss.item())
        optimizer.step()
    trained.weights = {name: t.contiguous().numpy().tobytes() for name, t in model.state_dict().items()}
    if monitor is not None:
        monitor.close()
    return trained, list(monitor.gaps) if monitor is not None else []


def forward(model: Net, call: nn.Module, plan: Plan, examples: int, listen: bool, trained: Trained) -> torch.Tensor:
    inner = SHAPES[plan.layout]
    size = (examples, *inner, INPUTS) if plan.layout == "tokens" else (examples, INPUTS, *inner)
    x = torch.randn(size, dtype=torch.float64 if plan.dtype == "float64" else torch.float32)
    x = x.to(memory_format=torch.channels_last) if plan.channels_last else x
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.dtype == "bfloat16"):
        if not listen:
            return call(x).float().square().mean()
        with Oracle(model) as oracle:
            loss = call(x).float().square().mean()
    assert oracle.opaque == []
    trained.passes.append(("train" if model.training else "eval", examples, oracle.calls))
    return loss


def grown(plan: Plan) -> Net:
    torch.manual_seed(3)
    model = Net(plan)
    if plan.dtype == "float64":
        model = model.double()
    return model.to(memory_format=torch.channels_last) if plan.channels_last else model


# ── what must be ─────────────────────────────────────────────────────────────────────────────────────────────────────


def check(plan: Plan, run: Path) -> None:
    model = grown(plan)
    twin, third = deepcopy(model), deepcopy(model)
    places = model.places()
    truth, _ = train(twin, twin, plan, True, None)
    if plan.compile:
        torch._dynamo.reset()
        plain, _ = train(third, torch.compile(third, backend=plan.compile), plan, False, None)
        torch._dynamo.reset()
        watched, gaps = train(model, torch.compile(model, backend=plan.compile), plan, False, run)
    else:
        plain = truth
        watched, gaps = train(model, model, plan, False, run)
    assert repr(watched.losses) == repr(plain.losses)
    assert watched.weights == plain.weights
    assert repr(plain.losses) == repr(truth.losses)
    heard = heard_at(places, truth)
    stored = read_folder(run)
    by_tap: dict[str, list[Place]] = {}
    for place in dict.fromkeys(places):
        by_tap.setdefault(place.tap, []).append(place)
    named = {gap.where for gap in gaps}
    excused: set[str] = set()
    assert {site.module for site in stored.info.sites} <= set(by_tap)
    for tap, expected in by_tap.items():
        sites = sorted((site for site in stored.info.sites if site.module == tap), key=lambda site: site.call)
        missing = [place for place in expected if untold(place, plan)]
        if missing and not sites:
            assert missing[0].gap in named
            excused.add(missing[0].gap)
            continue
        assert len(sites) == len(expected), (tap, [s.feeder for s in sites])
        for site, place in zip(sites, expected, strict=True):
            if not (plan.compile or place.graphless):
                assert site.feeder == place.feeder
            assert (site.unit_axis, site.source) == (place.axis, "function" if "(" in tap else "module")
            for phase in PHASES:
                windows = [w for w in stored.windows if (w.site, w.phase) == (site.number, phase)]
                compare(site, place, phase, windows, heard[place])
    assert named == excused, gaps


def untold(place: Place, plan: Plan) -> bool:
    """Whether this may be no more than a gap: a sigmoid without a graph, or in compiled code."""
    return (place.spelling.unsure and place.graphless) or (bool(plan.compile) and place.spelling.eager)


def heard_at(places: list[Place], truth: Trained) -> dict[Place, list[tuple[str, int, int, Call]]]:
    """The oracle's calls at each place: (phase, pass, examples, call). Each belongs to exactly one."""
    heard: dict[Place, list[tuple[str, int, int, Call]]] = {place: [] for place in places}
    for number, (phase, examples, calls) in enumerate(truth.passes):
        assert len(calls) == len(places)
        for place, call in zip(places, calls, strict=True):
            assert call.op == place.spelling.op
            assert call.module == (place.heard_in if place.heard_in is not None else f"<{call.kind}>")
            heard[place].append((phase, number, examples, call))
    return heard


def compare(site, place: Place, phase: str, windows, heard) -> None:
    calls = [(number, examples, call) for its, number, examples, call in heard if its == phase]
    assert sum(w.rows for w in windows) == sum(c.x.numel() // c.x.shape[place.axis] for _, _, c in calls)
    assert sum(w.samples for w in windows) == sum({number: examples for number, examples, _ in calls}.values())
    gate = tuple(end if math.isinf(end) else place.spelling.bend(end) for end in site.gate)
    expected = Counter()
    for _, _, call in calls:
        expected.update(dict(enumerate(counts(call, place.axis, gate))))
    active = sum((w.active for w in windows), start=0)
    assert list(active) == [expected[unit] for unit in range(site.units)] if windows else not calls
    assert all(active[unit] == 0 for unit in range(place.dead)) if windows else True


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans())
def test_every_site_of_a_random_network_counts_what_the_oracle_heard(plan, tmp_path_factory):
    check(plan, tmp_path_factory.mktemp("grown") / "run")


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(backends=("eager", "aot_eager")))
def test_a_random_network_that_is_compiled_counts_the_same(plan, tmp_path_factory):
    check(plan, tmp_path_factory.mktemp("grown") / "run")


if __name__ == "__main__":
    backends = sys.argv[2:] or ("",)

    @settings(max_examples=int(sys.argv[1]), deadline=None, database=None, print_blob=False)
    @given(plan=plans(backends=tuple(backends)))
    def draw_anew(plan: Plan) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(plan, Path(folder) / "run")

    torch.set_num_threads(1)
    draw_anew()
