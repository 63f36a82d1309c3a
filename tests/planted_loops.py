"""Planted cases: how models are trained (precision, masks, odd rows, layers that come late) and what cannot be seen."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from planted import ABOVE, BELOW, STEPS, THRESHOLDS, Case, Layers, Truth, inputs, steps
from torch import nn
from zoo import BATCH, INPUTS, TIME, UNITS, thresholds_linear

ROWS = STEPS * BATCH
SMALL = [-1.0, 1.5, 0.0, 0.7, -2.0]  # the same units are dead, on numbers that float16 can square
MODULE_AND_FUNCTION = {"act": nn.ReLU(), "relu()": F.relu, "act ": nn.GELU(), "gelu()": F.gelu}


# ── precision ────────────────────────────────────────────────────────────────────────────────────────────────────────


def scaled(dtype):
    """Mixed precision with a gradient scaler; on the fifth step the loss overflows, so that the step is skipped."""

    def drive(model, optimizer):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for step in range(STEPS):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                loss = model(inputs()).float().square().mean()
            scaler.scale(loss * (math.inf if step == 5 else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() < 4.0

    return drive


PRECISION = {
    f"GradScaler on {dtype} with a skipped step, {name.strip()} {type(act).__name__}": Case(
        lambda act=act: Layers(act, SMALL),
        scaled(dtype),
        {name.strip(): Truth(set() if "gelu" in str(act).lower() else BELOW)},
    )
    for dtype in (torch.float16, torch.bfloat16)
    for name, act in MODULE_AND_FUNCTION.items()
} | {
    "a model in bfloat16": Case(
        lambda: Layers(F.relu).bfloat16(), steps(lambda: inputs().bfloat16()), {"relu()": Truth(BELOW)}
    ),
    "a model in bfloat16, tanh": Case(
        lambda: Layers(torch.tanh).bfloat16(), steps(lambda: inputs().bfloat16()), {"tanh()": Truth(BELOW | ABOVE)}
    ),
    "a model in float16, silu": Case(
        lambda: Layers(F.silu, SMALL).half(), steps(lambda: inputs().half()), {"silu()": Truth(set())}
    ),
}


# ── padding and other odd rows ───────────────────────────────────────────────────────────────────────────────────────

LENGTHS = torch.tensor([11, 5, 0, 7, 1, 11, 3])  # one example is nothing but padding
REAL = torch.arange(TIME) < LENGTHS[:, None]
TOKENS_REAL = int(REAL.sum())


class Padded(nn.Module):
    """Its input is 3 wherever there is padding: unit 3 fires there alone."""

    THRESHOLDS = (-1.0, 5e4, 0.0, 1.5, -5e4)
    DEAD = frozenset({1, 3})

    def __init__(self, act):
        super().__init__()
        self.fc, self.act, self.head = thresholds_linear(self.THRESHOLDS), act, nn.Linear(UNITS, 2)

    def forward(self, x, attention_mask=None, src_key_padding_mask=None):
        return self.head(self.act(self.fc(x)))


def padded_step(*arguments, **keywords):
    def loop(model, optimizer, x):
        x[~REAL] = 3.0
        optimizer.zero_grad()
        model(x, *arguments, **keywords).square().sum().backward()
        optimizer.step()

    return steps(lambda: inputs(BATCH, TIME, INPUTS), loop=loop)


def real_rows(x, k):
    return x[REAL]


MASKED = {
    f"mask as {how}, {name}": Case(
        lambda act=act: Padded(act),
        drive,
        {name: Truth(set(Padded.DEAD), rows=STEPS * TOKENS_REAL, n=STEPS * (BATCH - 1), select=real_rows)},
        options={"mask": mask},
    )
    for name, act in {"act": nn.ReLU(), "relu()": F.relu}.items()
    for how, mask, drive in (
        ("a name", "attention_mask", padded_step(attention_mask=REAL)),
        ("the name of a positional argument", "attention_mask", padded_step(REAL.long())),
        ("the name of a padding mask", "src_key_padding_mask", padded_step(src_key_padding_mask=~REAL)),
        ("a function", lambda x, attention_mask: attention_mask > 0, padded_step(REAL.float())),
        ("a tensor", REAL, padded_step()),
    )
}


def of_many_sizes(model, optimizer):
    for step in range(STEPS):
        optimizer.zero_grad()
        model(inputs(2 + step, 1 + 3 * step, INPUTS)).square().sum().backward()
        optimizer.step()


def with_one_row(value):
    """Passes without an optimizer's harm: one number of the second row is odd in each."""

    def drive(model, optimizer):
        for _ in range(STEPS):
            x = inputs()
            x[1, 0] = value
            model(x)
            optimizer.step()

    return drive


def unbatched(model, optimizer):
    for _ in range(STEPS):
        model(inputs(INPUTS)).square().sum().backward()
        optimizer.step()


ROWS_OF_ALL_SIZES = sum((2 + step) * (1 + 3 * step) for step in range(STEPS))
ODD_ROWS = {
    "batches of many sizes and lengths": Case(
        lambda: Layers(F.relu),
        of_many_sizes,
        {"relu()": Truth(BELOW, rows=ROWS_OF_ALL_SIZES, n=sum(2 + step for step in range(STEPS)))},
    ),
    **{
        f"a row of {value}, {name}": Case(lambda act=act: Layers(act), with_one_row(value), {name: Truth(dead)})
        for name, act in {"act": nn.ReLU(), "relu()": F.relu}.items()
        for value, dead in ((math.nan, set()), (math.inf, set()), (-math.inf, BELOW))
    },
    "a row of nan, tanh": Case(lambda: Layers(torch.tanh), with_one_row(math.nan), {"tanh()": Truth(set())}),
    "a row of inf, tanh": Case(lambda: Layers(torch.tanh), with_one_row(math.inf), {"tanh()": Truth(BELOW | ABOVE)}),
}


