"""What each kind of evidence rests on and how reliable it is, in one sentence each; benchmarks/proof_checkpoints.py
measures the figures.
"""

from __future__ import annotations

SAYS = {
    "age": "age: estimated from how far Adam's first average has decayed beside its second; of units told "
    "100 steps or older 84-99 % were, and 0-2 % of such units were missed (five seeds)",
    "proof": "proof of life: a theorem on Adam's averages; no unit was ever older than it says",
    "never": "never: the optimizer's sums of squared gradients are exactly 0; a state that was reset, or made and not "
    "yet used, looks the same",
    "never momentum": "never: the momentum is exactly 0; so is one that was reset, or that stopped some 800 steps ago "
    "in a training that flushes denormals",
    "float16": "float16 holds no squares of small gradients, so that its zeros say nothing",
    "momentum": "age: estimated from the size of the momentum row beside that of the layer's middle row; of units told "
    "100 steps or older 81-99 % were, and none was missed (five seeds)",
    "momentum with decay": "age: estimated from the momentum across the weights, since the weight decay keeps the "
    "rest alive; behind batch norms it takes living units for old ones, so that it only raises doubt",
    "coupled": "the weight decay is part of the gradient, so that no state ever rests: it says nothing here",
    "norm": "closed: beta / |gamma| of the batch norm is below {limit:g}; a hint, and only for gates that close "
    "below 0",
    "certificate": "closed: no weight and no bias is above 0, so that inputs that are never negative cannot open it; "
    "this assumes that {previous} ends in a ReLU or another activation without negative values",
}
