"""What of a model was not heard, and why, as far as it can be told."""

from __future__ import annotations

from deadneuron.measure import compiled
from deadneuron.measure.activations import function_name
from deadneuron.measure.functions import MODULES
from deadneuron.measure.probe import Probe

_NO_FORWARD = "never called as module(x): activations that its methods call as functions are not seen"


def unseen(probe: Probe) -> dict[str, str]:
    """Activations that were never seen, and why; the model where it may have functional ones and never ran."""
    names = [tap.name for tap in probe.taps if not tap.sites]
    names += [] if probe.modules or probe.counted else [type(probe.model).__name__]
    reasons = dict.fromkeys(names, _why(probe))
    if not probe.sites:  # it is blind as a whole, and the reasons above tell why
        return reasons
    inside = {part for module in probe.stack.heard for part in module.modules()}  # there all functions are seen
    for module, name in probe.names.items():
        wanted = module in probe.stack.unheard and module not in inside
        if wanted and any(function_name(name, one) in probe.choice for one in MODULES):
            reasons.setdefault(name or type(module).__name__, _NO_FORWARD)
    return reasons


def _why(probe: Probe) -> str:
    if probe.counted:
        return "never called while the model ran (a fused kernel may do its work)"
    wanted = " or ".join(sorted(probe.phases))
    if probe.passes:
        passes = f"all {probe.passes} passes of the model were in another mode, or inside torch.func"
        return f"never called in {wanted} mode: {passes}"
    others = "only model(x) calls hooks: not its methods, nor a program compiled, exported or scripted before"
    return f"never called in {wanted} mode; {others}"


def why_silent(probe: Probe, *, began: bool) -> str:
    """Why no hook was called since the last drain; nothing if one was, or if the training has just begun."""
    if not probe.on or probe.heard or probe.transformed:
        return ""
    compiled.ask_for_hooks(probe)
    # Made for another model with the same code, a program may be used for this one. Dropped once, for to compile in
    # every window would cost the training more than the counts are worth.
    if not probe.made_anew and compiled.forget_programs():
        probe.made_anew = True
        return "what torch.compile made is compiled anew, with the counters in it"
    return "its hooks are not called" if began else ""
