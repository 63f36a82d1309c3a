"""Checkpoints at paths and at addresses: those elsewhere are here for as long as they are looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deadneuron.checkpoints.contents import Progress
from deadneuron.checkpoints.files.fetching import fetched, is_url, shown
from deadneuron.checkpoints.layouts.finding import Series, find_checkpoints
from deadneuron.checkpoints.layouts.folders import is_read, lies_beside
from deadneuron.checkpoints.layouts.opening import SUFFIXES
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap


@contextmanager
def gathered(
    places: str | Path | Iterable[str | Path],
    allow: Collection[str] = (),
    progress: Progress | None = None,
    steps_per_epoch: int | None = None,
) -> Iterator[Series]:
    """What `find_checkpoints` finds, addresses included ("s3://…", "hf://…"): their files are fetched, kept as long as
    the context lasts, and called by their addresses. Of a remote folder only what is read is fetched.

    Raises what `find_checkpoints` and `fetched` raise.
    """
    given = [places] if isinstance(places, str | Path) else list(places)
    with ExitStack() as stack:
        local: list[Path] = []
        addresses: dict[str, str] = {}
        for place in map(str, given):
            path = stack.enter_context(fetched(place, wanted, progress))
            local.append(path)
            if is_url(place):
                addresses[str(path)] = shown(place).rstrip("/")
        try:
            series = find_checkpoints(local, allow, steps_per_epoch)
        except CheckpointError as error:
            told = (_called(text, addresses) for text in (error.what, error.where, error.todo))
            what, where, todo = told
            raise CheckpointError(what, where=where, todo=todo) from None
        yield Series(
            tuple(replace(one, place=_called(one.place, addresses)) for one in series.checkpoints),
            tuple(Gap(_called(g.where, addresses), _called(g.reason, addresses), g.first_step) for g in series.gaps),
        )


def wanted(name: str) -> bool:
    """Whether a file of a remote folder is read, or tells what the folder is; shards of other makers are not."""
    file = PurePosixPath(name).name
    return is_read(file) or (file.lower().endswith(SUFFIXES) and not lies_beside(file))


def _called(text: str, addresses: dict[str, str]) -> str:
    for path, address in addresses.items():
        text = text.replace(path, address)
    return text
