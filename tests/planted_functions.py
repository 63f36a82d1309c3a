"""Planted cases: every spelling of an activation by a function, formulas made of several, and what only looks alike."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from planted import ABOVE, BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, inputs, steps
from torch import nn
from zoo import BATCH, INPUTS, TIME, UNITS, thresholds_linear

ZERO = torch.tensor(0.0)
BOTH = BELOW | ABOVE
SLOPE = torch.tensor([0.25])
# (what its site is called, what it is, its dead units)
SPELLINGS = [
    ("relu", F.relu, BELOW),
    ("relu", torch.relu, BELOW),
    ("relu", lambda x: x.relu(), BELOW),
    ("relu", torch.relu_, BELOW),
    ("relu", lambda x: x.relu_(), BELOW),
    ("relu", lambda x: F.relu(x, inplace=True), BELOW),
    ("relu", lambda x: x.clamp(min=0), BELOW),
    ("relu", lambda x: torch.clamp(x, 0.0), BELOW),
    ("relu", lambda x: x.clamp_(min=0), BELOW),
    ("relu", lambda x: x.clip(min=0), BELOW),
    ("relu", lambda x: x.clamp_min(0), BELOW),
    ("relu", lambda x: torch.clamp_min(x, 0.0), BELOW),
    ("relu", lambda x: torch.maximum(x, ZERO), BELOW),
    ("relu", lambda x: torch.maximum(torch.zeros_like(x), x), BELOW),
    ("relu", lambda x: torch.max(x, ZERO), BELOW),
    ("relu", lambda x: torch.max(x, torch.zeros_like(x)), BELOW),
    ("relu", lambda x: x.max(torch.zeros_like(x)), BELOW),
    ("relu", lambda x: x.clamp(min=torch.zeros_like(x)), BELOW),
    ("relu", lambda x: torch.clamp_min(x, ZERO), BELOW),
    ("relu6", F.relu6, BOTH),
    ("relu6", lambda x: F.relu6(x, inplace=True), BOTH),
    ("hardtanh", F.hardtanh, BOTH),
    ("hardtanh", lambda x: F.hardtanh(x, inplace=True), BOTH),
    ("leaky_relu", F.leaky_relu, set()),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.2, inplace=True), set()),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.0), BELOW),
    ("prelu", lambda x: F.prelu(x, SLOPE), set()),
    ("prelu", lambda x: torch.prelu(x, SLOPE * 0), BELOW),
    ("rrelu", F.rrelu, set()),
    ("rrelu", lambda x: F.rrelu(x, training=True), set()),
    ("gelu", F.gelu, BELOW),
    ("silu", F.silu, BELOW),
    ("silu", lambda x: F.silu(x, inplace=True), BELOW),
    ("mish", F.mish, BELOW),
    ("elu", F.elu, BELOW),
    ("selu", F.selu, BELOW),
    ("celu", F.celu, BELOW),
    ("softplus", F.softplus, BELOW),
    ("threshold", lambda x: F.threshold(x, 0.1, 0.0), BELOW),
    ("hardswish", F.hardswish, BELOW),
    ("hardsigmoid", F.hardsigmoid, BOTH),
    ("tanh", torch.tanh, BOTH),
    ("tanh", lambda x: x.tanh(), BOTH),
    ("tanh", F.tanh, BOTH),
    ("tanh", lambda x: x.tanh_(), BOTH),
    ("sigmoid", torch.sigmoid, BOTH),
    ("sigmoid", lambda x: x.sigmoid(), BOTH),
    ("sigmoid", F.sigmoid, BOTH),
    ("logsigmoid", F.logsigmoid, ABOVE),
]


class Spelled(nn.Module):
    """Two layers with planted units behind each other, each with the same function; the second sees no sign of dead."""

    def __init__(self, function):
        super().__init__()
        self.one, self.two = thresholds_linear(THRESHOLDS), thresholds_linear(THRESHOLDS)
        self.head = nn.Linear(UNITS, 2)
        self.function = function

    def forward(self, x):
        return self.head(self.function(self.one(x)) + self.function(self.two(-x)))


def spelled(name, function, dead, op=None):
    sites = {
        f"{name}()@one": Truth(dead, op=op, turn=(0, 2)),
        f"{name}()@two": Truth(dead, op=op, turn=(1, 2)),
    }
    return Case(lambda: Spelled(function), steps(), sites)


SPELLED = {
    **{f"{name} {number}": spelled(name, f, dead) for number, (name, f, dead) in enumerate(SPELLINGS)},
    "gelu by tanh": spelled("gelu", lambda x: F.gelu(x, approximate="tanh"), BELOW, "gelu_tanh"),
}


# ── formulas ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def gelu_new(x):
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def inside_gelu(x):
    return math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)


def inside_quick_gelu(x):
    return 1.702 * x


def hugging_face(name):
    def build():
        from transformers import activations

        return Layers(getattr(activations, name)())

    return build


FORMULAS = {
    "x·sigmoid(x)": Case(lambda: Layers(lambda x: x * torch.sigmoid(x)), steps(), {"swish()": Truth(BELOW)}),
    "quick gelu inline": Case(
        lambda: Layers(lambda x: x * torch.sigmoid(1.702 * x)),
        steps(),
        {"swish()": Truth(BELOW, inner=inside_quick_gelu)},
    ),
    "gelu_new inline": Case(lambda: Layers(gelu_new), steps(), {"gelu()": Truth(BELOW, op="tanh", inner=inside_gelu)}),
    "relu² inline": Case(lambda: Layers(lambda x: F.relu(x) ** 2), steps(), {"relu()": Truth(BELOW)}),
    "relu² inline by square": Case(lambda: Layers(lambda x: x.relu().square()), steps(), {"relu()": Truth(BELOW)}),
    "QuickGELUActivation": Case(
        hugging_face("QuickGELUActivation"), steps(), {"act": Truth(BELOW, inner=inside_quick_gelu)}
    ),
    "NewGELUActivation": Case(hugging_face("NewGELUActivation"), steps(), {"act": Truth(BELOW, inner=inside_gelu)}),
    "ReLUSquaredActivation": Case(hugging_face("ReLUSquaredActivation"), steps(), {"act": Truth(BELOW)}),
    "GELUActivation": Case(hugging_face("GELUActivation"), steps(), {"act": Truth(BELOW)}),
    "SiLUActivation": Case(hugging_face("SiLUActivation"), steps(), {"act": Truth(BELOW)}),
    "PytorchGELUTanh": Case(hugging_face("GELUTanh"), steps(), {"act": Truth(BELOW)}),
}


class GeluNew(nn.Module):
    def forward(self, x):
        return gelu_new(x)


FORMULAS["gelu_new as a module"] = Case(
    lambda: Layers(GeluNew()), steps(), {"act": Truth(BELOW, op="tanh", inner=inside_gelu)}
)


# ── alike, but none ──────────────────────────────────────────────────────────────────────────────────────────────────


class Twins(nn.Module):
    """Two layers, and what `join` makes of both."""

    def __init__(self, join):
        super().__init__()
        self.one, self.two = thresholds_linear(THRESHOLDS), thresholds_linear(THRESHOLDS)
        self.head = nn.Linear(UNITS, 2)
        self.join = join

    def forward(self, x):
        return self.head(F.relu(self.join(self.one(x), self.two(x))))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(INPUTS, INPUTS) for _ in range(3))
        self.fc, self.head = thresholds_linear(THRESHOLDS), nn.Linear(UNITS, 2)

    def forward(self, x):
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return self.head(F.relu(self.fc(x) + 0 * (weights @ self.v(x)).sum()))


class Scaled(nn.Module):
    """Softplus keeps a parameter positive, a sigmoid is a temperature: neither is a layer's activation."""

    def __init__(self, function):
        super().__init__()
        self.raw, self.function = nn.Parameter(torch.tensor(0.3)), function
        self.fc, self.head = thresholds_linear(THRESHOLDS), nn.Linear(UNITS, 2)

    def forward(self, x):
        return self.head(F.relu(self.fc(x))) * self.function(self.raw)


