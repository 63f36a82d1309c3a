"""Every error that deadneuron raises on purpose: what happened, where, and what to do about it.

They are raised before training starts or while reading; once a training runs, trouble becomes a `Gap` and one
warning instead (see `deadneuron.monitor`). The command line prints the one line and exits with 2.
"""

from __future__ import annotations


class DeadneuronError(Exception):
    """Base of all errors of this package; `code` names the kind (the README lists them)."""

    code = "error"

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f": {self.todo}" if self.todo else ""
        return f"{self.what}{place}{advice} [{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the dressed message as `what`; keep the three parts.
        return (_rebuild, (type(self), self.what, self.where, self.todo))


def _rebuild(kind: type[DeadneuronError], what: str, where: str, todo: str) -> DeadneuronError:
    return kind(what, where=where, todo=todo)


class NoSitesError(DeadneuronError):
    """The model has no activation that could be watched."""

    code = "no-sites"


class RunFolderError(DeadneuronError):
    """A run folder exists already, or cannot be written."""

    code = "run-folder"


class NotARunError(DeadneuronError):
    """What was given is no run folder."""

    code = "not-a-run"


class NewerFormatError(DeadneuronError):
    """The run was written by a later deadneuron."""

    code = "newer-format"


class ProfileError(DeadneuronError):
    """A profile is missing, or names an unknown key or an impossible value."""

    code = "profile"


class LabError(DeadneuronError):
    """A lab is missing, or names an unknown key, an empty axis or an impossible value."""

    code = "lab"


class BranchError(DeadneuronError):
    """A learning-rate probe cannot be made of this training step, or could not be undone; the message says which."""

    code = "branch"


class CheckpointError(DeadneuronError):
    """A checkpoint is missing, cannot be read safely, or holds nothing that can be judged."""

    code = "checkpoint"


class ScriptError(DeadneuronError):
    """A script is missing, trains nothing that can be watched, or its rates cannot be set."""

    code = "script"


class UsageError(DeadneuronError):
    """An argument does not fit: a wrong unit axis, a pattern that matches nothing, an object that is no optimizer."""

    code = "usage"


class MissingExtraError(DeadneuronError):
    """An optional package is needed for this and is not installed."""

    code = "missing-extra"


class DeadneuronWarning(UserWarning):
    """Something could not be measured; `monitor.gaps` and the report say what."""
