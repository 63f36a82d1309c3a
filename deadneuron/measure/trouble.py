"""What could not be measured: one gap for each place and reason, one warning in all, never an exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress

from deadneuron.errors import DeadneuronWarning
from deadneuron.records import Gap

_MOST_GAPS = 1000  # records; a failure at every call must not fill the disk


class Trouble:
    """Keeps the gaps of one monitor. `step()` gives the step a gap is dated by, `write` takes each new gap."""

    def __init__(self, step: Callable[[], int], write: Callable[[Gap], None]) -> None:
        self._step, self._write = step, write
        self._gaps: dict[tuple[str, str], Gap] = {}
        self._warned = False

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(self._gaps.values())

    def note(self, where: str, reason: str) -> None:
        """Something cannot be measured, and nobody is to blame: a gap without a warning."""
        key = (where, reason)
        if key not in self._gaps and len(self._gaps) < _MOST_GAPS:
            self._gaps[key] = gap = Gap(where, reason, max(self._step(), 0))
            self._write(gap)

    def note_all(self, places: Iterable[str], reason: str) -> None:
        for where in places:
            self.note(where, reason)

    def fail(self, where: str, reason: str) -> None:
        """Something went wrong: a gap, and the first time a warning."""
        self.note(where, reason)
        if self._warned:
            return
        self._warned = True
        message = f"deadneuron measures less than it should ({where}: {reason}); the training is not affected"
        with suppress(Warning):  # where the user turns warnings into errors, this one still must not raise
            warnings.warn(message, DeadneuronWarning, stacklevel=2)

    def guard(self, where: str, act: Callable[[], None]) -> None:
        """Do something of ours that must not reach the user's loop if it fails."""
        try:
            act()
        except Exception as error:
            self.fail(where, f"{type(error).__name__}: {error}")
