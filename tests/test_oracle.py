"""The oracle itself: every public spelling of an activation arrives as exactly one call, with what went into it."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from architectures import ARCHITECTURES, loss_of
from oracle import Oracle, counts
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import BATCH, INPUTS, TIME, UNITS, active_by_hand

ZEROS, ZERO = torch.zeros(BATCH, UNITS), torch.tensor(0.0)
SLOPES = torch.full((UNITS,), 0.2)

SPELLINGS = {
    "relu": [F.relu, torch.relu, nn.ReLU(), lambda x: x.relu(), lambda x: x.clamp(min=0), lambda x: x.clamp(0.0)],
    "relu in place": [torch.relu_, nn.ReLU(inplace=True), lambda x: x.relu_(), lambda x: F.relu(x, inplace=True)],
    "relu by clamp_min": [lambda x: x.clamp_min(0), lambda x: torch.clamp_min(x, ZEROS), lambda x: x.clamp(min=ZEROS)],
    "relu by clip": [lambda x: x.clip(min=0), lambda x: x.clip_(min=0), lambda x: torch.clip(x, 0)],
    "relu by clamp_": [lambda x: x.clamp_(min=0), lambda x: x.clamp_min_(0), lambda x: x.clamp(min=0, max=math.inf)],
    "relu by maximum": [lambda x: torch.maximum(x, ZEROS), lambda x: torch.maximum(ZERO, x)],
    "relu by max": [lambda x: torch.max(x, ZERO), lambda x: x.max(torch.zeros_like(x)), lambda x: x.fmax(ZERO)],
    "relu6": [F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), lambda x: x.clamp(0, 6), lambda x: F.hardtanh(x, 0, 6)],
    "leaky_relu": [F.leaky_relu, nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), F.leaky_relu_],
    "prelu": [nn.PReLU(), nn.PReLU(UNITS), lambda x: F.prelu(x, SLOPES), lambda x: torch.prelu(x, SLOPES)],
    "rrelu": [F.rrelu, nn.RReLU(), nn.RReLU(inplace=True), nn.RReLU().eval(), lambda x: F.rrelu(x, training=True)],
    "elu": [F.elu, nn.ELU(), nn.ELU(0.7, inplace=True), F.elu_],
    "selu": [F.selu, nn.SELU(), nn.SELU(inplace=True), torch.selu, torch.selu_],
    "celu": [F.celu, nn.CELU(), nn.CELU(0.7, inplace=True), torch.celu, torch.celu_],
    "gelu": [F.gelu, nn.GELU()],
    "gelu_tanh": [nn.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")],
    "silu": [F.silu, nn.SiLU(), nn.SiLU(inplace=True)],
    "mish": [F.mish, nn.Mish(), nn.Mish(inplace=True)],
    "softplus": [F.softplus, nn.Softplus(), nn.Softplus(2.0, 5.0)],
    "hardtanh": [F.hardtanh, nn.Hardtanh(), nn.Hardtanh(-2, 3), nn.Hardtanh(inplace=True), lambda x: x.clamp(0, 1)],
    "hardswish": [F.hardswish, nn.Hardswish(), nn.Hardswish(inplace=True)],
    "hardsigmoid": [F.hardsigmoid, nn.Hardsigmoid(), nn.Hardsigmoid(inplace=True)],
    "sigmoid": [F.sigmoid, torch.sigmoid, nn.Sigmoid(), lambda x: x.sigmoid(), torch.sigmoid_, torch.special.expit],
    "tanh": [F.tanh, torch.tanh, nn.Tanh(), lambda x: x.tanh(), torch.tanh_],
    "threshold": [nn.Threshold(0.1, 0.0), nn.Threshold(0.1, 0.0, inplace=True), lambda x: F.threshold(x, 0.1, 0.0)],
    "log_sigmoid": [F.logsigmoid, nn.LogSigmoid()],
}

CONTEXTS = {
    "train": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


class Spelled(nn.Module):
    """A layer, and after it an activation in some spelling; keeps what went in."""

    def __init__(self, spelling):
        super().__init__()
        self.layer, self.head = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, 1)
        self.spelling = spelling

    def forward(self, x):
        x = self.layer(x)
        self.fed = x.detach().clone()
        return self.head(self.spelling(x))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("op", "spelling"),
    [pytest.param(key.split()[0], s, id=f"{key} {i}") for key, v in SPELLINGS.items() for i, s in enumerate(v)],
)
def test_every_spelling_arrives_once_with_what_went_in(op, spelling, context):
    model = Spelled(spelling)
    with Oracle(model) as oracle, CONTEXTS[context]():
        out = model(torch.randn(BATCH, INPUTS))
        if out.requires_grad:
            out.float().sum().backward()
    (call,) = oracle.calls
    assert (call.op, call.order, oracle.opaque) == (op, 0, [])
    assert call.module == ("spelling" if isinstance(spelling, nn.Module) else "")
    assert call.x.dtype == (torch.bfloat16 if context == "autocast" else torch.float32)
    assert torch.equal(call.x, model.fed)
    assert "test_oracle.py" in call.line


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x.clamp(max=0), lambda x: x.clamp(-1, 1), lambda x: torch.maximum(x, -x), lambda x: x.max(dim=1)[0],
        lambda x: x.clamp(min=1e-6), lambda x: x.softmax(-1), lambda x: x.long().clamp(min=0), lambda x: x.abs(),
    ],
)  # fmt: skip
def test_what_only_looks_like_an_activation_is_none(other):
    with Oracle(nn.Module()) as oracle:
        other(torch.randn(BATCH, UNITS))
    assert oracle.calls == []


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu().square()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * F.relu(x)


def test_the_backward_of_a_custom_function_is_no_forward():
    x = torch.randn(BATCH, UNITS, requires_grad=True)
    with Oracle(nn.Module()) as oracle:
        Squared.apply(x).sum().backward()
    assert [call.op for call in oracle.calls] == ["relu"]
    assert torch.equal(oracle.calls[0].x, x.detach())


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputation_is_no_forward(reentrant):
    model = Spelled(nn.ReLU())
    x = torch.randn(BATCH, INPUTS, requires_grad=True)
    with Oracle(model) as oracle:
        checkpoint(model, x, use_reentrant=reentrant).sum().backward()
        model(x)
    assert [(call.op, call.module, call.order) for call in oracle.calls] == [
        ("relu", "spelling", 0),
        ("relu", "spelling", 1),
    ]


def swish_of_relu(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * torch.sigmoid(x)


def test_a_scripted_function_is_seen_through():
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = torch.jit.script(swish_of_relu)
    x = torch.randn(BATCH, UNITS, requires_grad=True)
    for _ in range(4):  # the third run is the optimized one
        with Oracle(nn.Module()) as oracle:
            scripted(x).sum().backward()
        assert [call.op for call in oracle.calls] == ["relu", "sigmoid"]


def test_kernels_that_hide_an_activation_are_named():
    layer = nn.TransformerEncoderLayer(4, 2, UNITS, batch_first=True).eval()
    with Oracle(layer) as oracle, torch.no_grad():
        layer(torch.randn(BATCH, TIME, 4))
    assert (oracle.calls, [o.aten for o in oracle.opaque]) == ([], ["_transformer_encoder_layer_fwd.default"])
    lstm = nn.LSTM(INPUTS, UNITS)
    with Oracle(lstm) as oracle:
        lstm(torch.randn(TIME, BATCH, INPUTS))
    assert (oracle.calls, [o.aten for o in oracle.opaque]) == ([], ["mkldnn_rnn_layer.default"])


def test_a_forward_that_raises_leaves_no_module_running():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError(x)

    model = nn.ModuleDict({"broken": Broken(), "act": nn.ReLU()})
    with Oracle(model) as oracle:
        with pytest.raises(ValueError, match="7"):
            model["broken"](7)
        torch.relu(torch.ones(BATCH))
        model["act"](torch.ones(BATCH))
    assert [(call.module, call.kind) for call in oracle.calls] == [("", ""), ("act", "ReLU")]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("gate", [(0.0, math.inf), (-math.inf, math.inf), (0.0, 6.0), (-math.inf, 0.5)])
def test_counts_are_those_of_the_plain_counter(axis, gate):
    x = torch.randn(BATCH, TIME, UNITS)
    x[0, 0], x[1, 1], x[2, 2], x[3, 3], x[4, 4] = math.nan, math.inf, -math.inf, 0.0, 6.0
    with Oracle(nn.Module()) as oracle:
        torch.relu(x)
    assert counts(oracle.calls[0], axis, gate) == active_by_hand(x, axis, gate)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_computes_the_same_activations_in_training_and_evaluation(name):
    model, inputs = ARCHITECTURES[name]()
    with Oracle(model.train()) as trained:
        loss = loss_of(model(**inputs))
        forward = len(trained.calls)
        loss.backward()
    with Oracle(model.eval()) as evaluated, torch.no_grad():
        model(**inputs)
    seen = [[(call.op, call.module, call.line) for call in oracle.calls] for oracle in (trained, evaluated)]
    assert len(seen[0]) == forward
    assert seen[0] == seen[1]
    assert seen[0] or name == "esm"  # its gelu is written with torch.erf
    assert all("transformers" in call.line or call.kind in dir(nn) for call in trained.calls)