RELU = {"relu()": Truth(BELOW)}
TOKENS = {"relu()": Truth(BELOW, rows=STEPS * BATCH * TIME)}
NO_LAYER = "not fed by a layer"
ALIKE = {
    "clamp(-1, 1)": Case(lambda: Layers(lambda x: F.relu(x.clamp(-1, 1))), steps(), RELU),
    "clamp(min=1e-6)": Case(lambda: Layers(lambda x: F.relu(x).clamp(min=1e-6)), steps(), RELU),
    "clamp(max=0)": Case(lambda: Layers(lambda x: F.relu(x) + x.clamp(max=0)), steps(), RELU),
    "max with one": Case(lambda: Layers(lambda x: torch.max(F.relu(x), torch.tensor(1.0))), steps(), RELU),
    "max over an axis": Case(lambda: Layers(lambda x: F.relu(x) + x.max(1, keepdim=True)[0]), steps(), RELU),
    "max with zero and with a floor": Case(
        lambda: Layers(lambda x: torch.maximum(x, ZERO) + torch.maximum(x, torch.tensor(0.3))), steps(), RELU
    ),
    "max with a floor and with zero": Case(
        lambda: Layers(lambda x: x.clamp(min=torch.tensor(0.3)) + torch.maximum(ZERO, x)), steps(), RELU
    ),
    "maximum of two layers": Case(lambda: Twins(torch.maximum), steps(), RELU),
    "softmax": Case(lambda: Layers(lambda x: F.relu(x) * x.softmax(-1)), steps(), RELU),
    "softmax attention": Case(Attention, steps(lambda: inputs(BATCH, TIME, INPUTS)), TOKENS),
    "dropout": Case(lambda: Layers(lambda x: F.dropout(F.relu(x), 0.3)), steps(), RELU),
    "dropout module": Case(lambda: Layers(nn.Sequential(nn.ReLU(), nn.Dropout(0.3))), steps(), {"act.0": Truth(BELOW)}),
    "abs and sign": Case(lambda: Layers(lambda x: F.relu(x) + x.abs() * x.sign()), steps(), RELU),
    "sigmoid of a parameter": Case(
        lambda: Scaled(torch.sigmoid),
        steps(),
        RELU,
        gaps={"sigmoid()": NO_LAYER},
        unmeasured=frozenset({("", "sigmoid")}),
    ),
    "softplus of a parameter": Case(
        lambda: Scaled(F.softplus),
        steps(),
        RELU,
        gaps={"softplus()": NO_LAYER},
        unmeasured=frozenset({("", "softplus")}),
    ),
    "tanh of a tanh": Case(
        lambda: Layers(lambda x: F.relu(x) + torch.tanh(F.relu(x))),
        steps(),
        {"relu()": Truth(BELOW, rows=2 * STEPS * BATCH)},
        gaps={"tanh()": "fed by another activation"},
        unmeasured=frozenset({("", "tanh")}),
    ),
}

