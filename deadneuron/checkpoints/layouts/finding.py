"""All checkpoints that a user means: files, folders, folders of folders, patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from deadneuron.checkpoints.contents import Checkpoint
from deadneuron.checkpoints.layouts.folders import SHARD, is_checkpoint, is_read, lies_beside
from deadneuron.checkpoints.layouts.foreign import decline_file, decline_folder
from deadneuron.checkpoints.layouts.names import natural
from deadneuron.checkpoints.layouts.opening import SUFFIXES, open_checkpoint
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap

_DEPTH = 3  # folders below the given one: lightning_logs/version_0/checkpoints
_COPIES = re.compile(r"(?i)(?:^|[^a-z])(?:last|latest|best|final|current)(?:[^a-z]|$)")


@dataclass(frozen=True, slots=True)
class Series:
    """Checkpoints of one model in order of steps; those whose step nothing tells stand in the order of their names."""

    checkpoints: tuple[Checkpoint, ...]
    gaps: tuple[Gap, ...]  # what was left out, and why


def find_checkpoints(
    places: str | Path | Iterable[str | Path], allow: Collection[str] = (), steps_per_epoch: int | None = None
) -> Series:
    """Opens what `places` name: checkpoints of one architecture, each step once. Reads no weights.

    steps_per_epoch: updates; gives a step to those that tell only their epoch.

    Raises `CheckpointError` where nothing is found, or where nothing of what is found can be read.
    """
    given = [places] if isinstance(places, str | Path) else list(places)
    gaps: list[Gap] = []
    candidates = list(dict.fromkeys(path for place in given for path in _expand(Path(place), gaps)))
    if not candidates:
        listed = ", ".join(map(str, given)) or "nothing"
        skipped = f"; left out: {gaps[0].where}, because {gaps[0].reason}" if gaps else ""
        todo = f"looked for folders of transformers or Accelerate and files that end in {', '.join(SUFFIXES)}{skipped}"
        raise CheckpointError("neither a run nor a checkpoint is here", where=listed, todo=todo)
    opened: list[Checkpoint] = []
    failure: CheckpointError | None = None
    for path in candidates:
        try:
            opened.append(_with_step(open_checkpoint(path, allow), steps_per_epoch))
        except CheckpointError as error:
            failure = failure or error
            gaps.append(Gap(str(path), f"it is not read: {error.what}{f': {error.todo}' if error.todo else ''}", 0))
    if not opened and failure is not None:
        if len(candidates) == 1:
            raise failure
        what = f"none of {len(candidates)} checkpoints can be read; the first: {failure.what}"
        raise CheckpointError(what, where=failure.where, todo=failure.todo)
    one_model = _one_architecture(opened, gaps)
    return Series(tuple(_each_step_once(one_model, gaps)), tuple(gaps))


def _with_step(one: Checkpoint, steps_per_epoch: int | None) -> Checkpoint:
    if one.step is not None or one.epoch is None or steps_per_epoch is None:
        return one
    told = f"epoch {one.epoch} of {steps_per_epoch:,} updates"
    return replace(one, step=one.epoch * steps_per_epoch, step_from=told)


def _expand(path: Path, gaps: list[Gap]) -> list[Path]:
    """The files and folders that a place stands for, each one checkpoint."""
    try:
        if path.is_dir():
            return _in_folder(path, gaps)
        if path.exists():
            return [path]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"it cannot be read ({error})", where=str(path)) from None
    if glob.has_magic(str(path)):
        matches = sorted(glob.glob(str(path)), key=natural)
        inside = [found for match in matches for found in _expand_match(Path(match), gaps)]
        if not matches:
            raise CheckpointError("no file fits this pattern", where=str(path), todo="check the pattern")
        return inside
    raise CheckpointError("there is no such file or folder", where=str(path), todo="check the path")


def _expand_match(path: Path, gaps: list[Gap]) -> list[Path]:
    return _in_folder(path, gaps) if path.is_dir() else [path] if _is_candidate(path, gaps) else []


def _in_folder(folder: Path, gaps: list[Gap]) -> list[Path]:
    """A checkpoint folder itself; else the nearest folders below that are checkpoints or hold checkpoint files.

    Raises `CheckpointError` where several folders side by side hold files: they are different trainings.
    """
    names = _names(folder)
    decline_folder(names, str(folder))
    here = _files(folder, names, gaps) if not is_checkpoint(names) else []
    below = _folders(folder, names, gaps)
    if is_checkpoint(names):
        beside = [folder / name for name in names if _is_other(folder / name)]
        if beside:
            called = ", ".join(path.name for path in beside[:4]) + (" …" if len(beside) > 4 else "")
            reason = f"the folder itself is one checkpoint: files beside its weights are left out ({called})"
            gaps.append(Gap(str(folder), reason, 0))
        return [*below, folder]
    if here or below:
        return [*here, *below]
    level = [folder / name for name in names]
    for _ in range(_DEPTH):
        level = [path for path in level if path.is_dir() and not path.is_symlink()]
        holders: dict[Path, list[Path]] = {}
        for inner in level:
            inside = _names(inner)
            found = [*_files(inner, inside, gaps), *_folders(inner, inside, gaps)]
            if found:
                holders[inner] = found
        if len(holders) > 1:
            first, second = list(holders)[:2]
            what = f"this folder holds {len(holders)} folders of checkpoints, which may be different trainings"
            raise CheckpointError(what, where=str(folder), todo=_WHICH.format(first=first, second=second))
        if holders:
            return next(iter(holders.values()))
        level = [inner / name for inner in level for name in _names(inner)]
    return []


_WHICH = "give one of them, such as {first}; or, if one goes on from the other, both: {first} {second}"


def _is_other(path: Path) -> bool:
    """Whether a file beside a checkpoint's own weights would be a checkpoint in another folder."""
    name = path.name
    return (
        path.is_file()
        and name.lower().endswith(SUFFIXES)
        and not is_read(name)
        and not lies_beside(name)
        and SHARD.search(name) is None
    )


