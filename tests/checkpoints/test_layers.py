"""Layers from names and shapes alone: planted modules whose rows are known, and what has none."""

from __future__ import annotations

import pytest
import torch
from checkpoints.making import checkpoint_of, stored
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from deadneuron.checkpoints.contents import Part
from deadneuron.checkpoints.evidence.layers import find_layers, left_out


def told(model):
    """{layer: (op, units, parts as name@axis, previous)}"""
    return {
        layer.name: (
            layer.op,
            layer.units,
            " ".join(f"{part.name}@{part.axis}" for part in layer.parts),
            layer.previous,
        )
        for layer in find_layers(checkpoint_of(model))
    }


def out(model):
    return {gap.where: gap.reason.partition(":")[0] for gap in left_out(checkpoint_of(model))}


def test_an_mlp_is_its_linear_layers_in_order():
    model = nn.Sequential(nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 13), nn.ReLU(), nn.Linear(13, 3, bias=False))
    assert told(model) == {
        "0": ("linear", 13, "0.bias@0 0.weight@0", None),
        "2": ("linear", 13, "2.bias@0 2.weight@0", "0"),
        "4": ("linear", 3, "4.weight@0", "2"),
    }
    assert out(model) == {}


def test_a_batch_norm_belongs_to_the_layer_before_it_and_takes_the_place_of_its_bias():
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 7), nn.BatchNorm1d(7)
    )
    assert told(model) == {
        "1": ("conv + norm", 5, "1.bias@0 1.weight@0", None),
        "5": ("linear + norm", 7, "5.bias@0 5.weight@0", "1"),
    }


@pytest.mark.parametrize(
    ("norm", "parts"),
    [
        (nn.LayerNorm(7), "norm.bias@0 norm.weight@0"),
        (nn.GroupNorm(1, 7), "norm.bias@0 norm.weight@0"),
        (nn.RMSNorm(7), "norm.weight@0"),
        (nn.InstanceNorm1d(7, affine=True), "norm.bias@0 norm.weight@0"),
    ],
)
def test_other_norms_stand_alone(norm, parts):
    model = nn.ModuleDict({"one": nn.Linear(3, 7), "norm": norm, "two": nn.Linear(7, 5)})
    found = told(model)
    assert found["one"] == ("linear", 7, "one.bias@0 one.weight@0", None)
    assert found["norm"] == ("norm", 7, parts, None)
    assert found["two"][3] is None  # a norm gives negative values too, unless a ReLU follows it


def test_norms_that_are_listed_after_several_layers_are_not_shared_out():
    model = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(7, 7, 3),
            "conv2": nn.Conv2d(7, 7, 3),
            "bn1": nn.BatchNorm2d(7),
            "bn2": nn.BatchNorm2d(7),
        }
    )
    assert {name: op for name, (op, *_) in told(model).items()} == {
        "conv1": "conv",
        "conv2": "conv",
        "bn1": "norm",
        "bn2": "norm",
    }


def test_a_batch_norm_of_another_size_stands_alone():
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 5, 3), "norm": nn.BatchNorm2d(11)})
    assert {name: op for name, (op, *_) in told(model).items()} == {"conv": "conv", "norm": "norm"}


