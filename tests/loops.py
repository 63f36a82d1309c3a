"""Small models, optimizers and batches that tests train."""

from __future__ import annotations

import torch
from torch import nn
from zoo import BATCH, HEIGHT, INPUTS, NEVER, TIME, UNITS, WIDTH, thresholds_linear


def mlp():
    return nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.Linear(UNITS, UNITS), nn.GELU(), nn.Linear(UNITS, 2))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(INPUTS, UNITS, 3),
        nn.BatchNorm2d(UNITS),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
        nn.Conv2d(UNITS, 2, 3),
        nn.RReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 11, dropout=0.2, activation=nn.ReLU(), batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "mlp": (mlp, (BATCH, INPUTS)),
    "convolutional": (convolutional, (BATCH, INPUTS, HEIGHT, WIDTH)),
    "transformer": (transformer, (BATCH, TIME, 8)),
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=2),
}


class Thrower(nn.Module):
    """Raises in its forward when told to."""

    def __init__(self):
        super().__init__()
        self.fc, self.act, self.out = thresholds_linear([-9.0, NEVER, 0.0]), nn.ReLU(), nn.Linear(3, 2)
        self.error = None

    def forward(self, x):
        h = self.act(self.fc(x))
        if self.error is not None:
            raise self.error
        return self.out(h)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.0)


def batch():
    return torch.randn(BATCH, INPUTS)
