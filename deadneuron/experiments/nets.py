"""Small nets for experiments, built from a few words."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from deadneuron.errors import UsageError
from deadneuron.measure.gates import GATES


def build_mlp(
    inputs: int,
    outputs: int,
    *,
    width: int,
    depth: int,
    activation: str,
    norm: str,
    init: str,
    generator: torch.Generator,
) -> nn.Sequential:
    """A multilayer perceptron whose parts are named `layer1.linear`, `layer1.norm`, `layer1.act` … `head`.

    activation: a class of torch.nn that deadneuron can watch, by name. norm: "none", "batch" or "layer". init: "he"
    (normal with variance 2/fan_in, biases 0) or "default" (PyTorch's own: weights and biases uniform within 1/√fan_in).
    Raises `UsageError` for others.
    """
    norms = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
    if norm not in norms:
        raise UsageError("unknown norm", where=norm, todo=f"choose one of {', '.join(norms)}")
    make_activation = find_activation(activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, depth + 1):
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["linear"] = _linear(inputs, width, init, generator)
        make_norm = norms[norm]
        if make_norm is not None:
            parts["norm"] = make_norm(width)
        parts["act"] = make_activation()
        layers[f"layer{number}"] = nn.Sequential(parts)
        inputs = width
    layers["head"] = _linear(inputs, outputs, init, generator)
    return nn.Sequential(layers)


def find_activation(name: str) -> type[nn.Module]:
    """The activation of torch.nn of that name. Raises `UsageError` for one that cannot be watched, or needs numbers."""
    kinds = {kind.__name__: kind for kind in GATES if kind is not nn.Threshold}
    if name not in kinds:
        raise UsageError("unknown activation", where=name, todo=f"choose one of {', '.join(kinds)}")
    return kinds[name]


def _linear(inputs: int, outputs: int, init: str, generator: torch.Generator) -> nn.Linear:
    # Drawn from our own generator: building an experiment's net leaves the caller's random numbers alone.
    with torch.device("meta"):
        linear = nn.Linear(inputs, outputs)
    linear = linear.to_empty(device="cpu")
    if init == "he":
        nn.init.normal_(linear.weight, std=(2 / inputs) ** 0.5, generator=generator)
        nn.init.zeros_(linear.bias)
    elif init == "default":
        nn.init.uniform_(linear.weight, -(inputs**-0.5), inputs**-0.5, generator=generator)
        nn.init.uniform_(linear.bias, -(inputs**-0.5), inputs**-0.5, generator=generator)
    else:
        raise UsageError("unknown init", where=init, todo="choose he or default")
    return linear
