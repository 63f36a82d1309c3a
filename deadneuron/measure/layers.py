"""Whether a function that is an activation in name is one of a layer, told by what feeds it."""

from __future__ import annotations

from torch import Tensor

from deadneuron.measure.feeders import Producer
from deadneuron.measure.functions import UNSURE


def why_no_layer(x: Tensor, producer: Producer | None, kind: str) -> str:
    """Why a function that is given `x` is no layer's activation; empty if it is one, or if no gradient can tell."""
    if not x.requires_grad:
        return ""
    if producer is None:
        return "it is not fed by a layer, but by parameters or by what nothing is known of"
    if producer.beyond:
        return "it is fed by another activation, not by a layer"
    if kind in UNSURE and producer.bent:
        return "a part of a formula: it is not judged by itself"
    return ""
