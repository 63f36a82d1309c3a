"""A KeyboardInterrupt anywhere: it reaches the user, and the next step is as if it had never come."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.overrides import TorchFunctionMode
from zoo import BATCH, INPUTS, step_once

import deadneuron


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act, self.head = nn.Linear(INPUTS, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        return F.silu(self.head(self.act(self.fc(x))))


class Mode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Interrupt:
    """Raises before the n-th line that is run of one file of deadneuron."""

    def __init__(self, file, n):
        self.file, self.left, self.came = file, n, False

    def __call__(self, frame, event, arg):
        return self._line if frame.f_code.co_filename.endswith(self.file) else None

    def _line(self, frame, event, arg):
        if event == "line":
            self.left -= 1
            if not self.left:
                self.came = True
                raise KeyboardInterrupt
        return self._line


@pytest.mark.filterwarnings("ignore::deadneuron.errors.DeadneuronWarning")
def test_an_interrupt_at_any_line_of_the_mode_leaves_it_not_on_the_stack_and_takes_none_of_the_users(run):
    model, mine = Layers(), Mode()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mine, deadneuron.watch(model, optimizer, run):
        step_once(model, optimizer, torch.randn(BATCH, INPUTS))
        n, came = 0, True
        while came:
            n += 1
            interrupt = Interrupt("measure/mode.py", n)
            before = sys.gettrace()
            sys.settrace(interrupt)
            try:
                model(torch.randn(BATCH, INPUTS))
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            came = interrupt.came
            step_once(model, optimizer, torch.randn(BATCH, INPUTS))
            assert torch._C._len_torch_function_stack() == 1, f"after an interrupt at line event {n}"
            assert torch._C._get_function_stack_at(0) is mine
    assert n > 10
