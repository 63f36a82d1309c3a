"""A run while it grows: looked at again only when its files changed, and judged within a share of the time."""

from __future__ import annotations

import os
from pathlib import Path

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.errors import NotARunError
from deadneuron.frames import Run, read_run
from deadneuron.profiles import load_profile
from deadneuron.records import LEVELS, Diagnosis, Finding

_SHARE = 0.1  # of the time that looking may take


class Glance:
    """What is known of a run that grows, is waited for, or has ended."""

    def __init__(self, path: Path, profile: str | None = None) -> None:
        """Raises `ProfileError` for an unknown profile."""
        self.path, self.profile = path, None if profile is None else load_profile(profile)
        self.run: Run | None = None
        self.diagnosis: Diagnosis | None = None
        self.waiting = ""  # why there is nothing to see
        self.written: float | None = None  # when the newest of its files was, in seconds since the epoch
        self._stamp: object = None
        self._looks = 0  # at this run; it may be begun anew
        self._first: dict[tuple[str, str], tuple[int, int | None]] = {}  # look and step at which a finding came up

    def look(self) -> bool:
        """Read what is new; whether anything is.

        A folder that is not there, or not yet a run, is waited for; a run that was begun anew is followed. Raises
        `NewerFormatError` for a run that this version cannot read, and `NotARunError` for what never becomes one: a
        file, and a folder of runs.
        """
        stamp = _stamp(self.path)
        if stamp == self._stamp and (self.run is not None or self.waiting):
            return False
        before, step, self._stamp = self.run, self._step, stamp
        try:
            self.run = read_run(self.path)
        except OSError as error:  # it was replaced while it was read: there is more to see at the next look
            self._stamp = None
            return self._wait(error.strerror or str(error))
        except NotARunError as error:
            if self.path.is_file() or any(self.path.glob("*/run.json")):
                raise
            return self._wait(error.what)
        self.diagnosis = diagnose(self.run, self.profile)
        self.waiting, self.written = "", max((time for *_, time in stamp), default=0) / 1e9
        if before is None or before.info.started != self.run.info.started or self._step < step:  # it began anew
            self._looks, self._first = 0, {}
        self._looks += 1
        now = {(one.code, one.where) for one in self.diagnosis.findings}
        kept = {key: first for key, first in self._first.items() if key in now}
        self._first = dict.fromkeys(now, (self._looks, self.diagnosis.last_step)) | kept
        return True

    def _wait(self, why: str) -> bool:
        changed = why != self.waiting or self.run is not None
        self.run = self.diagnosis = self.written = None
        self.waiting = why
        return changed

    @property
    def _step(self) -> int:
        last = None if self.diagnosis is None else self.diagnosis.last_step
        return -1 if last is None else last

    def newest(self) -> list[tuple[Finding, int | None]]:
        """The findings that stand, the newest first and of one look the gravest first; with the step at which one came
        up under our eyes, or None if it was there at the first look."""
        if self.diagnosis is None:
            return []
        firsts = [(one, self._first[one.code, one.where]) for one in self.diagnosis.findings]
        firsts.sort(key=lambda pair: (-pair[1][0], -LEVELS.index(pair[0].level)))
        return [(one, step if look > 1 else None) for one, (look, step) in firsts]


def pause(every: float, took: float) -> float:
    """Seconds until the next look: `every`, or longer, so that looking stays a tenth of the time.

    >>> pause(2.0, took=0.1), pause(2.0, took=3.0)
    (2.0, 27.0)
    """
    return max(every, round(took * (1 / _SHARE - 1), 3))


def _stamp(path: Path) -> list[tuple[str, str, int, int]]:
    """What changes when the run's files do: names, sizes and times of what lies in it; half-written files do not count.

    >>> _stamp(Path("nowhere"))
    []
    """
    found = []
    for folder, _, files in os.walk(path):
        found.append((folder, "", 0, 0))
        for name in files:
            if name.startswith("."):  # it has its name only when it is whole
                continue
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            found.append((folder, name, status.st_size, status.st_mtime_ns))
    return sorted(found)
