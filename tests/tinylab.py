"""A lab small enough for a test: a few steps of narrow nets, judged by a profile of few steps."""

from __future__ import annotations

from pathlib import Path

TINY = """
[lab]
title = "Tiny"
claim = "Something."
source = "nowhere"
layers = ["each", "all"]
columns = ["zero_at_start", "dead", "set_never", "revived", "loss", "diverged"]
[data]
test = 997
[training]
steps = {steps}
batch = 19
look = 7
profile = "quick.toml"
[net]
width = 13
[grid]
lr = {lr}
depth = 2
seed = {seed}
{more}
"""
QUICK = "[sampling]\nwindow = 5\nevery = 3\n[thresholds]\npatience = 11\nsamples = 97\n"


def write_tiny(folder: Path, *, steps: int = 29, lr: str = "[0.1, 3.1]", seed: str = "[0, 1]", more: str = "") -> Path:
    """Write the lab and its profile into a folder and give the lab's path; `more` stands at the end of its grid."""
    (folder / "quick.toml").write_text(QUICK)
    path = folder / "tiny.toml"
    path.write_text(TINY.format(steps=steps, lr=lr, seed=seed, more=more))
    return path
