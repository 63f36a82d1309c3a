"""What each kind of evidence rests on and how reliable it is, in one sentence each.

The figures are those of docs/proof/2026-11-25-checkpoints-evidence.md (benchmarks/proof_checkpoints.py): three small
nets on the digits, 24 optimizers, seeds that no rule was made on. Other nets may do worse.
"""

from __future__ import annotations

SAYS = {
    "age": "age: estimated from how far the optimizer's first average has decayed beside its second; in our proofs 90 "
    "to 100 % of the units told to be 100 steps old were, about 99 % of those that were are found, and the median "
    "error is 2 to 31 steps",
    "proof": "proof of life: a theorem on the optimizer's averages, and none of 26,784 units that it proved alive in "
    "our proofs was anything else",
    "never": "never: the optimizer's sums of squared gradients are exactly 0 (none wrong and none missed in our "
    "proofs); a state that was reset, or made and not yet used, looks the same",
    "never momentum": "never: the momentum is exactly 0 (none wrong and none missed in our proofs); so is one that was "
    "reset, or that stopped some 800 steps ago in a training that flushes denormals",
    "float16": "float16 holds no squares of small gradients, so that zeros in it do not say that there never was one",
    "momentum": "age: estimated from the size of the momentum row beside that of the layer's middle row; in our proofs "
    "84 to 97 % of the units told to be 100 steps old were, and all of those that were are found; the others are live "
    "units with small gradients",
    "momentum with decay": "age: a weak hint from the momentum across the weights, since the weight decay keeps the "
    "rest alive; in our proofs 88 to 99 % of the units told to be 100 steps old were in plain nets, but none of 101 in "
    "one with batch norms",
    "coupled": "the weight decay is part of the gradient, so that no state ever rests: it says nothing here",
    "norm": "closed: beta / |gamma| of the batch norm is below {limit:g}; a hint for gates that close below 0: in our "
    "proofs 67 to 100 % of the units told were positive on no image, and 43 to 100 % of those that were are found",
    "certificate": "closed: no weight and no bias is above 0, so that inputs that are never negative cannot open it; "
    "certain if {previous} ends in a ReLU or another activation without negative values, but it finds hardly any dead "
    "unit (at most 3 % in our proofs)",
}
