"""Planted cases: sigmoids, tanhs and formulas, which are told by their graph, where there is another graph or none."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from planted import ABOVE, BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, inputs, steps
from planted_functions import gelu_new, inside_gelu, inside_quick_gelu
from planted_peers import autocast_step, without_gradients
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import BATCH, INPUTS, TIME, UNITS, thresholds_linear

ROWS = STEPS * BATCH
BOTH = BELOW | ABOVE
# (name of its site, what it is, its truth)
FUNCTIONS = {
    "relu": ("relu()", F.relu, Truth(BELOW)),
    "gelu": ("gelu()", F.gelu, Truth(BELOW)),
    "tanh": ("tanh()", torch.tanh, Truth(BOTH)),
    "sigmoid": ("sigmoid()", torch.sigmoid, Truth(BOTH)),
    "x·sigmoid(x)": ("swish()", lambda x: x * torch.sigmoid(x), Truth(BELOW)),
    "quick gelu": ("swish()", lambda x: x * torch.sigmoid(1.702 * x), Truth(BELOW, inner=inside_quick_gelu)),
    "gelu_new": ("gelu()", gelu_new, Truth(BELOW, op="tanh", inner=inside_gelu)),
    "relu²": ("relu()", lambda x: F.relu(x).square(), Truth(BELOW)),
}


class Segment(nn.Module):
    """A segment that is computed again in the backward pass."""

    def __init__(self, function, *, reentrant):
        super().__init__()
        self.first, self.fc, self.head = nn.Linear(INPUTS, INPUTS), thresholds_linear(THRESHOLDS), nn.Linear(UNITS, 2)
        self.function, self.reentrant = function, reentrant
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(INPUTS))
            self.first.bias.zero_()

    def segment(self, x):
        return self.head(self.function(self.fc(x)))

    def forward(self, x):
        return checkpoint(self.segment, self.first(x), use_reentrant=self.reentrant)


class Frozen(Layers):
    """Layers that are not trained before a head that is."""

    def __init__(self, function):
        super().__init__(function)
        self.fc.requires_grad_(False)


def evaluated(context):
    def drive(model, optimizer):
        model.eval()
        for _ in range(STEPS):
            with context():
                model(inputs())
            optimizer.step()

    return drive


EVALUATIONS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode, "gradients": torch.enable_grad}
MOODS = {}
for label, (site, function, truth) in FUNCTIONS.items():
    MOODS |= {
        f"{label} under bf16 autocast": Case(lambda f=function: Layers(f), steps(loop=autocast_step), {site: truth}),
        f"{label} trained without gradients": Case(lambda f=function: Layers(f), without_gradients, {site: truth}),
        f"{label} behind a frozen layer": Case(lambda f=function: Frozen(f), steps(), {site: truth}),
        **{
            f"{label} evaluated under {name}": Case(
                lambda f=function: Layers(f),
                evaluated(context),
                {},
                evals={site: truth},
                options={"phases": "eval"},
            )
            for name, context in EVALUATIONS.items()
        },
        **{
            f"{label} checkpointed, reentrant {reentrant}": Case(
                lambda f=function, r=reentrant: Segment(f, reentrant=r), steps(), {site: truth}
            )
            for reentrant in (False, True)
        },
    }


# ── what a sigmoid or a tanh is besides a layer's activation ─────────────────────────────────────────────────────────


class Attending(nn.Module):
    """Attention whose weights are sigmoids: their units are positions, not neurons of a layer."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(INPUTS, INPUTS) for _ in range(3))
        self.fc = thresholds_linear(THRESHOLDS)

    def forward(self, x):
        weights = torch.sigmoid(self.q(x) @ self.k(x).transpose(1, 2))
        return F.relu(self.fc(x)) + 0 * (weights @ self.v(x)).sum()


class Gated(nn.Module):
    """A layer whose units another layer's sigmoid lets through: both are activations."""

    def __init__(self):
        super().__init__()
        self.fc, self.gate = thresholds_linear(THRESHOLDS), thresholds_linear([-1.0, 5e4, 5e4, 0.0, 0.1])

    def forward(self, x):
        return torch.tanh(self.fc(x)) * torch.sigmoid(self.gate(x))


class SwiGLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.up, self.down = thresholds_linear(THRESHOLDS), nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, 2)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Halved(nn.Module):
    """One layer gives both halves; the first is gated by the second."""

    def __init__(self, function):
        super().__init__()
        self.fc, self.function = thresholds_linear([0.0] * 4 + [*THRESHOLDS]), function
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        values, gate = self.fc(x).split([4, 5], -1)
        return self.head(values) * self.function(gate).mean(-1, keepdim=True)


class Lstm(nn.Module):
    """A long short-term memory written out: one layer feeds all of its gates."""

    def __init__(self):
        super().__init__()
        self.x, self.h = nn.Linear(INPUTS, 4 * UNITS), nn.Linear(UNITS, 4 * UNITS, bias=False)
        with torch.no_grad():
            self.x.bias[[1, UNITS + 2]] = -1e4

    def forward(self, x):
        h = c = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, t]) + self.h(h)).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


class Excitation(nn.Module):
    """Squeeze and excitation: one row an example behind a pooling."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(INPUTS, UNITS, 1)
        self.squeeze, self.excite = nn.Conv2d(UNITS, 7, 1), nn.Conv2d(7, UNITS, 1)
        with torch.no_grad():
            for conv, unit, bias in ((self.squeeze, 3, -1e4), (self.excite, 2, 1e4)):
                conv.weight.mul_(0.01)
                conv.bias.fill_(1.0)
                conv.bias[unit] = bias

    def forward(self, x):
        y = self.conv(x)
        s = F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))
        return y * torch.sigmoid(self.excite(s))


IMAGES = steps(lambda: inputs(BATCH, INPUTS, 11, 13))
SEQUENCES = steps(lambda: inputs(BATCH, TIME, INPUTS))
OTHER_USES = {
    "a gate beside a layer": Case(Gated, steps(), {"tanh()": Truth(BOTH), "sigmoid()": Truth({1, 2})}),
    "SwiGLU": Case(SwiGLU, steps(), {"silu()": Truth(BELOW)}),
    "half of a layer through silu": Case(lambda: Halved(F.silu), steps(), {"silu()": Truth(BELOW)}),
    "half of a layer through a sigmoid": Case(lambda: Halved(torch.sigmoid), steps(), {"sigmoid()": Truth(BOTH)}),
    # The gates are told apart by the units of the layer that they take; what the cell gives back is no layer's.
    "an LSTM written out": Case(
        Lstm,
        SEQUENCES,
        {
            "sigmoid()@x": Truth({2}, rows=ROWS * TIME, turn=(0, 3)),
            "sigmoid()@x#1": Truth({1}, rows=ROWS * TIME, turn=(1, 3)),
            "sigmoid()@x#2": Truth(set(), rows=ROWS * TIME, turn=(2, 3)),
            "tanh()": Truth(set(), rows=ROWS * TIME, turn=(0, 2)),
        },
        gaps={"tanh()": "fed by another activation"},
        unmeasured=frozenset({("", "tanh")}),
    ),
    "slices of a layer": Case(
        lambda: Layers(
            lambda x: torch.cat([F.relu(x[:, :2]), F.relu(x[:, 2:4]), x[:, 4:]], -1), [-1.0, 5e4, 5e4, 0.0, 0.0]
        ),
        steps(),
        {"relu()@fc": Truth({1}, 2, turn=(0, 2)), "relu()@fc#1": Truth({0}, 2, turn=(1, 2))},
    ),
    "squeeze and excitation": Case(
        Excitation,
        IMAGES,
        {"relu()": Truth({3}, 7, axis=1), "sigmoid()": Truth({2}, axis=1)},
    ),
    "sigmoid attention": Case(
        Attending,
        SEQUENCES,
        {"relu()": Truth(BELOW, rows=ROWS * TIME)},
        gaps={"sigmoid()": "a part of a formula"},
        unmeasured=frozenset({("", "sigmoid")}),
    ),
}
