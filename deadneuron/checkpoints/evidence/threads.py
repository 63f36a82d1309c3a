"""Torch works in one thread for as long as rows are judged.

Rows come in blocks that fit a core's cache, and an operation on one takes microseconds. Torch would share it out to
all cores (square roots from 2048 entries on), and where other processes keep those busy, waiting for the other threads
takes a hundred times as long as the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's number of threads is 1 inside, and afterwards what it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
