"""Checkpoints that lie elsewhere: what an fsspec URL leads to comes into a temporary folder, which is removed again."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import fsspec

from deadneuron.checkpoints.contents import Progress
from deadneuron.checkpoints.files.opened import printable
from deadneuron.errors import CheckpointError, MissingExtraError

_CHUNK = 4 * 2**20  # bytes
_SPARE = 2**28  # bytes that a disk keeps free
_MOST = 10_000  # files of one folder
_DEEPEST = 3  # levels of folders: a folder of checkpoints, a checkpoint, a part of it
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(::|://)")
_CHECK = "check the address and your rights"


@dataclass(frozen=True, slots=True)
class _Remote:
    """A place elsewhere: its file system, and the files below it by their names within it."""

    system: Any
    files: Mapping[PurePosixPath, tuple[str, int | None]]  # (path in the file system, bytes where they are told)
    folder: bool


def is_url(place: str) -> bool:
    """Whether the place is an address rather than a path; "file://…" is a path."""
    return bool(_URL.match(place)) and not place.startswith("file://")


def shown(place: str) -> str:
    """The address as it may be printed: without passwords, tokens and signatures."""
    head = re.split(r"[?#]", place, maxsplit=1)[0]
    return printable(re.sub(r"(?<=://)[^/@]*@", "", head))


def listed(place: str) -> Mapping[str, int | None]:
    """Files below an address, by their names within it ("step-100/model.safetensors"), and their bytes where told.

    Raises `CheckpointError`, and `MissingExtraError` where the package for such addresses is not installed.
    """
    return {str(name): size for name, (_, size) in _look(place).files.items()}


@contextmanager
def fetched(
    place: str, wanted: Callable[[str], bool] = lambda name: True, progress: Progress | None = None
) -> Iterator[Path]:
    """The file or folder as a local path: a local one as it is, another one copied for as long as the context lasts.

    Parameters
    ----------
    place : a path, a "file://" address, or an address that fsspec knows ("s3://…", "hf://…", "https://…")
    wanted : which files of a folder are fetched, by their names within it
    progress : is told (bytes done, bytes in all; 0 in all where nobody tells)

    Raises
    ------
    CheckpointError
        nothing is there, it does not fit on the disk, or it has a name that leads elsewhere
    MissingExtraError
        the package for such addresses is not installed
    """
    if place.startswith("file://"):
        yield Path(url2pathname(unquote(urlsplit(place).path)))
    elif not is_url(place):
        yield Path(place)
    else:
        remote = _look(place)
        files = {name: file for name, file in remote.files.items() if not remote.folder or wanted(str(name))}
        # Open files cannot be removed on Windows; whoever still reads one there leaves it behind.
        with tempfile.TemporaryDirectory(prefix="deadneuron-", ignore_cleanup_errors=True) as folder:
            _copy(remote, files, Path(folder), place, progress or Progress())
            yield Path(folder) if remote.folder else Path(folder, *next(iter(files)).parts)


def _look(place: str) -> _Remote:
    """What lies there. Every error of fsspec and of what stands behind it becomes one line."""
    try:
        system, root = fsspec.core.url_to_fs(place)
        # Not `isfile`: it takes every trouble for "no".
        own: dict[str, Any] = {"type": "directory"} if place.endswith("/") else system.info(root)
        folder = own.get("type") == "directory"
        found = system.find(root, maxdepth=_DEEPEST, detail=True) if folder else {root: own}
    except Exception as error:
        raise _trouble(place, error) from None
    if not found:
        raise CheckpointError("there is nothing", where=shown(place), todo=_CHECK)
    if len(found) > _MOST:
        raise CheckpointError(f"more than {_MOST} files", where=shown(place), todo="give one checkpoint of them")
    base = root.rstrip("/") if folder else root.rpartition("/")[0]
    # Object stores keep empty markers of folders beside the files.
    real = {path: info for path, info in found.items() if path.rstrip("/") != base.rstrip("/")}
    files = {_inside(path, base, place): (path, info.get("size")) for path, info in real.items()}
    return _Remote(system, files, folder)


def _inside(path: str, base: str, place: str) -> PurePosixPath:
    """The file's name within the folder; one that would lead out of it is refused."""
    own = path.removeprefix(base).lstrip("/") if path.startswith(base) else path
    name = PurePosixPath(re.split(r"[?#]", own, maxsplit=1)[0])
    odd = not name.parts or name.is_absolute() or any(part == ".." for part in name.parts)
    if odd or re.search(r"[\\:\0]", str(name)) or not str(name).isprintable():
        what = f"a file there has a name that leads elsewhere: {printable(own)[:80]}"
        raise CheckpointError(what, where=shown(place), todo="do not trust this place")
    return name


def _copy(
    remote: _Remote, files: Mapping[PurePosixPath, tuple[str, int | None]], folder: Path, place: str, told: Progress
) -> None:
    total = sum(size or 0 for _, size in files.values())
    free = shutil.disk_usage(folder).free - _SPARE
    if total > free:
        what = f"{total / 1e9:.1f} GB do not fit into the {max(free, 0) / 1e9:.1f} GB that are free"
        raise CheckpointError(what, where=shown(place), todo="set TMPDIR to a larger disk, or give fewer files")
    done = 0
    told.advance(0, total)
    for name, (path, size) in files.items():
        target = folder.joinpath(*name.parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with remote.system.open(path, "rb") as source, target.open("xb") as copy:
                got = 0
                while piece := source.read(_CHUNK):
                    copy.write(piece)
                    got += len(piece)
                    done += len(piece)
                    if got > (free if size is None else size) or done > free:
                        raise CheckpointError("more comes than was promised", where=shown(place), todo=_CHECK)
                    told.advance(done, total)
        except CheckpointError:
            raise
        except Exception as error:
            raise _trouble(place, error) from None
        if size is not None and got < size:
            raise CheckpointError("less comes than was promised", where=shown(place), todo="try again")


def _trouble(place: str, error: Exception) -> Exception:
    """One line for whatever fsspec raises; its own texts may hold keys and signatures."""
    kind = place.partition("://")[0]
    if isinstance(error, ImportError):
        package = re.search(r"[Ii]nstall ['\"`]?([A-Za-z0-9_.\-]+)", str(error))
        todo = f"pip install {package[1] if package else f'fsspec[{kind}]'}"
        return MissingExtraError(f"{kind}:// needs a package that is not installed", where=shown(place), todo=todo)
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return CheckpointError("no such kind of address is known", where=shown(place), todo=_CHECK)
    known = {FileNotFoundError: "there is no such file", PermissionError: "access is refused"}
    what = next((text for kind, text in known.items() if isinstance(error, kind)), type(error).__name__)
    return CheckpointError(f"cannot fetch it: {what}", where=shown(place), todo=_CHECK)
