"""Training scripts as people write them, unedited: what `run_script` and `deadneuron sweep` are given in tests."""

from __future__ import annotations

from pathlib import Path

HEAD = """
import torch
from torch import nn
import torch.nn.functional as F
torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(311, 7), torch.randint(3, (311,))
def mlp():
    return nn.Sequential(nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 11), nn.ReLU(), nn.Linear(11, 3))
def batch(step):
    at = torch.randint(311, (19,))
    return x[at], y[at]
"""

PLAIN = (
    HEAD
    + """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    a, b = batch(step)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(a), b)
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), OUT)
"""
)

CONVOLUTIONAL = (
    HEAD
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5)
        self.b, self.out = nn.Conv2d(5, 7, 3), nn.Linear(7, 3)
    def forward(self, *, images, scale=1.0):
        h = F.relu(self.n(self.a(images * scale)))
        return self.out(F.gelu(self.b(h)).mean((2, 3)))
images = torch.randn(53, 1, 9, 9)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(STEPS):
    at = torch.randint(53, (17,))
    loss = F.cross_entropy(model(images=images[at], scale=0.5), y[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), OUT)
"""
)

LATE_OPTIMIZER = (
    HEAD
    + """
model = mlp()
model(x[:3])
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(STEPS):
    a, b = batch(step)
    optimizer.zero_grad()
    F.cross_entropy(model(a), b).backward()
    optimizer.step()
torch.save(model.state_dict(), OUT)
"""
)

BY_HAND = (
    HEAD
    + """
model = mlp()
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() < 2]
optimizer = torch.optim.AdamW([{"params": decay}, {"params": rest, "lr": 0.002}], lr=0.01)
for step in range(STEPS):
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * min(1.0, (step + 1) / 8)
    a, b = batch(step)
    for half in (slice(0, 11), slice(11, 19)):
        loss = F.cross_entropy(model(a[half]), b[half]) / 2
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
torch.save(model.state_dict(), OUT)
"""
)

ONE_CYCLE = (
    HEAD
    + """
model = mlp()
optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": model[2:].parameters(), "lr": 0.2}], lr=0.1)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.1, 0.2], total_steps=STEPS)
for step in range(STEPS):
    a, b = batch(step)
    optimizer.zero_grad()
    F.cross_entropy(model(a), b).backward()
    optimizer.step()
    scheduler.step()
torch.save(model.state_dict(), OUT)
"""
)

GAN = (
    HEAD
    + """
G = nn.Sequential(nn.Linear(5, 17), nn.ReLU(), nn.Linear(17, 7))
D = nn.Sequential(nn.Linear(7, 13), nn.ReLU(), nn.Linear(13, 1))
g_optimizer = torch.optim.Adam(G.parameters(), lr=0.004)
d_optimizer = torch.optim.Adam(D.parameters(), lr=0.001)
one, zero = torch.ones(19, 1), torch.zeros(19, 1)
loss_of = nn.BCEWithLogitsLoss()
for step in range(STEPS):
    real, _ = batch(step)
    d_optimizer.zero_grad()
    d_loss = loss_of(D(real), one) + loss_of(D(G(torch.randn(19, 5)).detach()), zero)
    d_loss.backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    g_loss = loss_of(D(G(torch.randn(19, 5))), one)
    g_loss.backward()
    g_optimizer.step()
torch.save([G.state_dict(), D.state_dict()], OUT)
"""
)

SCALED = (
    HEAD
    + """
model = mlp()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
losses = []
for step in range(STEPS):
    a, b = batch(step)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(a), b)
    losses.append(loss.item())
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
torch.save(losses, OUT)
"""
)

OVERFLOWING = SCALED.replace("init_scale=1024.0", "init_scale=2.0**127").replace("loss = F.", "loss = 9 * F.")

COMPILED = PLAIN.replace("model = mlp()", "model = torch.compile(mlp(), backend='eager')").replace(
    "torch.save(model.", "torch.save(model._orig_mod."
)

CLOSURE = (
    HEAD
    + """
model = mlp()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
for step in range(STEPS):
    a, b = batch(step)
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(a), b)
        torch.autograd.backward([loss])
        return loss
    optimizer.step(closure)
torch.save(model.state_dict(), OUT)
"""
)

ARGUMENTS = (
    """
import argparse, sys
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, required=True)
parser.add_argument("--exit", type=int, default=0)
args = parser.parse_args()
"""
    + PLAIN.replace("range(STEPS)", "range(args.steps)").replace("OUT", "f'{args.steps}.pt'")
    + "sys.exit(args.exit)\n"
)

NO_OPTIMIZER = HEAD + "\nmodel = mlp()\nmodel(x).sum().backward()\n"
NO_STEP = PLAIN.replace("    optimizer.step()\n", "")
NO_ACTIVATION = PLAIN.replace("model = mlp()", "model = nn.Linear(7, 3)")
SEEDED_APART = PLAIN.replace("torch.manual_seed(0)", "g = torch.Generator().manual_seed(0)")
ALL_KINDS = {
    "plain": PLAIN,
    "convolutional": CONVOLUTIONAL,
    "late optimizer": LATE_OPTIMIZER,
    "by hand": BY_HAND,
    "one cycle": ONE_CYCLE,
    "gan": GAN,
    "scaled": SCALED,
    "compiled": COMPILED,
    "closure": CLOSURE,
}


def write_script(folder: Path, text: str, steps: int = 23, name: str = "train.py") -> Path:
    """Write a script that trains so many steps and saves its weights (or losses) as out.pt beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text.replace("STEPS", str(steps)).replace("OUT", repr(str(folder / "out.pt"))), "utf-8")
    return path
