"""What may stand between a layer and an activation: the cases of `producers`, continued."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from producers import case, images, sequences, tokens, vectors
from torch import nn
from zoo import BATCH, INPUTS, LENGTH, TIME, UNITS

from deadneuron.measure.axes import NO_AXIS

# ── on the way ───────────────────────────────────────────────────────────────────────────────────────────────────────


@case
def through_a_view():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(torch.randn(BATCH * TIME, INPUTS)).view(BATCH, TIME, UNITS), 2, layer.bias


@case
def through_channels_moved_to_the_end():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return layer(images()).permute(0, 2, 3, 1), 3, layer.bias


@case
def through_channels_moved_to_the_front():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens()).transpose(1, 2), 1, layer.bias


@case
def through_a_transposed_matrix():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(vectors()).t(), 0, layer.bias


@case
def through_max_pooling():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return F.max_pool2d(layer(images()), 2), 1, layer.bias


@case
def through_pooling_to_one_and_flatten():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return F.adaptive_avg_pool2d(layer(images()), 1).flatten(1), 1, layer.bias


@case
def through_a_mean_over_tokens():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens()).mean(1), 1, layer.bias


@case
def through_a_maximum_over_the_batch():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens()).amax(0), 1, layer.bias


@case
def through_a_selected_token():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens())[:, 0], 1, layer.bias


@case
def through_unbound_tokens():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens()).unbind(1)[3], 1, layer.bias


@case
def through_dropout_and_scaling():
    layer = nn.Linear(INPUTS, UNITS)
    return F.dropout(layer(tokens()), 0.5) * 0.1, 2, layer.bias


@case
def through_padding_and_slicing():
    layer = nn.Conv1d(INPUTS, UNITS, 3)
    return F.pad(layer(sequences()), (1, 2))[..., 3:], 1, layer.bias


@case
def through_interpolation():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return F.interpolate(layer(images()), scale_factor=2), 1, layer.bias


@case
def through_a_chunk():
    layer = nn.Linear(INPUTS, 2 * UNITS)
    return layer(tokens()).chunk(2, -1)[1], 2, layer.bias


@case
def through_heads():
    layer = nn.Linear(INPUTS, 2 * UNITS)
    return layer(tokens()).view(BATCH, TIME, 2, UNITS), 3, layer.bias


@case
def through_a_pixel_shuffle():
    layer = nn.Conv2d(INPUTS, UNITS * 4, 3)
    return F.pixel_shuffle(layer(images()), 2), 1, layer.bias


@case
def through_an_unsqueeze():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(vectors())[:, None, :, None], 2, layer.bias


@case
def through_broadcasting():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(vectors()) + torch.randn(TIME, 1, 1), 2, layer.bias


@case
def through_a_residual_add():
    first, second = nn.Conv2d(INPUTS, UNITS, 1), nn.Conv2d(UNITS, UNITS, 1)
    h = F.relu(first(images()))
    return second(h) + h, 1, second.bias


@case
def through_a_residual_add_the_other_way_round():
    first, second = nn.Conv2d(INPUTS, UNITS, 1), nn.Conv2d(UNITS, UNITS, 1)
    h = F.relu(first(images()))
    return h + second(h), 1, second.bias


@case
def through_a_function_of_the_users():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    layer = nn.Conv1d(INPUTS, UNITS, 3)
    return Twice.apply(layer(sequences())), 1, layer.bias


@case
def under_autocast():
    layer = nn.Linear(INPUTS, UNITS)
    with torch.autocast("cpu", torch.bfloat16):
        return layer(tokens()), 2, layer.bias


@case
def convolution_under_autocast_without_bias():
    layer = nn.Conv2d(INPUTS, UNITS, 3, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        return layer(images()), 1, layer.weight


# ── frozen ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@case
def a_frozen_linear_behind_a_trained_convolution():
    layer = nn.Linear(LENGTH, UNITS).requires_grad_(False)
    return layer(nn.Conv1d(INPUTS, BATCH, 1)(sequences())), 2, None


@case
def a_frozen_convolution_behind_a_trained_linear():
    layer = nn.Conv1d(INPUTS, UNITS, 1).requires_grad_(False)
    return layer(nn.Linear(LENGTH, LENGTH)(sequences())), 1, None


@case
def an_adapter_beside_a_frozen_linear():
    norm, frozen = nn.LayerNorm(INPUTS), nn.Linear(INPUTS, UNITS).requires_grad_(False)
    down, up = nn.Linear(INPUTS, 2, bias=False), nn.Linear(2, UNITS, bias=False)
    x = norm(tokens())
    return frozen(x) + up(down(x)) * 0.5, 2, up.weight


@case
def a_frozen_batch_norm_leaves_the_convolution():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return nn.BatchNorm2d(UNITS).requires_grad_(False)(layer(images())), 1, layer.bias


@case
def attention_over_values():
    project = nn.Linear(INPUTS, 3 * UNITS)
    q, k, v = project(tokens()).chunk(3, -1)
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0], 2, None


# ── axes that go, and axes that come ─────────────────────────────────────────────────────────────────────────────────

REDUCTIONS = {
    "std": lambda x: x.std(-1),
    "var": lambda x: x.var(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "norm": lambda x: x.norm(dim=-1),
    "median": lambda x: x.median(-1).values,
    "kthvalue": lambda x: x.kthvalue(1, -1).values,
    "prod": lambda x: x.prod(-1),
    "mode": lambda x: x.mode(-1).values,
}


def _reduced(name):
    def make():
        layer = nn.Conv1d(INPUTS, UNITS, 3)
        return REDUCTIONS[name](layer(sequences())), 1, layer.bias

    make.__name__ = f"reduced_by_{name}"
    return make


for _name in REDUCTIONS:
    case(_reduced(_name))


@case
def through_a_stack():
    layer, other = nn.Conv1d(INPUTS, UNITS, 3), nn.Conv1d(INPUTS, UNITS, 3)
    return torch.stack([layer(x := sequences()), other(x)], -1), 1, layer.bias


@case
def through_sliding_windows():
    layer = nn.Conv1d(INPUTS, UNITS, 3)
    return layer(sequences()).unfold(2, 3, 1), 1, layer.bias


@case
def a_head_of_one_unit_that_is_squeezed():
    layer = nn.Linear(INPUTS, 1)
    return layer(vectors()).squeeze(-1), NO_AXIS, layer.bias


@case
def a_head_of_one_unit_that_is_indexed():
    layer = nn.Linear(INPUTS, 1)
    return layer(tokens())[..., 0] * 2, NO_AXIS, layer.bias


@case
def a_skip_connection_from_an_activation_feeds_less_than_the_branch():
    first, second = nn.Linear(INPUTS, UNITS), nn.Linear(UNITS, UNITS)
    h = first(vectors()).relu()
    return h + nn.functional.dropout(second(h), 0.5), 1, second.bias
