"""What could not be measured: one gap for each place and reason, one warning in all, never an exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

from deadneuron.errors import DeadneuronWarning
from deadneuron.records import Gap

_MOST_GAPS = 1000  # records; a failure at every call must not fill the disk


class Trouble:
    """Keeps the gaps of one monitor; `step` is the one that a gap is dated by, `write` takes each new gap.

    It does not know its monitor, so that the writer's thread, which knows this, keeps no monitor alive.
    """

    def __init__(self) -> None:
        self.step = 0
        self.write: Callable[[Gap], None] = lambda gap: None
        self._gaps: dict[tuple[str, str], Gap] = {}
        self._warned = False

    @property
    def gaps(self) -> tuple[Gap, ...]:
        return tuple(self._gaps.values())

    def note(self, where: str, reason: str, first_step: int | None = None) -> None:
        """Something cannot be measured, and nobody is to blame: a gap without a warning."""
        key = (where, reason)
        if key not in self._gaps and len(self._gaps) < _MOST_GAPS:
            self._gaps[key] = gap = Gap(where, reason, self.step if first_step is None else first_step)
            self.write(gap)

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
