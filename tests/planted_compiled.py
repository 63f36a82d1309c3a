"""Planted cases under torch.compile: what is counted is what the same model gives when it is not compiled."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from planted import BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, inputs, steps
from planted_functions import SPELLINGS, Ramp, Spelled, gelu_new
from planted_loops import MASKED, REAL, Padded
from planted_peers import ROWS, TOKENS, WIDE, Checkpointed, Encoder, NormedConv, evaluate_between, without_fast_path
from planted_sharing import SECOND, ConvNeXt, Loop, Recurrent, Siamese, TiedWeight
from torch import nn
from zoo import BATCH, INPUTS, TIME, UNITS, step_once, thresholds_linear


class Backend:
    """A backend of torch.compile that counts the programs it was given."""

    def __init__(self, name: str = "eager"):
        self.compile = torch._dynamo.lookup_backend(name)
        self.programs = 0

    def __call__(self, graph, examples):
        self.programs += 1
        return self.compile(graph, examples)


class Compiling:
    """The same drive, with the model compiled as one graph."""

    def __init__(self, drive, backend="eager", **options):
        self.drive, self.name, self.options = drive, backend, {"fullgraph": True, **options}
        self.programs = 0

    def __call__(self, model, optimizer):
        torch.compiler.reset()
        backend = Backend(self.name)
        model.compile(backend=backend, **self.options)
        self.drive(model, optimizer)
        self.programs = backend.programs


def compiled(build, drive, sites, backend="eager", compile_options=None, **more):
    plain = more.pop("plain", drive)
    return Case(build, Compiling(drive, backend, **(compile_options or {})), sites, plain=plain, **more)


class Wrapped:
    """torch.compile's own wrapper, called beside the model that is watched."""

    def __init__(self, drive):
        self.drive = drive

    def __call__(self, model, optimizer):
        torch.compiler.reset()
        program = torch.compile(model, backend="eager", fullgraph=True)
        self.drive(program, optimizer)


class Stack(nn.Module):
    """Equal blocks, which share their compiled code where each is compiled by itself."""

    def __init__(self, make: Callable[[], nn.Module], depth=3):
        super().__init__()
        self.blocks = nn.ModuleList(make() for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    """Hands on what it is given."""

    def __init__(self, act):
        super().__init__()
        self.up, self.act = thresholds_linear(THRESHOLDS), act

    def forward(self, x):
        return x + 0 * self.act(self.up(x)).sum()


def block_by_block(model, optimizer):
    torch.compiler.reset()
    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)
    steps()(model, optimizer)


def halves(model, optimizer):
    """Only a part of the model is compiled."""
    torch.compiler.reset()
    model.body.compile(backend="eager", fullgraph=True)
    steps()(model, optimizer)


