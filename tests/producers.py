"""Layers, norms and what may stand between them and an activation: (pre-activation, its unit axis, its feeder)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrizations
from zoo import BATCH, HEIGHT, INPUTS, LENGTH, TIME, UNITS, WIDTH

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
