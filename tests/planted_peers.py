"""Planted cases that tools of this kind are known to get wrong, one by one and with the truth beside each."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from planted import BELOW, STEPS, Case, Layers, Truth, inputs, steps
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import BATCH, INPUTS, NEVER, TIME, thresholds_conv, thresholds_linear

MANY = 101
WIDE = {unit for unit in range(MANY) if unit % 10 < 3}
WIDE_THRESHOLDS = [NEVER if unit in WIDE else unit / MANY - 0.5 for unit in range(MANY)]
ROWS = STEPS * BATCH


def wide(act):
    return lambda: Layers(act, WIDE_THRESHOLDS)


def wide_case(act, name="act", dead=WIDE, **more):
    return Case(wide(act), steps(), {name: Truth(dead, MANY)}, **more)


class SharedReLU(nn.Module):
    """One nn.ReLU behind two layers of different widths; 5 of 7 and 11 of 23 units are dead."""

    FIRST, SECOND = frozenset({0, 1, 2, 4, 6}), frozenset(range(0, 22, 2))

    def __init__(self):
        super().__init__()
        self.a = thresholds_linear([NEVER if unit in self.FIRST else -1.0 for unit in range(7)])
        self.b = thresholds_linear([NEVER if unit in self.SECOND else -1.0 for unit in range(23)], 7)
        self.relu, self.head = nn.ReLU(), nn.Linear(23, 10)

    def forward(self, x):
        return self.head(self.relu(self.b(self.relu(self.a(x)))))


class NormedConv(nn.Module):
    """An in-place ReLU behind a batch norm; 4 of 17 channels have a shift that no value overcomes."""

    DEAD = frozenset({0, 3, 11, 16})

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(INPUTS, 17, 3), nn.BatchNorm2d(17), nn.ReLU(inplace=True)
        self.head = nn.Linear(17, 10)
        with torch.no_grad():
            self.bn.bias[sorted(self.DEAD)] = -1e4

    def forward(self, x):
        return self.head(self.relu(self.bn(self.conv(x))).mean((2, 3)))


class OnePosition(nn.Module):
    """Of 7 channels one is dead, one is alive at a single position of a single example, five everywhere."""

    def __init__(self):
        super().__init__()
        self.conv = thresholds_conv(nn.Conv2d, [-1.0, 1.5, -1.0, NEVER, -1.0, -1.0, -1.0])
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x))


def one_bright_pixel(model, optimizer):
    for step in range(STEPS):
        x = inputs(BATCH, INPUTS, 13, 17)
        if step == 3:
            x[2, 0, 5, 7] = 2.0
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()


def one_in_a_thousand(model, optimizer):
    """20 batches of 50: unit 3 fires on one example of them all."""
    for step in range(20):
        x = inputs(50, INPUTS)
        if step == 13:
            x[17, 0] = 3.0
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()


class Encoder(nn.Module):
    """nn.TransformerEncoderLayer: 19 of 67 units of its feed-forward part are dead."""

    DEAD = frozenset(range(0, 38, 2))

    def __init__(self, activation="relu", kind=nn.TransformerEncoderLayer, dropout=0.1):
        super().__init__()
        self.layer = kind(14, 2, 67, dropout=dropout, activation=activation, batch_first=True)
        self.decoder = kind is nn.TransformerDecoderLayer
        with torch.no_grad():
            self.layer.linear1.bias[sorted(self.DEAD)] = -1e4

    def forward(self, x):
        return self.layer(x, x) if self.decoder else self.layer(x)


def evaluate(model, optimizer):
    model.eval()
    with torch.no_grad():
        for _ in range(STEPS):
            model(inputs(BATCH, TIME, 14))


def evaluate_between(model, optimizer):
    """Training steps, and between them evaluation: with and without gradients."""
    for _ in range(STEPS):
        steps(lambda: inputs(BATCH, TIME, 14), 1)(model, optimizer)
        model.eval()
        with torch.no_grad():
            model(inputs(BATCH, TIME, 14))
        model(inputs(BATCH, TIME, 14))
        model.train()


TOKENS = steps(lambda: inputs(BATCH, TIME, 14))
ENCODED = Truth(Encoder.DEAD, 67, ROWS * TIME)


class TokensMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act, self.head = thresholds_linear(WIDE_THRESHOLDS), nn.ReLU(), nn.Linear(MANY, 3)

    def forward(self, x):
        return self.head(self.act(self.fc(x)))


class Checkpointed(nn.Module):
    """A segment that is computed again in the backward pass; `act` is a module or a function."""

    def __init__(self, act, *, reentrant):
        super().__init__()
        self.first = nn.Linear(INPUTS, INPUTS)
        self.fc, self.head = thresholds_linear(WIDE_THRESHOLDS), nn.Linear(MANY, 3)
        self.act, self.reentrant = act, reentrant
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(INPUTS))
            self.first.bias.zero_()

    def segment(self, x):
        return self.head(self.act(self.fc(x)))

    def forward(self, x):
        return checkpoint(self.segment, self.first(x), use_reentrant=self.reentrant)


def autocast_step(model, optimizer, x):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).float().square().sum()
    loss.backward()
    optimizer.step()


class Overwritten(nn.Module):
    """Its activation's output is changed in place at once. (A ReLU's backward pass would need what it gave.)"""

    def __init__(self, act):
        super().__init__()
        self.fc, self.act, self.head = thresholds_linear(WIDE_THRESHOLDS), act, nn.Linear(MANY, 2)

    def forward(self, x):
        h = self.act(self.fc(x))
        h += 0.1
        return self.head(h)


def without_gradients(model, optimizer):
    for _ in range(STEPS):
        with torch.no_grad():
            model(inputs())
        optimizer.step()


def without_fast_path(drive):
    """The same, with the layers of torch.nn in Python: as they are where hooks sit on them."""

    def slow(model, optimizer):
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            drive(model, optimizer)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    return slow


def sparse():
    """Every unit fires on about 3 % of the rows."""
    return Layers(nn.ReLU(), [0.94] * MANY)


def shifted_norm(shift, scale):
    def build():
        model = NormedConv()
        with torch.no_grad():
            model.bn.bias[:], model.bn.weight[:] = shift, scale
        return model

    return build


IMAGES = steps(lambda: inputs(BATCH, INPUTS, 11, 13))
NORMED = Truth(NormedConv.DEAD, 17, ROWS * 9 * 11, axis=1)
ALL = set(range(17))

PEERS = {
    "1 nn.ReLU": wide_case(nn.ReLU()),
    "2 F.relu": wide_case(F.relu, "relu()"),
    "3 shared ReLU": Case(
        SharedReLU,
        steps(),
        {
            "relu@a": Truth(SharedReLU.FIRST, 7, turn=(0, 2)),
            "relu@b": Truth(SharedReLU.SECOND, 23, turn=(1, 2)),
        },
    ),
    "4 in place after a batch norm": Case(NormedConv, IMAGES, {"relu": NORMED}),
    "5 alive at one position": Case(OnePosition, one_bright_pixel, {"act": Truth({3}, 7, ROWS * 13 * 17, axis=1)}),
    "6 fires once in a thousand": Case(
        lambda: Layers(nn.ReLU(), [-1.0, 0.0, 0.3, 2.0, NEVER]),
        one_in_a_thousand,
        {"act": Truth({4}, rows=1000, n=1000)},
    ),
    "7 encoder layer": Case(Encoder, TOKENS, {"layer.relu()": ENCODED}),
    "7 encoder layer with gelu": Case(lambda: Encoder("gelu"), TOKENS, {"layer.gelu()": ENCODED}),
    "7 decoder layer": Case(lambda: Encoder(kind=nn.TransformerDecoderLayer), TOKENS, {"layer.relu()": ENCODED}),
    "7 decoder layer with gelu": Case(
        lambda: Encoder("gelu", nn.TransformerDecoderLayer), TOKENS, {"layer.gelu()": ENCODED}
    ),
    "7 encoder layer with a callable": Case(lambda: Encoder(F.silu), TOKENS, {"layer.silu()": ENCODED}),
    "7b nn.ReLU on tokens": Case(
        TokensMLP, steps(lambda: inputs(BATCH, TIME, INPUTS)), {"act": Truth(WIDE, MANY, ROWS * TIME)}
    ),
    "9 GELU": wide_case(nn.GELU()),
    "9 SiLU": wide_case(nn.SiLU()),
    "9 F.gelu": wide_case(F.gelu, "gelu()"),
    "9 LeakyReLU always negative": Case(
        lambda: Layers(nn.LeakyReLU(), [NEVER] * MANY), steps(), {"act": Truth(set(), MANY)}
    ),
    "9 F.leaky_relu always negative": Case(
        lambda: Layers(F.leaky_relu, [NEVER] * MANY), steps(), {"leaky_relu()": Truth(set(), MANY)}
    ),
    **{
        f"10 checkpointing {'functions' if name.endswith('()') else 'modules'}, reentrant {reentrant}": Case(
            lambda act=act, reentrant=reentrant: Checkpointed(act, reentrant=reentrant),
            steps(),
            {name: Truth(WIDE, MANY)},
        )
        for name, act in {"act": nn.ReLU(), "relu()": F.relu}.items()
        for reentrant in (False, True)
    },
    "12 bf16 autocast": Case(wide(nn.ReLU()), steps(loop=autocast_step), {"act": Truth(WIDE, MANY)}),
    "12 bf16 autocast, F.gelu": Case(wide(F.gelu), steps(loop=autocast_step), {"gelu()": Truth(WIDE, MANY)}),
    "15 batch norm shifted by -100": Case(
        shifted_norm(-100.0, 1.0), IMAGES, {"relu": Truth(ALL, 17, ROWS * 9 * 11, axis=1)}
    ),
    "15 batch norm scaled by 0": Case(shifted_norm(0.0, 0.0), IMAGES, {"relu": Truth(ALL, 17, ROWS * 9 * 11, axis=1)}),
    "16 healthy and sparse": Case(
        sparse, steps(lambda: inputs(97, INPUTS)), {"act": Truth(set(), MANY, 97 * STEPS, 97 * STEPS)}
    ),
    **{
        f"in place right after {name}": Case(lambda act=act: Overwritten(act), drive, {name.strip(): Truth(WIDE, MANY)})
        for name, act, drive in (
            ("gelu()", F.gelu, steps()),
            ("act", nn.GELU(), steps()),
            ("relu()", F.relu, without_gradients),
            ("act ", nn.ReLU(), without_gradients),
        )
    },
    "data parallel": Case(lambda: nn.DataParallel(Layers(F.relu)), steps(), {"relu()": Truth(BELOW, at="module")}),
    "7 encoder layer trained and evaluated": Case(
        Encoder,
        evaluate_between,
        {"layer.relu()": ENCODED},
        {"layer.relu()": Truth(Encoder.DEAD, 67, 2 * ROWS * TIME, 2 * ROWS)},
        options={"phases": ("train", "eval")},
        plain=without_fast_path(evaluate_between),
    ),
    "7 decoder layer trained and evaluated": Case(
        lambda: Encoder("gelu", nn.TransformerDecoderLayer),
        evaluate_between,
        {"layer.gelu()": ENCODED},
        {"layer.gelu()": Truth(Encoder.DEAD, 67, 2 * ROWS * TIME, 2 * ROWS)},
        options={"phases": ("train", "eval")},
    ),
}
