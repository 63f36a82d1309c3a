"""Passes in several threads: one is counted at a time, the others are a gap, and nothing breaks."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from zoo import BATCH, INPUTS, UNITS

import deadneuron
from deadneuron.errors import DeadneuronWarning
from deadneuron.store.reader import read_folder


class Waiting(nn.Module):
    """Its forward begins, lets the other thread's forward run to its end, and goes on."""

    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(INPUTS, UNITS), nn.ReLU()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def forward(self, x, wait=False):
        if wait:
            self.entered.set()
            assert self.go_on.wait(20)
        return self.act(self.fc(x))


@pytest.mark.filterwarnings("ignore::deadneuron.errors.DeadneuronWarning")
def test_a_pass_beside_another_one_is_a_gap_and_the_first_is_counted_whole(run):
    model = Waiting()
    with deadneuron.watch(model, None, run, every=1) as monitor:
        thread = threading.Thread(target=lambda: model(torch.randn(BATCH, INPUTS), wait=True))
        thread.start()
        assert model.entered.wait(20)
        model(torch.randn(13, INPUTS))
        model.go_on.set()
        thread.join()
        monitor.step(lr=0.1)
        model(torch.randn(BATCH, INPUTS))
        monitor.step(lr=0.1)
    assert [gap.where for gap in monitor.gaps] == ["threads"]
    windows = read_folder(run).windows
    assert [window.rows for window in windows] == [BATCH, BATCH]
    assert len(read_folder(run).info.sites) == 1


@pytest.mark.filterwarnings("ignore::deadneuron.errors.DeadneuronWarning")
def test_two_busy_threads_break_nothing_and_count_no_row_that_was_not_there(run):
    model = nn.Sequential(nn.Linear(INPUTS, 101), nn.ReLU())
    errors = []

    def work():
        try:
            with torch.no_grad():
                for size in range(1, 200):
                    model(torch.randn(503 + size, INPUTS))
        except Exception as error:
            errors.append(error)

    with deadneuron.watch(model, None, run, every=1) as monitor:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        monitor.step(lr=0.1)
    assert errors == []
    (window,) = read_folder(run).windows
    rows = sum(503 + size for size in range(1, 200))
    assert 0 < window.rows <= 2 * rows
    assert window.histogram.sum() == 101 * window.rows
    assert (window.active <= window.rows).all()
    assert {gap.where for gap in monitor.gaps} <= {"threads"}
    assert window.rows == 2 * rows or monitor.gaps


class Held(nn.ReLU):
    """Its forward begins, lets another thread through, and only then asks torch for a ReLU."""

    def __init__(self):
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.hold = False

    def forward(self, x):
        if self.hold:
            self.hold = False
            self.entered.set()
            assert self.go_on.wait(20)
        return super().forward(x)


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(INPUTS, UNITS), Held()

    def forward(self, x):
        return self.act(self.fc(x))


@pytest.mark.filterwarnings("ignore::deadneuron.errors.DeadneuronWarning")
def test_a_thread_that_passes_through_an_activation_does_not_end_it_for_the_pass_that_is_counted(run):
    model = Around()
    options = {"every": 1, "activations": {"act": (0.0, float("inf"))}}
    with deadneuron.watch(model, None, run, **options) as monitor:
        model.act.hold = True
        thread = threading.Thread(target=lambda: model(torch.full((BATCH, INPUTS), 2.0)))
        thread.start()
        assert model.act.entered.wait(20)
        model(torch.full((13, INPUTS), 1e9))
        model.act.go_on.set()
        thread.join()
        monitor.step(lr=0.1)
    assert [site.name for site in monitor.sites] == ["act"], "the ReLU inside it is no site of its own"
    (window,) = read_folder(run).windows
    assert window.rows == BATCH
    assert window.magnitude.max() < 1e6, "what the other thread gave was not measured"


def test_a_training_in_another_thread_than_the_one_that_began_to_watch_is_counted(run):
    model = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU())
    with deadneuron.watch(model, None, run) as monitor:
        thread = threading.Thread(target=lambda: model(torch.randn(BATCH, INPUTS)))
        thread.start()
        thread.join()
        monitor.step(lr=0.1)
    assert monitor.gaps == ()
    assert [window.rows for window in read_folder(run).windows] == [BATCH]


def test_the_warning_class_is_public():
    assert issubclass(DeadneuronWarning, UserWarning)
