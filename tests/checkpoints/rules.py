"""The published update rules, one number at a time in Python's floats: slow, and written without torch.

step(kind, settings, w, g, state) → the new w; `state` is a dict that is written to. Sources: Kingma & Ba 2015 (Adam,
Adamax), Reddi et al. 2018 (AMSGrad), Loshchilov & Hutter 2019 (AdamW), Dozat 2016 (NAdam), Liu et al. 2020 (RAdam),
Duchi et al. 2011 (Adagrad), Zeiler 2012 (Adadelta), Tieleman & Hinton 2012 (RMSprop), as torch's documentation states
them.
"""

from __future__ import annotations

import math


def step(kind, settings, w, g, state):
    lr, decay = settings["lr"], settings.get("weight_decay", 0.0)
    if settings.get("maximize"):
        g = -g
    if decay and (kind == "AdamW" or settings.get("decoupled_weight_decay")):
        w -= lr * decay * w
    elif decay:
        g += decay * w
    t = state["step"] = state.get("step", 0) + 1
    return _RULES[kind](settings, lr, w, g, state, t)


def _sgd(s, lr, w, g, state, t):
    mu = s.get("momentum", 0.0)
    if mu:
        first = "momentum_buffer" not in state
        state["momentum_buffer"] = b = g if first else mu * state["momentum_buffer"] + (1 - s.get("dampening", 0.0)) * g
        g = g + mu * b if s.get("nesterov") else b
    return w - lr * g


def _averages(s, g, state):
    a, b = s["betas"]
    state["exp_avg"] = m = a * state.get("exp_avg", 0.0) + (1 - a) * g
    state["exp_avg_sq"] = v = b * state.get("exp_avg_sq", 0.0) + (1 - b) * g * g
    return a, b, m, v


def _adam(s, lr, w, g, state, t):
    a, b, m, v = _averages(s, g, state)
    if s.get("amsgrad"):
        state["max_exp_avg_sq"] = v = max(state.get("max_exp_avg_sq", 0.0), v)
    return w - lr * m / (1 - a**t) / (math.sqrt(v / (1 - b**t)) + s["eps"])


def _nadam(s, lr, w, g, state, t):
    a, b, m, v = _averages(s, g, state)
    mu, following = (a * (1 - 0.5 * 0.96 ** (n * s["momentum_decay"])) for n in (t, t + 1))
    state["mu_product"] = product = state.get("mu_product", 1.0) * mu
    nesterov = following * m / (1 - product * following) + (1 - mu) * g / (1 - product)
    return w - lr * nesterov / (math.sqrt(v / (1 - b**t)) + s["eps"])


def _radam(s, lr, w, g, state, t):
    a, b, m, v = _averages(s, g, state)
    most = 2 / (1 - b) - 1
    length = most - 2 * t * b**t / (1 - b**t)
    m /= 1 - a**t
    if length <= 5:
        return w - lr * m
    rectified = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return w - lr * m * rectified * math.sqrt(1 - b**t) / (math.sqrt(v) + s["eps"])


def _rmsprop(s, lr, w, g, state, t):
    a = s["alpha"]
    state["square_avg"] = v = a * state.get("square_avg", 0.0) + (1 - a) * g * g
    if s.get("centered"):
        state["grad_avg"] = mean = a * state.get("grad_avg", 0.0) + (1 - a) * g
        v -= mean * mean
    g /= math.sqrt(max(v, 0.0)) + s["eps"]
    if s.get("momentum"):
        state["momentum_buffer"] = g = s["momentum"] * state.get("momentum_buffer", 0.0) + g
    return w - lr * g


def _adagrad(s, lr, w, g, state, t):
    state["sum"] = state.get("sum", s.get("initial_accumulator_value", 0.0)) + g * g
    return w - lr / (1 + (t - 1) * s["lr_decay"]) * g / (math.sqrt(state["sum"]) + s["eps"])


def _adamax(s, lr, w, g, state, t):
    a, b = s["betas"]
    state["exp_avg"] = m = a * state.get("exp_avg", 0.0) + (1 - a) * g
    state["exp_inf"] = u = max(b * state.get("exp_inf", 0.0), abs(g) + s["eps"])
    return w - lr * m / (1 - a**t) / u


def _adadelta(s, lr, w, g, state, t):
    rho, eps = s["rho"], s["eps"]
    state["square_avg"] = v = rho * state.get("square_avg", 0.0) + (1 - rho) * g * g
    before = state.get("acc_delta", 0.0)
    delta = math.sqrt(before + eps) / math.sqrt(v + eps) * g
    state["acc_delta"] = rho * before + (1 - rho) * delta * delta
    return w - lr * delta


_RULES = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _nadam,
    "RAdam": _radam,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adamax": _adamax,
    "Adadelta": _adadelta,
}
