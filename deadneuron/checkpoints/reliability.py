"""What each kind of evidence rests on and how reliable it is, in one sentence each; benchmarks/proof_checkpoints.py
measures the figures.
"""

from __future__ import annotations

SAYS = {
    "age": "",
    "proof": "",
    "never": "",
    "never momentum": "",
    "float16": "",
    "momentum": "",
    "momentum with decay": "",
    "coupled": "",
    "norm": "{limit:g}",
    "certificate": "{previous}",
}
