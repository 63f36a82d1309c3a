"""Planted cases: modules and functions that are shared, repeated, made late, or fed in other ways than by one layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from planted import BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, frozen, inputs, steps
from torch import nn
from zoo import BATCH, INPUTS, NEVER, TIME, UNITS, thresholds_conv, thresholds_linear

ROWS = STEPS * BATCH
OTHERS = [NEVER, NEVER, -1.0, 0.5, NEVER]  # of the second of two layers
SECOND = {0, 1, 4}


class Loop(nn.Module):
    """One activation behind each of three layers of equal width."""

    def __init__(self, act):
        super().__init__()
        self.layers = nn.ModuleList(thresholds_linear(t, 5) for t in (THRESHOLDS, OTHERS, [NEVER] * 5))
        self.act = act

    def forward(self, x):
        return sum(self.act(layer(x)) for layer in self.layers)


class Fresh(nn.Module):
    """Makes its activation anew in each forward."""

    def __init__(self, make):
        super().__init__()
        self.fc, self.make = thresholds_linear(THRESHOLDS), make

    def forward(self, x):
        return self.make()(self.fc(x))


class TiedLayer(nn.Module):
    """The same layer used twice, on different features."""

    def __init__(self, act):
        super().__init__()
        self.fc, self.act = thresholds_linear([-1.0, NEVER, 0.0, 1.5, -NEVER]), act

    def forward(self, x):
        return self.act(self.fc(x)) + self.act(self.fc(2 * x))


class TiedWeight(nn.Module):
    """Two layers with one weight between them and each its own bias."""

    def __init__(self, act):
        super().__init__()
        self.a, self.b, self.act = thresholds_linear(THRESHOLDS), thresholds_linear(OTHERS), act
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.act(self.a(x)) + self.act(self.b(x))


class Siamese(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.net = Layers(act)

    def forward(self, x):
        return self.net(x[:, 0]) - self.net(x[:, 1])


class Recurrent(nn.Module):
    """A cell that is called at each time step."""

    def __init__(self, act, *, inside):
        super().__init__()
        self.cell = Cell(act) if inside else thresholds_linear(THRESHOLDS, INPUTS + UNITS)
        self.act, self.inside = act if not inside else None, inside

    def forward(self, x):
        h = x.new_zeros(len(x), UNITS)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            h = self.cell(both) if self.inside else self.act(self.cell(both))
        return h


class Cell(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.fc, self.act = thresholds_linear(THRESHOLDS, INPUTS + UNITS), act

    def forward(self, x):
        return self.act(self.fc(x))


class Gan(nn.Module):
    """Two nets that two optimizers train in turn; the container itself is never called."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = Layers(F.relu), Layers(nn.LeakyReLU(0.0), OTHERS)
        self.generator.head = nn.Linear(UNITS, INPUTS)
        with torch.no_grad():
            self.generator.head.weight.mul_(0.01)


def play(model, optimizers):
    """Each step: the discriminator on real and false data, then the generator through the discriminator."""
    for _ in range(STEPS):
        for optimizer in optimizers:
            optimizer.zero_grad()
        false = model.generator(inputs())
        (model.discriminator(inputs()) - model.discriminator(false.detach())).sum().backward()
        optimizers[1].step()
        model.discriminator(model.generator(inputs())).sum().backward()
        optimizers[0].step()


def one_each(model):
    return [frozen(model.generator), frozen(model.discriminator)]


class Lazy(nn.Module):
    """Its layer learns its size from the first batch."""

    def __init__(self, act):
        super().__init__()
        self.fc, self.act = nn.LazyLinear(UNITS), act

    def forward(self, x):
        return self.act(self.fc(x))


def lazily(model, optimizer):
    model.eval()(inputs())  # the truth can be planted as soon as there are weights
    model.train()
    model.fc.load_state_dict(thresholds_linear(THRESHOLDS).state_dict())
    steps()(model, optimizer)


def several_forwards(model, optimizer):
    """Three passes and one backward for each step."""
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(model(inputs()).square().sum() for _ in range(3)).backward()
        optimizer.step()


