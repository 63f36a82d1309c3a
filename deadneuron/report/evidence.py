"""What the evidence of checkpoints is called, what each kind can say, and what none of them can."""

from __future__ import annotations

from deadneuron.records import Diagnosis

MEASURED = "measured"
"""`Verdict.evidence` of units that were counted on the user's data."""

_MEANINGS = {
    "replay": "repeating the updates from the checkpoint before with zero gradients gives this one's rows: bit for bit "
    "in the optimizer's state, but for rounding in the weights",
    "optimizer state": "moments that are exactly zero had no gradient ever; from how far others have decayed follows "
    "the age of the last one, an estimate",
    "weights": "units that weights and biases alone hold closed: others may be dead too",
    MEASURED: "the network was run on your examples with each checkpoint's weights",
}

_CAVEAT = (
    "no gradient since step ≤ s is what weights and optimizer state can say. That it is a dead unit holds where a "
    "gated activation stands behind the layer; masked losses, a dead next layer and outgoing weights of zero look "
    "alike."
)


def kinds_of(diagnosis: Diagnosis) -> list[str]:
    """The kinds of evidence that its verdicts name, each once, in the order in which they are told."""
    kinds = list(dict.fromkeys(verdict.evidence for verdict in diagnosis.verdicts if verdict.evidence))
    order = list(_MEANINGS)
    return sorted(kinds, key=lambda kind: order.index(kind) if kind in order else len(order))


def meaning(kind: str) -> str:
    """What a kind of evidence says; empty for one that is not known here.

    >>> meaning("tea leaves")
    ''
    """
    return _MEANINGS.get(kind, "")


def caveat(diagnosis: Diagnosis) -> str:
    """What weights cannot say, where units are called dead or silent by them; else empty."""
    told = any(v.evidence not in ("", MEASURED) and (v.dead or v.silent) for v in diagnosis.verdicts)
    return _CAVEAT if diagnosis.source == "checkpoints" and told else ""
