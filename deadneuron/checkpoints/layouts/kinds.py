"""The class of an optimizer, told by the keys of its settings and of its states.

A checkpoint names no class. The tables below are the keys that every class of torch.optim (2.10 … 2.13) writes, and
those that older versions of them lacked. An optimizer with a key beyond them is another one (SAM, LAMB, Lion …), or one
that somebody changed: it has no class here, because a replay with the wrong rule would tell nonsense.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Of the implementation, not of the rule.
_COMMON = frozenset({"lr", "maximize", "foreach", "capturable", "differentiable", "fused", "weight_decay"})

NOTES = frozenset(
    {
        *("params", "param_names", "name", "group_name", "lr_scale", "lr_mult", "decay_mult", "layer_decay"),
        *("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr", "label"),
    }
)
"""What schedulers and users write into groups: no part of any optimizer's rule."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    needs: frozenset[str]  # settings that tell this class from others
    may: frozenset[str]  # settings that it may have besides
    state: frozenset[str]  # what it may keep of a parameter
    keeps: frozenset[str] = frozenset()  # what it keeps of every parameter that it has updated


def _kind(name: str, needs: str, may: str, state: str, keeps: str = "") -> _Kind:
    return _Kind(name, *(frozenset(keys.split()) for keys in (needs, may, state, keeps or state)))


_KINDS = (
    _kind("SGD", "momentum dampening nesterov", "", "momentum_buffer", " "),
    _kind(
        "Adam", "betas eps amsgrad", "decoupled_weight_decay", "step exp_avg exp_avg_sq max_exp_avg_sq", "exp_avg_sq"
    ),
    _kind("NAdam", "betas eps momentum_decay", "decoupled_weight_decay", "step mu_product exp_avg exp_avg_sq"),
    _kind("Adamax", "betas eps", "", "step exp_avg exp_inf"),
    # "foreach" is of the implementation, but tells torch's RAdam from all that have Adam's keys without amsgrad.
    _kind("RAdam", "betas eps foreach", "decoupled_weight_decay", "step exp_avg exp_avg_sq"),
    _kind("Adagrad", "lr_decay eps initial_accumulator_value", "", "step sum"),
    _kind("Adadelta", "rho eps", "", "step square_avg acc_delta"),
    _kind("ASGD", "lambd alpha t0", "", "step eta mu ax"),
    _kind("RMSprop", "alpha eps centered momentum", "", "step square_avg momentum_buffer grad_avg", "step square_avg"),
    _kind("Rprop", "etas step_sizes", "", "step prev step_size"),
    _kind("Muon", "ns_steps ns_coefficients momentum nesterov eps", "adjust_lr_fn", "momentum_buffer"),
    _kind("Adafactor", "beta2_decay d eps", "", "step row_var col_var variance", "step"),
    _kind(
        "LBFGS",
        "max_iter max_eval history_size tolerance_grad tolerance_change",
        "line_search_fn",
        "func_evals n_iter d t old_dirs old_stps ro H_diag prev_flat_grad prev_loss al",
        "n_iter",
    ),
)

SCALARS = frozenset({"step", "mu_product", "eta", "mu", "n_iter", "func_evals"})
"""What an optimizer keeps of a parameter as one number, whatever the parameter's shape."""

LIKE_PARAMETER = frozenset(
    {
        *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg"),
        *("acc_delta", "sum", "ax", "prev", "step_size", "state1", "state2", "old_p", "slow_param", "exp_avg_diff"),
    }
)
"""What has the shape of its parameter. 8-bit states have it too."""


def kind_of(groups: Sequence[Mapping[str, Any]], states: Sequence[Collection[str]]) -> tuple[str | None, str]:
    """(class of torch.optim, "") or (None, why it is not told). "AdamW" is every Adam with decoupled weight decay.

    `groups` are the settings as they lie in the file, `states` the keys of each parameter's state.
    """
    if quantised := sorted({key for state in states for key in state} & {"qmap1", "absmax1", "state1", "qmap"}):
        return None, f"its state is quantised ({', '.join(quantised)})"
    if not groups:
        return None, "it has no parameter groups"
    closest = ""
    for kind in _KINDS:
        if not all(kind.needs <= group.keys() for group in groups):
            continue
        strange = {str(key) for group in groups for key in group} - kind.needs - kind.may - _COMMON - NOTES
        foreign = {str(key) for state in states for key in state} - kind.state
        if strange or foreign:
            if not closest and len(kind.needs) > 2:  # two are too common to say what it was meant to be
                closest = f"it is no {kind.name} of torch.optim: it also has {', '.join(sorted(strange | foreign))}"
            continue
        if any(not kind.keeps <= set(state) for state in states):
            continue
        if kind.name in {"Adamax", "RAdam"} and not states:
            continue  # Lion, LAMB and others have the same settings: only the state tells
        return _decoupled(groups) if kind.name == "Adam" else (kind.name, "")
    keys = sorted({str(key) for group in groups for key in group} - _COMMON - NOTES)
    return None, closest or f"no optimizer of torch.optim has the settings {', '.join(keys) or 'that it has'}"


def _decoupled(groups: Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
    said = {group.get("decoupled_weight_decay") for group in groups}
    if said == {True}:
        return "AdamW", ""
    # Before torch 2.7 neither class wrote which it is. Without decay the two do the same.
    if said == {False} or all(group.get("weight_decay") == 0 for group in groups):
        return "Adam", ""
    if said == {None}:
        return None, "it is Adam or AdamW: files of torch before 2.7 do not tell which, and weight decay is not 0"
    return None, "some of its groups are Adam's and some AdamW's"