class Conv1D(nn.Module):
    """[in, out], as GPT-2 has it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))


def test_units_lie_along_the_axis_that_the_bias_tells():
    model = nn.ModuleDict({"fc": Conv1D(7, 13), "square": Conv1D(13, 13), "up": nn.ConvTranspose2d(13, 5, 2)})
    assert told(model) == {
        "fc": ("linear", 13, "fc.bias@0 fc.weight@1", None),
        "square": ("linear", 13, "square.bias@0 square.weight@1", "fc"),
        "up": ("transposed conv", 5, "up.bias@0 up.weight@1", "square"),
    }


def test_a_square_weight_alone_has_its_units_along_the_first_axis():
    assert told(nn.ModuleDict({"square": nn.Linear(13, 13)}))["square"][2] == "square.bias@0 square.weight@0"


def test_weight_norm_has_exact_rows_in_both_halves_and_spectral_norm_in_its_bias_only():
    model = nn.ModuleDict(
        {
            "new": parametrizations.weight_norm(nn.Linear(3, 7)),
            "spectral": parametrizations.spectral_norm(nn.Linear(7, 11)),
            "old": spectral_norm(nn.Linear(11, 13)),
        }
    )
    found = told(model)
    weight = "new.parametrizations.weight.original"
    assert found["new"][2] == f"new.bias@0 {weight}0@0 {weight}1@0"
    assert found["spectral"][:3] == ("linear", 11, "spectral.bias@0")
    assert found["old"][:3] == ("linear", 13, "old.bias@0")


def test_what_has_no_rows_of_units_is_left_out_with_its_reason():
    model = nn.ModuleDict(
        {
            "wte": nn.Embedding(29, 7),
            "lstm": nn.LSTM(7, 5),
            "attention": nn.MultiheadAttention(6, 2),
            "q_proj": nn.Linear(7, 7),
            "act": nn.PReLU(7),
            "one": nn.Linear(7, 1),
            "grouped": nn.ConvTranspose2d(6, 9, 3, groups=3),
        }
    )
    assert told(model) == {}
    assert out(model) == {
        "wte": "an embedding",
        "lstm": "a recurrent cell",
        "attention": "a projection of attention",
        "attention.out_proj": "the output of attention",
        "q_proj": "a projection of attention",
        "act": "neither a weight with rows of units nor a norm",
        "one": "one unit only",
        "grouped": "a bias of 9 beside a weight of shape [6, 3, 3, 3]",
    }


def test_a_patch_embedding_has_units_though_its_name_says_embedding():
    assert told(nn.ModuleDict({"patch_embed": nn.Conv2d(3, 7, 2)}))["patch_embed"][0] == "conv"


def test_quantised_weights_and_masks_are_no_rows():
    weights = {
        "fc.weight": stored(torch.ones(7, 5, dtype=torch.int8)),
        "fc.bias": stored(torch.ones(7)),
        "attn.bias": stored(torch.ones(1, 1, 5, 5, dtype=torch.bool)),
        "proj.weight": stored(torch.ones(7, 5)),
        "proj.bias": stored(torch.ones(1, 1, 5, 5, dtype=torch.bool)),
        "scale": stored(torch.ones(())),
    }
    checkpoint = checkpoint_of(nn.ReLU(), weights=weights)
    assert [layer.parts for layer in find_layers(checkpoint)] == [(Part("proj.weight", 0),)]
    assert {gap.where: gap.reason for gap in left_out(checkpoint)} == {
        "fc": "its weights are int8: quantised",
        "attn": "neither a weight with rows of units nor a norm",
        "scale": "neither a weight with rows of units nor a norm",
    }


def test_the_transformers_libraries_layers():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=12, n_head=2, n_layer=1, vocab_size=31, n_positions=17, bos_token_id=None, eos_token_id=None
    )
    found = told(GPT2LMHeadModel(config))
    place = "transformer.h.0.mlp.c_fc"
    assert found[place] == ("linear", 48, f"{place}.bias@0 {place}.weight@1", None)
    assert [name for name in found if "attn" in name or "wte" in name or "lm_head" in name] == []


def test_without_the_models_order_only_names_pair_a_norm_with_its_layer():
    model = nn.ModuleDict(
        {
            "seq": nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 7, 3)),
            "conv1": nn.Conv2d(7, 11, 3),
            "bn1": nn.BatchNorm2d(11),
            "head": nn.Linear(11, 5),
            "out": nn.BatchNorm1d(5),
        }
    )
    whole = checkpoint_of(model)
    names = sorted(whole.weights)
    sorted_names = checkpoint_of(model, weights={name: whole.weights[name] for name in names}, ordered=False)
    assert {layer.name: (layer.op, layer.previous) for layer in find_layers(sorted_names)} == {
        "bn1": ("conv + norm", None),
        "head": ("linear", None),
        "out": ("norm", None),
        "seq.1": ("conv + norm", None),
        "seq.3": ("conv", None),
    }


class Bare(nn.Module):
    """x @ weight, without a bias."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))


def axes(model):
    """{layer: (units, axis of the weight)}"""
    return {layer.name: (layer.units, layer.parts[-1].axis) for layer in find_layers(checkpoint_of(model))}


def test_without_a_bias_the_layers_beside_tell_the_axis():
    straight = nn.Sequential(*(nn.Linear(*size, bias=False) for size in ((61, 101), (101, 67), (67, 7))))
    assert axes(straight) == {"0": (101, 0), "1": (67, 0), "2": (7, 0)}
    turned = nn.Sequential(Bare(61, 101), Bare(101, 67), Bare(67, 7))
    assert axes(turned) == {"0": (101, 1), "1": (67, 1), "2": (7, 1)}
    assert axes(nn.Sequential(nn.Linear(61, 101), Bare(101, 67), nn.Linear(67, 7)))["1"] == (67, 1)
    assert axes(nn.Sequential(nn.Linear(61, 101), nn.Linear(101, 67, bias=False), nn.Linear(67, 7)))["1"] == (67, 0)
    assert "0" not in axes(nn.Sequential(Bare(61, 101), nn.LayerNorm(101)))  # it may as well be an embedding
    assert axes(nn.Sequential(nn.Linear(7, 61), Bare(61, 101), nn.LayerNorm(101)))["1"] == (101, 1)
    assert axes(nn.Sequential(nn.Linear(61, 101, bias=False), nn.LayerNorm(101)))["0"] == (101, 0)
    assert axes(nn.Sequential(nn.Linear(13, 31), Bare(31, 1))) == {"0": (31, 0)}