def _names(folder: Path) -> list[str]:
    try:
        return sorted((entry.name for entry in os.scandir(folder)), key=natural)
    except OSError as error:
        raise CheckpointError(f"this folder cannot be read ({error.strerror})", where=str(folder)) from None


def _folders(folder: Path, names: Sequence[str], gaps: list[Gap], deeper: bool = True) -> list[Path]:
    """Folders in a folder that are one checkpoint each, and those in them."""
    found = []
    for name in names:
        path = folder / name
        if not path.is_dir():
            continue
        inside = _names(path)
        try:
            decline_folder(inside, str(path))
        except CheckpointError as error:
            gaps.append(Gap(str(path), f"{error.what}: {error.todo}", 0))
            continue
        if is_checkpoint(inside):
            # transformers writes the final model beside its folders of checkpoints.
            found += [*(_folders(path, inside, gaps, deeper=False) if deeper else ()), path]
    return found


def _files(folder: Path, names: Sequence[str], gaps: list[Gap]) -> list[Path]:
    return [path for name in names if (path := folder / name).is_file() and _is_candidate(path, gaps)]


def _is_candidate(path: Path, gaps: list[Gap]) -> bool:
    """Whether a file in a folder is meant: it has a checkpoint's suffix, and is no part or companion of one."""
    if lies_beside(path.name):
        return False
    try:
        decline_file(path.name, str(path))
    except CheckpointError as error:
        gaps.append(Gap(str(path), error.what, 0))
        return False
    if not path.name.lower().endswith(SUFFIXES):
        return False
    if SHARD.search(path.name):
        gaps.append(Gap(str(path), "it is one shard of a checkpoint, and its index is missing", 0))
        return False
    return True


def _one_architecture(opened: Sequence[Checkpoint], gaps: list[Gap]) -> list[Checkpoint]:
    """The largest group of checkpoints whose weights have the same names and shapes; trained ones before averages."""
    groups: dict[tuple[bool, frozenset[tuple[str, tuple[int, ...]]]], list[Checkpoint]] = {}
    for one in opened:
        shapes = frozenset((name, stored.shape) for name, stored in one.weights.items())
        groups.setdefault((one.averaged, shapes), []).append(one)
    judged = max(groups, key=lambda key: (len(groups[key]), not key[0], len(key[1])))
    for key, members in groups.items():
        for one in members if key != judged else ():
            averages = "its weights are averages over steps" if key[0] else "its weights are the trained ones"
            other = averages if key[1] == judged[1] else "it is of another model (other names or shapes of weights)"
            reason = f"{other}, and most of these checkpoints are not: it is left out"
            gaps.append(Gap(one.place, reason, one.step or 0))
    return groups[judged]


def _each_step_once(opened: Sequence[Checkpoint], gaps: list[Gap]) -> list[Checkpoint]:
    """In order of steps. Of several at one step the first that is no copy ("last", "best") and has optimizer state."""
    opened = _in_the_trainings_order(opened)
    steps: dict[int, list[Checkpoint]] = {}
    unknown = [one for one in opened if one.step is None]
    for one in opened:
        if one.step is not None:
            steps.setdefault(one.step, []).append(one)
    kept = []
    for step in sorted(steps):
        best, *others = sorted(steps[step], key=_preference)
        kept.append(best)
        gaps += [Gap(one.place, f"it holds step {step}, {_as(best, one)}: it is left out", step) for one in others]
    if kept and unknown:
        gaps += [Gap(one.place, "nothing tells its step: it is left out", 0) for one in unknown]
        return kept
    return kept or sorted(unknown, key=lambda one: natural(one.place))


def _as(best: Checkpoint, other: Checkpoint) -> str:
    beside = Path(best.place).parent == Path(other.place).parent
    return f"as {best.place} does{'' if beside else ' (give the checkpoints of one training at a time)'}"


def _in_the_trainings_order(opened: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    """Where the optimizer was begun anew its own counts go back or repeat: then the training's counts are the steps."""
    if any(one.stated is None or one.step is None for one in opened):
        return opened
    told = sorted(opened, key=lambda one: one.stated or 0)
    pairs = list(pairwise(told))
    anew = any((a.stated or 0) < (b.stated or 0) and (a.step or 0) >= (b.step or 0) for a, b in pairs)
    anew |= any((one.step or 0) < 0.75 * (one.stated or 0) for one in told)
    if not anew:
        return opened
    return [
        replace(one, step=one.stated, step_from="the training's count (its optimizer was begun anew)") for one in told
    ]


def _preference(one: Checkpoint) -> tuple[bool, bool, tuple[tuple[int, int, str], ...]]:
    name = Path(one.place).name
    return _COPIES.search(name) is not None, not one.optimizers, natural(name)
