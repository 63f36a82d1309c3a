"""Reads every file of a folder in a process of little memory; tells in JSON what came of each.

python judging.py FOLDER NAMES.json SPARE_BYTES
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import torch

from deadneuron.checkpoints.contents import Stored
from deadneuron.checkpoints.files.reading import read_tree
from deadneuron.errors import CheckpointError


def limit_memory(spare: int) -> None:
    """From here on the process may take so many bytes of address space more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def most_memory(anew: bool = False) -> int:
    """The most bytes that were resident at once, from now on if `anew`."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def read_all(tree: object) -> None:
    """Reads every tensor of the tree, walking through it as simply as can be."""
    if isinstance(tree, Stored):
        tree.read(0, tree.length)
    elif isinstance(tree, dict):
        for value in tree.values():
            read_all(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            read_all(value)


def judge(path: Path, allow: tuple[str, ...] = ()) -> tuple[str, str]:
    """("read" | "refused" | "crashed", the message)."""
    try:
        read_all(read_tree(path, allow).root)
    except CheckpointError as error:
        return "refused", str(error)
    except BaseException as error:
        return "crashed", f"{type(error).__name__}: {error}"
    return "read", ""


def main() -> None:
    folder, names, spare = sys.argv[1:]
    torch.set_num_threads(1)
    torch.ones(3).sum()
    limit_memory(int(spare))
    before = most_memory(anew=True)
    outcomes = {}
    for name in json.loads(Path(names).read_text()):
        began = time.monotonic()
        outcome = judge(Path(folder, name))
        outcomes[name] = (*outcome, time.monotonic() - began)
    print(json.dumps({"outcomes": outcomes, "grown": most_memory() - before}))


if __name__ == "__main__":
    main()
