"""Optimizers as trainings set them: the ones that replay knows, with and without what changes their rule."""

from __future__ import annotations

import torch

VARIANTS = {
    "SGD": ("SGD", {}),
    "SGD with L2": ("SGD", {"weight_decay": 5e-3}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "momentum with L2": ("SGD", {"momentum": 0.9, "weight_decay": 5e-3}),
    "dampening with L2": ("SGD", {"momentum": 0.8, "dampening": 0.3, "weight_decay": 5e-3}),
    "Nesterov with L2": ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}),
    "Adam": ("Adam", {}),
    "AMSGrad": ("Adam", {"amsgrad": True}),
    "Adam with L2": ("Adam", {"weight_decay": 1e-3}),
    "Adam maximizing": ("Adam", {"maximize": True, "betas": (0.8, 0.99)}),
    "AdamW": ("AdamW", {"weight_decay": 0.1}),
    "RMSprop": ("RMSprop", {}),
    "RMSprop with L2": ("RMSprop", {"weight_decay": 1e-3}),
    "centered RMSprop with momentum": ("RMSprop", {"centered": True, "momentum": 0.5}),
    "NAdam": ("NAdam", {}),
    "NAdam with L2": ("NAdam", {"weight_decay": 1e-3}),
    "NAdam, decoupled": ("NAdam", {"weight_decay": 1e-2, "decoupled_weight_decay": True}),
    "RAdam": ("RAdam", {}),
    "RAdam with L2": ("RAdam", {"weight_decay": 1e-3}),
    "Adagrad": ("Adagrad", {"lr_decay": 1e-3}),
    "Adagrad with L2": ("Adagrad", {"weight_decay": 1e-3}),
    "Adamax": ("Adamax", {}),
    "Adamax with L2": ("Adamax", {"weight_decay": 1e-3}),
    "Adadelta": ("Adadelta", {}),
    "Adadelta with L2": ("Adadelta", {"weight_decay": 1e-3}),
}

RATES = {
    **{"SGD": 0.5, "Adam": 1e-2, "AdamW": 1e-2, "RMSprop": 3e-3, "NAdam": 1e-2, "RAdam": 2e-2},
    **{"Adagrad": 5e-2, "Adamax": 2e-2, "Adadelta": 3.0},
}


def maker(name, **more):
    """parameters → the optimizer of that variant, at a rate at which units die."""
    kind, settings = VARIANTS[name]
    rate = 0.1 if settings.get("momentum") and kind == "SGD" else RATES[kind]
    return lambda parameters: getattr(torch.optim, kind)(parameters, **{"lr": rate, **settings, **more})