# ── layers that come late ────────────────────────────────────────────────────────────────────────────────────────────


class Growing(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.first, self.act, self.blocks = thresholds_linear(THRESHOLDS), act, nn.ModuleList()

    def forward(self, x):
        y = self.act(self.first(x))
        for block in self.blocks:
            y = y + block(x)
        return y


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = thresholds_linear([-1.0, -1.0, 5e4, 5e4, -1.0])

    def forward(self, x):
        return F.silu(self.fc(x))


def growing(at):
    def drive(model, optimizer):
        steps(count=at)(model, optimizer)
        model.blocks.append(Block())
        optimizer.add_param_group({"params": list(model.blocks.parameters())})
        steps(count=STEPS - at)(model, optimizer)

    return drive


def grown(at):
    rows = (STEPS - at) * BATCH
    return Truth({2, 3}, rows=rows, n=rows, at="<Block>")


LATE = {
    "a layer added before the second step": Case(
        lambda: Growing(nn.ReLU()), growing(1), {"act": Truth(BELOW), "silu()": grown(1)}
    ),
    "a layer added much later": Case(
        lambda: Growing(F.relu),
        growing(5),
        {"relu()": Truth(BELOW), "silu()": grown(5)},
        gaps={"silu()": "first seen in pass"},
    ),
}


# ── what is chosen, what cannot be measured ──────────────────────────────────────────────────────────────────────────


class Chosen(nn.Module):
    """Activations of both sorts at two depths."""

    def __init__(self):
        super().__init__()
        self.body, self.tail = Layers(F.relu), Layers(nn.ReLU())
        nn.init.zeros_(self.body.head.weight)

    def forward(self, x):
        return F.gelu(self.body(x)) + self.tail(x)


IN_BODY, IN_TAIL = {"body.relu()": Truth(BELOW)}, {"tail.act": Truth(BELOW)}
CHOSEN = {
    'include="*.relu()"': Case(
        Chosen,
        steps(),
        IN_BODY,
        options={"include": "*.relu()"},
        unmeasured=frozenset({("", "gelu"), ("tail.act", "relu")}),
    ),
    'exclude="*.relu()"': Case(
        Chosen,
        steps(),
        IN_TAIL | {"gelu()": Truth(set(), 2)},
        options={"exclude": "*.relu()"},
        unmeasured=frozenset({("body", "relu")}),
    ),
    'include=["tail.*"], exclude=["*gelu*"]': Case(
        Chosen,
        steps(),
        IN_TAIL,
        options={"include": ["tail.*"], "exclude": ["*gelu*"]},
        unmeasured=frozenset({("", "gelu"), ("body", "relu")}),
    ),
}


class Fused(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(INPUTS, 13, batch_first=True, **options)
        self.fc = thresholds_linear(THRESHOLDS)

    def forward(self, x):
        return F.relu(self.fc(x)) + self.rnn(x)[0].mean()


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def fused(kind, *ops, opaque=(), **options):
    return Case(
        lambda: Fused(kind, **options),
        steps(lambda: inputs(BATCH, TIME, INPUTS)),
        {"relu()": Truth(BELOW, rows=ROWS * TIME)},
        gaps={"rnn": "runs as one kernel"},
        unmeasured=frozenset(("rnn", op) for op in ops),
        opaque=frozenset(opaque),
    )


def beside(other, **more):
    """F.relu, and something else of the same layer."""
    return Case(lambda: Layers(lambda x: F.relu(x) + other(x)), steps(), {"relu()": Truth(BELOW)}, **more)


def glu(x):
    return F.glu(torch.cat([x, x], -1))


NOT_MEASURED = {
    "nn.LSTM": fused(nn.LSTM, opaque={"mkldnn_rnn_layer"}),
    "nn.GRU": fused(nn.GRU, "sigmoid", "tanh"),
    "nn.RNN": fused(nn.RNN, "tanh"),
    "nn.RNN with relu": fused(nn.RNN, "relu", nonlinearity="relu"),
    "a custom autograd function": beside(Doubled.apply, gaps={"Doubled": "custom autograd function"}),
    "F.softshrink": beside(F.softshrink, gaps={"softshrink()": "no gate that is an interval"}),
    "F.hardshrink": beside(F.hardshrink, gaps={"hardshrink()": "no gate that is an interval"}),
    "F.tanhshrink": beside(
        F.tanhshrink, gaps={"tanhshrink()": "no gate that is an interval"}, unmeasured=frozenset({("", "tanh")})
    ),
    "F.glu": beside(glu, gaps={"glu()": "no gate that is an interval"}, opaque=frozenset({"glu"})),
    "nn.Softshrink": Case(
        lambda: Layers(nn.Sequential(nn.ReLU(), nn.Softshrink())),
        steps(),
        {"act.0": Truth(BELOW)},
        gaps={"act.1": "no interval"},
    ),
    "nn.Tanhshrink": Case(
        lambda: Layers(nn.Sequential(nn.ReLU(), nn.Tanhshrink())),
        steps(),
        {"act.0": Truth(BELOW)},
        gaps={"act.1": "no interval"},
        unmeasured=frozenset({("act.1", "tanh")}),
    ),
}

LOOPS = {**PRECISION, **MASKED, **ODD_ROWS, **LATE, **CHOSEN, **NOT_MEASURED}
