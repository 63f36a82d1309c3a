"""Producers and unit axes, read from the graphs of real layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint
from zoo import BATCH, HEIGHT, INPUTS, LENGTH, TIME, UNITS, WIDTH

from deadneuron.measure.axes import reshaped
from deadneuron.measure.feeders import still_fed_by, trace

CASES = {}


def case(make):
    """A case returns (pre-activation, unit axis, feeder); its name is the test's."""
    CASES[make.__name__.replace("_", " ")] = make
    return make


def vectors(features=INPUTS):
    return torch.randn(BATCH, features)


def tokens(features=INPUTS):
    return torch.randn(BATCH, TIME, features)


def sequences(channels=INPUTS):
    return torch.randn(BATCH, channels, LENGTH)


def images(channels=INPUTS):
    return torch.randn(BATCH, channels, HEIGHT, WIDTH)


def volumes(channels=INPUTS):
    return torch.randn(2, channels, HEIGHT, WIDTH, LENGTH)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@case
def linear():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(vectors()), 1, layer.bias


@case
def linear_without_bias():
    layer = nn.Linear(INPUTS, UNITS, bias=False)
    return layer(vectors()), 1, layer.weight


@case
def linear_on_tokens():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(tokens()), 2, layer.bias


@case
def linear_on_tokens_without_bias():
    layer = nn.Linear(INPUTS, UNITS, bias=False)
    return layer(tokens()), 2, layer.weight


@case
def linear_on_as_many_tokens_as_units():
    layer = nn.Linear(INPUTS, TIME)
    return layer(tokens()), 2, layer.bias


@case
def linear_on_a_batch_of_one():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(torch.randn(1, 1, INPUTS)), 2, layer.bias


@case
def linear_without_a_batch_axis():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(torch.randn(INPUTS)), 0, layer.bias


@case
def linear_on_four_axes():
    layer = nn.Linear(INPUTS, UNITS)
    return layer(torch.randn(BATCH, HEIGHT, WIDTH, INPUTS)), 3, layer.bias


@case
def bilinear():
    layer = nn.Bilinear(INPUTS, 2, UNITS)
    return layer(vectors(), vectors(2)), 1, layer.bias


@case
def conv1d():
    layer = nn.Conv1d(INPUTS, UNITS, 3)
    return layer(sequences()), 1, layer.bias


@case
def conv1d_without_bias():
    layer = nn.Conv1d(INPUTS, UNITS, 3, bias=False)
    return layer(sequences()), 1, layer.weight


@case
def conv2d():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return layer(images()), 1, layer.bias


@case
def conv2d_without_bias():
    layer = nn.Conv2d(INPUTS, UNITS, 3, bias=False)
    return layer(images()), 1, layer.weight


@case
def conv2d_without_a_batch_axis():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return layer(torch.randn(INPUTS, HEIGHT, WIDTH)), 0, layer.bias


@case
def conv2d_in_channels_last():
    layer = nn.Conv2d(INPUTS, UNITS, 3).to(memory_format=torch.channels_last)
    return layer(images().to(memory_format=torch.channels_last)), 1, layer.bias


@case
def depthwise_conv2d():
    layer = nn.Conv2d(UNITS, UNITS, 3, groups=UNITS)
    return layer(images(UNITS)), 1, layer.bias


@case
def conv3d():
    layer = nn.Conv3d(INPUTS, UNITS, 3)
    return layer(volumes()), 1, layer.bias


@case
def transposed_conv1d():
    layer = nn.ConvTranspose1d(INPUTS, UNITS, 3)
    return layer(sequences()), 1, layer.bias


@case
def transposed_conv2d_without_bias():
    layer = nn.ConvTranspose2d(INPUTS, UNITS, 3, bias=False)
    return layer(images()), 1, layer.weight


@case
def embedding():
    layer = nn.Embedding(23, UNITS)
    return layer(torch.randint(23, (BATCH, TIME))), 2, layer.weight


@case
def experts_by_bmm():
    experts, features = 2, UNITS
    weight = nn.Parameter(torch.randn(experts, INPUTS, features))
    return torch.bmm(torch.randn(experts, BATCH, INPUTS), weight), 2, weight


@case
def experts_by_baddbmm():
    weight, bias = nn.Parameter(torch.randn(2, INPUTS, UNITS)), nn.Parameter(torch.randn(2, 1, UNITS))
    return torch.baddbmm(bias, torch.randn(2, BATCH, INPUTS), weight), 2, bias


@case
def a_matrix_from_the_left():
    weight = nn.Parameter(torch.randn(UNITS, INPUTS))
    return weight @ torch.randn(INPUTS, BATCH), 0, weight


@case
def a_matrix_times_a_vector():
    weight = nn.Parameter(torch.randn(UNITS, INPUTS))
    return weight @ torch.randn(INPUTS), 0, weight


@case
def a_bias_added_by_hand():
    bias = nn.Parameter(torch.randn(UNITS, 1, 1))
    return images(UNITS) + bias, 1, bias


# ── norms ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@case
def batch_norm_in_training():
    norm = nn.BatchNorm2d(UNITS)
    return norm(nn.Conv2d(INPUTS, UNITS, 3)(images())), 1, norm.bias