def accumulating(model, optimizer):
    """Four backward passes for each step."""
    for _ in range(STEPS):
        for _ in range(4):
            model(inputs()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


class ConvNeXt(nn.Module):
    """Channels last by permutation, and linear layers on them."""

    def __init__(self, act):
        super().__init__()
        self.dw = nn.Conv2d(INPUTS, INPUTS, 3, padding=1, groups=INPUTS)
        self.up, self.act, self.down = thresholds_linear(THRESHOLDS), act, nn.Linear(UNITS, INPUTS)
        with torch.no_grad():
            self.dw.weight.zero_()[:, :, 1, 1] = 1
            self.dw.bias.zero_()

    def forward(self, x):
        h = self.dw(x).permute(0, 2, 3, 1)
        return x + self.down(self.act(self.up(h))).permute(0, 3, 1, 2)


class Pooled(nn.Module):
    """A convolution, pooled before its activation, on tensors of any memory format."""

    def __init__(self, act):
        super().__init__()
        self.conv, self.act = thresholds_conv(nn.Conv2d, THRESHOLDS), act
        self.head = nn.Linear(UNITS, 2)

    def forward(self, x):
        return self.head(self.act(F.max_pool2d(self.conv(x), 2)).mean((2, 3)))


def channels_last():
    return inputs(BATCH, INPUTS, 11, 13).to(memory_format=torch.channels_last)


BOTH = {"module": (nn.ReLU, "act"), "function": (lambda: F.relu, "relu()")}
SIDES = [("act", lambda: nn.ReLU()), ("relu()", lambda: F.relu)]
SHARING = {}
for kind, (make, name) in BOTH.items():
    twice = Truth(BELOW, rows=2 * ROWS)
    SHARING |= {
        f"shared {kind} in a loop over layers": Case(
            lambda make=make: Loop(make()),
            steps(lambda: inputs(BATCH, 5)),
            {
                f"{name}@layers.{i}": Truth(dead, turn=(i, 3))
                for i, dead in enumerate((BELOW, SECOND, set(range(UNITS))))
            },
        ),
        # The same units on other rows: one site, and the fourth unit is alive on the second call's alone.
        f"the same layer twice, {kind}": Case(lambda make=make: TiedLayer(make()), steps(), {name: twice}),
        f"a weight shared by two layers, {kind}": Case(
            lambda make=make: TiedWeight(make()),
            steps(),
            {f"{name}@a": Truth(BELOW, turn=(0, 2)), f"{name}@b": Truth(SECOND, turn=(1, 2))},
        ),
        f"siamese nets, {kind}": Case(
            lambda make=make: Siamese(make()), steps(lambda: inputs(BATCH, 2, INPUTS)), {f"net.{name}": twice}
        ),
        f"a recurrent loop, {kind}": Case(
            lambda make=make: Recurrent(make(), inside=False),
            steps(lambda: inputs(BATCH, TIME, INPUTS)),
            {name: Truth(BELOW, rows=ROWS * TIME)},
        ),
        f"a recurrent cell, {kind}": Case(
            lambda make=make: Recurrent(make(), inside=True),
            steps(lambda: inputs(BATCH, TIME, INPUTS)),
            {f"cell.{name}": Truth(BELOW, rows=ROWS * TIME)},
        ),
        f"a lazy layer, {kind}": Case(lambda make=make: Lazy(make()), lazily, {name: Truth(BELOW)}),
        f"several forwards a step, {kind}": Case(
            lambda make=make: Layers(make()), several_forwards, {name: Truth(BELOW, rows=3 * ROWS, n=3 * ROWS)}
        ),
        f"gradient accumulation, {kind}": Case(
            lambda make=make: Layers(make()), accumulating, {name: Truth(BELOW, rows=4 * ROWS, n=4 * ROWS)}
        ),
        f"channels last by permutation, {kind}": Case(
            lambda make=make: ConvNeXt(make()),
            steps(lambda: inputs(BATCH, INPUTS, 11, 13)),
            {name: Truth(BELOW, rows=ROWS * 11 * 13)},
        ),
        f"channels last in memory, {kind}": Case(
            lambda make=make: Pooled(make()).to(memory_format=torch.channels_last),
            steps(channels_last),
            {name: Truth(BELOW, rows=ROWS * 5 * 6, axis=1)},
        ),
        f"float64, {kind}": Case(
            lambda make=make: Layers(make()).double(), steps(lambda: inputs().double()), {name: Truth(BELOW)}
        ),
    }
SHARING |= {
    "a fresh nn.ReLU in each forward": Case(lambda: Fresh(nn.ReLU), steps(), {"relu()": Truth(BELOW, at="<ReLU>")}),
    "a fresh nn.GELU in each forward": Case(lambda: Fresh(nn.GELU), steps(), {"gelu()": Truth(BELOW, at="<GELU>")}),
    "a GAN with a monitor over both": Case(
        Gan,
        play,
        {
            "generator.relu()": Truth(BELOW, rows=2 * ROWS, n=2 * ROWS),
            "discriminator.act": Truth(SECOND, rows=3 * ROWS, n=3 * ROWS),
        },
        optimizers=one_each,
    ),
}