class Halves(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.body, self.tail, self.act = Layers(act), Layers(act), act

    def forward(self, x):
        return self.body(x) + self.tail(x)


def of_two_sizes(model, optimizer):
    for step in range(STEPS):
        step_once(model, optimizer, inputs(BATCH + 4 * (step % 2), INPUTS))


def padded(model, optimizer):
    def loop(model, optimizer, x):
        x[~REAL] = 3.0
        optimizer.zero_grad()
        model(x, REAL).square().sum().backward()
        optimizer.step()

    steps(lambda: inputs(BATCH, TIME, INPUTS), loop=loop)(model, optimizer)


BOTH = {"act": nn.ReLU(), "relu()": F.relu}
IMAGES = steps(lambda: inputs(BATCH, INPUTS, 11, 13))
SEQUENCES = steps(lambda: inputs(BATCH, 3, INPUTS))
COMPILED = {}
for name, act in BOTH.items():
    COMPILED |= {
        f"{name}": compiled(lambda act=act: Layers(act), steps(), {name: Truth(BELOW)}),
        f"{name} by aot_eager": compiled(lambda act=act: Layers(act), steps(), {name: Truth(BELOW)}, "aot_eager"),
        f"{name} shared in a loop over layers": compiled(
            lambda act=act: Loop(act),
            steps(lambda: inputs(BATCH, 5)),
            {
                f"{name}@layers.{i}": Truth(dead, turn=(i, 3))
                for i, dead in enumerate((BELOW, SECOND, set(range(UNITS))))
            },
        ),
        f"{name} behind layers of one weight": compiled(
            lambda act=act: TiedWeight(act),
            steps(),
            {f"{name}@a": Truth(BELOW, turn=(0, 2)), f"{name}@b": Truth(SECOND, turn=(1, 2))},
        ),
        f"{name} in siamese nets": compiled(
            lambda act=act: Siamese(act),
            steps(lambda: inputs(BATCH, 2, INPUTS)),
            {f"net.{name}": Truth(BELOW, rows=2 * ROWS)},
        ),
        f"{name} in a recurrent loop": compiled(
            lambda act=act: Recurrent(act, inside=False), SEQUENCES, {name: Truth(BELOW, rows=3 * ROWS)}
        ),
        f"{name} on channels last": compiled(
            lambda act=act: ConvNeXt(act), IMAGES, {name: Truth(BELOW, rows=ROWS * 11 * 13)}
        ),
        f"{name} under a mask": compiled(
            lambda act=act: Padded(act),
            padded,
            MASKED[f"mask as a name, {name}"].sites,
            options={"mask": "attention_mask"},
        ),
        f"{name} on batches of two sizes": compiled(
            lambda act=act: Layers(act), of_two_sizes, {name: Truth(BELOW, rows=ROWS + 20, n=ROWS + 20)}
        ),
        f"{name} in checkpointed segments": compiled(
            lambda act=act: Checkpointed(act, reentrant=False), steps(), {name: Truth(WIDE, 101)}, "aot_eager"
        ),
        f"{name}, in equal blocks compiled one by one": Case(
            lambda act=act: Stack(lambda: Block(act)),
            block_by_block,
            {f"blocks.{i}.{name}": Truth(BELOW) for i in range(3)}
            if name == "relu()"
            else {f"blocks.0.{name}@blocks.{i}.up": Truth(BELOW, turn=(i, 3)) for i in range(3)},
            plain=steps(),
        ),
        f"{name}, half compiled": Case(
            lambda act=act: Halves(act),
            halves,
            {"body.relu()": Truth(BELOW), "tail.relu()": Truth(BELOW)}
            if name == "relu()"
            else {f"body.act@{half}.fc": Truth(BELOW, turn=(i, 2)) for i, half in enumerate(("body", "tail"))},
            plain=steps(),
        ),
        f"{name}, by a wrapper": Case(
            lambda act=act: Layers(act), Wrapped(steps()), {name: Truth(BELOW)}, plain=steps()
        ),
    }
COMPILED |= {
    **{
        f"F spelling {number}, {name}": compiled(
            lambda function=function: Spelled(function),
            steps(),
            {f"{name}()@one": Truth(dead, turn=(0, 2)), f"{name}()@two": Truth(dead, turn=(1, 2))},
        )
        for number, (name, function, dead) in enumerate(SPELLINGS)
        if name not in ("sigmoid", "tanh", "rrelu")
    },
    "a batch norm and an in-place ReLU": compiled(
        NormedConv, IMAGES, {"relu": Truth(NormedConv.DEAD, 17, ROWS * 9 * 11, axis=1)}
    ),
    "an encoder layer": compiled(
        lambda: Encoder("gelu", dropout=0.0), TOKENS, {"layer.gelu()": Truth(Encoder.DEAD, 67, ROWS * TIME)}
    ),
    "an encoder layer, trained and evaluated": compiled(
        lambda: Encoder(dropout=0.0),
        evaluate_between,
        {"layer.relu()": Truth(Encoder.DEAD, 67, ROWS * TIME)},
        evals={"layer.relu()": Truth(Encoder.DEAD, 67, 2 * ROWS * TIME, 2 * ROWS)},
        options={"phases": ("train", "eval")},
        plain=without_fast_path(evaluate_between),
    ),
    "a custom activation": compiled(
        lambda: Layers(Ramp()), steps(), {"act": Truth(BELOW)}, options={"activations": {"Ramp": None}}
    ),
    "tanh is named as a gap": compiled(
        lambda: Layers(lambda x: F.relu(x) + torch.tanh(x)),
        steps(),
        {"relu()": Truth(BELOW)},
        gaps={"tanh()": "in compiled code"},
        unmeasured=frozenset({("", "tanh")}),
    ),
    "gelu_new inline is named as a gap": compiled(
        lambda: Layers(lambda x: F.relu(x) + gelu_new(x)),
        steps(),
        {"relu()": Truth(BELOW)},
        gaps={"tanh()": "in compiled code"},
        unmeasured=frozenset({("", "tanh")}),
    ),
    "by inductor": compiled(
        lambda: Halves(F.relu), steps(), {"body.relu()": Truth(BELOW), "tail.relu()": Truth(BELOW)}, "inductor"
    ),
}


# ── programs that were compiled, and called, before anybody watched the model ────────────────────────────────────────

WAYS = {
    "model.compile()": lambda model, how: model.compile(**how) or model,
    "torch.compile(model)": lambda model, how: torch.compile(model, **how),
    "a compiled function": lambda model, how: torch.compile(lambda x: 1 * model(x), **how),
    "a compiled model around it": lambda model, how: torch.compile(nn.Sequential(model, nn.Identity()), **how),
}


class Before:
    def __init__(self, build, way):
        self.make, self.way = build, way

    def __call__(self):
        torch.compiler.reset()
        model = self.make()
        program = self.way(model, {"backend": "eager", "fullgraph": True})
        vars(model)["program"] = lambda x: program(x)  # no child: it is the model itself
        program(inputs()).sum().backward()
        model.zero_grad()
        return model


def through_its_program(model, optimizer):
    program = vars(model)["program"]
    for _ in range(STEPS):
        optimizer.zero_grad()
        program(inputs()).square().sum().backward()
        optimizer.step()


def not_compiled(model, optimizer):
    model._compiled_call_impl = None
    steps()(model, optimizer)


def in_a_row():
    return nn.Sequential(thresholds_linear(THRESHOLDS), nn.ReLU(), nn.Linear(UNITS, 2))


ALREADY = {
    f"{name}, {way}": Case(Before(build, WAYS[way]), through_its_program, {site: Truth(BELOW)}, plain=not_compiled)
    for name, site, build in (
        ("a module", "act", lambda: Layers(nn.ReLU())),
        ("a function", "relu()", lambda: Layers(F.relu)),
        ("nn.Sequential", "1", in_a_row),
    )
    for way in WAYS
    if (name, way) != ("nn.Sequential", "model.compile()")  # torch refuses: "no compiled frames"
}