# ── activations that torch.nn does not know ──────────────────────────────────────────────────────────────────────────


class Ramp(nn.Module):
    """Its gate is that of what it calls, which is known by name here alone."""

    def forward(self, x):
        return 3 * F.threshold(x, 0.1, 0.0)


class Ledge(nn.Module):
    """A ReLU that is named by where it is told to begin."""

    def __init__(self, start):
        super().__init__()
        self.start = start

    def forward(self, x):
        return F.relu(x - self.start)


def shifted(x):
    return x - 0.25


def named(act, activations, name="act", dead=BELOW, **more):
    return Case(
        lambda: Layers(act), steps(), {name: Truth(dead, at="act", **more)}, options={"activations": activations}
    )


CUSTOM = {
    "not named: what its forward calls": named(Ramp(), {}, "act.threshold()"),
    "named, with a derived gate": named(Ramp(), {"act": None}),
    "named, with a stated gate": named(Ramp(), {"act": (0.1, math.inf)}),
    "named, with a gate that has two ends": named(Ramp(), {"act": (-2.0, 2.0)}, dead=BOTH),
    "named by class": named(Ramp(), {"Ramp": None}),
    "named by glob": named(Ramp(), {"a*": None}),
    "named, with a derived gate that is shifted": named(Ledge(0.25), {"Ledge": None}, inner=shifted),
}