def test_the_transposed_convolutions_of_a_generator_and_of_an_autoencoder():
    options = {"kernel_size": 4, "bias": False}
    generator = nn.Sequential(
        *(nn.ConvTranspose2d(11, 32, **options), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, **options), nn.BatchNorm2d(16), nn.ReLU()),
        nn.ConvTranspose2d(16, 3, **options),
    )
    assert {name: (op, units) for name, (op, units, *_) in told(generator).items()} == {
        "1": ("transposed conv + norm", 32),
        "4": ("transposed conv + norm", 16),
        "6": ("transposed conv", 3),
    }
    both = nn.Sequential(
        *(nn.Conv2d(3, 32, **options), nn.Conv2d(32, 64, **options)),
        *(nn.ConvTranspose2d(64, 32, **options), nn.ConvTranspose2d(32, 3, **options)),
    )
    assert axes(both) == {"0": (32, 0), "1": (64, 0), "2": (32, 1), "3": (3, 1)}


def test_grouped_convolutions_and_gated_mlps_are_left_as_they_stand():
    grouped = nn.Sequential(nn.Conv2d(3, 12, 3), nn.Conv2d(12, 12, 3, groups=4, bias=False))
    assert axes(grouped) == {"0": (12, 0), "1": (12, 0)}

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj = (nn.Linear(12, 37, bias=False) for _ in range(2))
            self.down_proj = nn.Linear(37, 12, bias=False)

    for norms in (True, False):
        blocks = [nn.Sequential(*[nn.RMSNorm(12)] * norms, Gated()) for _ in range(2)]
        found = axes(nn.Sequential(*blocks))
        assert {units for name, (units, _) in found.items() if "down" in name} == {12}
        assert {units for name, (units, _) in found.items() if "gate" in name or "up" in name} == {37}
        assert {axis for _, axis in found.values()} == {0}


def test_tables_of_entries_in_front_are_no_layers_whatever_they_are_called():
    one = nn.ModuleDict({"goods": nn.Embedding(1009, 31), "fc": nn.Linear(31, 61), "head": nn.Linear(61, 7)})
    assert list(told(one)) == ["fc", "head"]
    two = nn.ModuleDict({"goods": nn.Embedding(1009, 31), "people": nn.Embedding(503, 31), "fc": nn.Linear(62, 61)})
    assert list(told(two)) == ["fc"]
    assert set(out(two)) == {"goods", "people"}
    mixed = nn.ModuleDict({"goods": nn.Embedding(1009, 31), "people": nn.Embedding(503, 13), "fc": nn.Linear(44, 61)})
    assert list(told(mixed)) == ["fc"]


def test_sorted_names_settle_nothing():
    whole = checkpoint_of(nn.Sequential(Bare(61, 101), Bare(101, 67)))
    found = find_layers(checkpoint_of(nn.ReLU(), weights=whole.weights, ordered=False))
    assert [layer.parts[-1].axis for layer in found] == [0, 0]


def wide(**modules):
    return nn.ModuleDict(modules)


def linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        # DenseNet: the norm behind is that of all channels so far.
        (nn.Sequential(nn.BatchNorm2d(29), nn.Conv2d(29, 7, 3, bias=False), nn.BatchNorm2d(29)), "1"),
        # A bottleneck's shortcut is listed last, behind a block that is as wide as its inputs.
        (nn.Sequential(nn.Conv2d(13, 13, 3), nn.Conv2d(29, 13, 1, bias=False), nn.BatchNorm2d(29)), "1"),
        # Swin: the norm before the reduction is listed behind it.
        (wide(mlp=nn.Linear(37, 13), reduction=linear(53, 29), norm=nn.LayerNorm(53)), "reduction"),
        # Phi-3: a fused gate and up, both norms listed last; attention stands before it.
        (wide(emb=nn.Embedding(7, 13), q_proj=linear(13, 13), up=linear(13, 58), norm=nn.RMSNorm(13)), "up"),
        # CLIP: projections of two towers side by side, nothing behind the last.
        (wide(norm=nn.LayerNorm(53), vision=linear(53, 29), text=linear(37, 29)), "text"),
        # A router beside a gated MLP.
        (wide(tokens=nn.Embedding(7, 53), router=linear(53, 5), gate=linear(53, 29), up=linear(53, 29)), "router"),
        # A projection whose inputs do not stand beside it, in a model that was not written as x @ weight.
        (wide(a=linear(5, 11), b=linear(11, 17), c=nn.Linear(3, 23), d=linear(41, 23), e=nn.LayerNorm(41)), "d"),
    ],
)
def test_what_stands_beside_by_chance_turns_no_axis(model, name):
    (own,) = (layer for layer in find_layers(checkpoint_of(model)) for part in layer.parts if name in part.name)
    assert (own.units, own.parts[-1].axis) == (model.state_dict()[f"{name}.weight"].shape[0], 0)


def test_gate_and_up_at_the_front_are_no_tables_though_down_takes_as_much_as_both_give():
    gated = nn.ModuleDict({"gate": linear(13, 26), "up": linear(13, 26), "down": linear(26, 13)})
    assert {name: units for name, (units, _) in axes(gated).items()} == {"gate": 26, "up": 26, "down": 13}