@case
def batch_norm_in_evaluation():
    norm = nn.BatchNorm2d(UNITS).eval()
    return norm(nn.Conv2d(INPUTS, UNITS, 3)(images())), 1, norm.bias


@case
def batch_norm_without_parameters_leaves_the_convolution():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return nn.BatchNorm2d(UNITS, affine=False)(layer(images())), 1, layer.bias


@case
def batch_norm_on_features():
    norm = nn.BatchNorm1d(UNITS)
    return norm(nn.Linear(INPUTS, UNITS)(vectors())), 1, norm.bias


@case
def layer_norm_on_tokens():
    norm = nn.LayerNorm(UNITS)
    return norm(nn.Linear(INPUTS, UNITS)(tokens())), 2, norm.bias


@case
def layer_norm_without_bias():
    norm = nn.LayerNorm(UNITS, bias=False)
    return norm(nn.Linear(INPUTS, UNITS)(tokens())), 2, norm.weight


@case
def group_norm():
    norm = nn.GroupNorm(UNITS, UNITS)
    return norm(nn.Conv2d(INPUTS, UNITS, 3)(images())), 1, norm.bias


@case
def instance_norm_with_parameters():
    norm = nn.InstanceNorm2d(UNITS, affine=True)
    return norm(nn.Conv2d(INPUTS, UNITS, 3)(images())), 1, norm.bias


@case
def instance_norm_without_parameters_leaves_the_convolution():
    layer = nn.Conv2d(INPUTS, UNITS, 3)
    return nn.InstanceNorm2d(UNITS)(layer(images())), 1, layer.bias


@case
def rms_norm_on_tokens():
    norm = nn.RMSNorm(UNITS)
    return norm(nn.Linear(INPUTS, UNITS)(tokens())), 2, norm.weight


@case
def weight_norm_without_bias():
    layer = parametrizations.weight_norm(nn.Conv1d(INPUTS, UNITS, 3, bias=False))
    return layer(sequences()), 1, layer.parametrizations.weight.original1


@case
def spectral_norm_without_bias():
    layer = parametrizations.spectral_norm(nn.Linear(INPUTS, UNITS, bias=False))
    return layer(tokens()), 2, layer.parametrizations.weight.original


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


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_the_producers_axis_and_parameter_are_found(make):
    x, axis, feeder = make()
    producer = trace(x)
    assert producer.feeder is feeder
    assert producer.axis == axis
    if feeder is not None:
        assert still_fed_by(x, producer.path, feeder)


def test_a_tensor_without_a_graph_has_no_producer():
    assert trace(nn.Linear(INPUTS, UNITS).requires_grad_(False)(vectors())) is None
    with torch.no_grad():
        assert trace(nn.Linear(INPUTS, UNITS)(vectors())) is None


def test_an_input_that_wants_its_own_gradient_is_no_parameter_of_a_layer():
    x = vectors(UNITS).requires_grad_()
    assert trace(x * 2) is None


def test_what_reentrant_checkpointing_hides_feeds_no_earlier_layer():
    first, second = nn.Linear(INPUTS, 2), nn.Linear(2, UNITS)
    x = checkpoint(second, first(vectors()), use_reentrant=True)
    producer = trace(x)
    assert producer.feeder is None
    assert producer.axis is None


def test_the_same_path_to_another_layer_is_not_the_same_feeder():
    one, other = nn.Linear(INPUTS, UNITS), nn.Linear(INPUTS, UNITS)
    x = one(vectors())
    path = trace(x).path
    assert still_fed_by(one(vectors()), path, one.bias)
    assert not still_fed_by(other(vectors()), path, one.bias)
    assert not still_fed_by(one(tokens()), path, one.bias), "tokens go through one more view"
    assert not still_fed_by(nn.Linear(INPUTS, UNITS, bias=False)(vectors()), path, one.bias)


def test_a_walk_through_an_endless_graph_ends():
    x = torch.ones(3, requires_grad=True)
    for _ in range(2000):
        x = x * 1.0
    assert trace(x) is None


@pytest.mark.parametrize(
    ("before", "after", "axis", "units", "expected"),
    [
        ((77, 5), (7, 11, 5), 1, 5, 2),
        ((7, 5, 13, 17), (7, 5, 221), 1, 5, 1),
        ((7, 5, 13, 17), (35, 13, 17), 1, 5, 0),
        ((1, 35, 13), (7, 5, 13), 1, 5, 1),
        ((7, 5, 1, 1), (7, 5), 1, 5, 1),
        ((7, 20, 13), (7, 5, 4, 13), 1, 20, 1),
        ((7, 11, 10), (7, 11, 2, 5), 2, 10, 3),
        ((7, 11, 5), (7, 55), 2, 5, 1),
        ((5,), (1, 5, 1), 0, 5, 1),
        ((7, 7, 7), (49, 7), 1, 7, 0),
        ((7, 7, 7), (49, 7), 2, 7, 1),
    ],
)
def test_a_reshape_carries_the_axis(before, after, axis, units, expected):
    assert reshaped(before, after, axis, units) == expected
