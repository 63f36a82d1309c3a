"""What `deadneuron compare` reads: diagnoses of runs, of checkpoints and of reports, and baselines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .scanning import is_run, scan

if TYPE_CHECKING:
    from deadneuron.analysis.difference import Baseline
    from deadneuron.records import Diagnosis

_BRACE = b"{"
_INDEX = ".index.json"  # of a checkpoint in several files


def judged(place: str, profile: str | None) -> Diagnosis:
    """The diagnosis of a run folder or of checkpoints, or the one that a JSON report is."""
    if is_report(place):
        return _reported(Path(place))
    if is_run([place]):
        from deadneuron.analysis.diagnosis import diagnose

        return diagnose(place, profile)
    return scan([place], model=None, data=None, batches=None, allow=(), profile=profile or "default")


def is_report(place: str) -> bool:
    """Whether a file of JSON is given: a report that was made before."""
    path = Path(place)
    if "://" in place or place.lower().endswith(_INDEX) or not path.is_file():
        return False
    if path.suffix.lower() == ".json":
        return True
    with path.open("rb") as file:
        return file.read(64).lstrip().startswith(_BRACE)


def _reported(path: Path) -> Diagnosis:
    from pydantic import ValidationError

    from deadneuron.errors import NewerFormatError, NotARunError
    from deadneuron.records import DIAGNOSIS_VERSION
    from deadneuron.report.as_json import parse_json

    todo = "give a run folder, checkpoints, or what deadneuron report RUN --format json wrote"
    try:
        text = path.read_text("utf-8")
        document = json.loads(text)
        version = document.get("version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > DIAGNOSIS_VERSION and "verdicts" in document:
            what = f"the report has version {version}; this deadneuron reads up to {DIAGNOSIS_VERSION}"
            raise NewerFormatError(what, where=str(path), todo="upgrade deadneuron")
        return parse_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg'].lower()}"
    except (OSError, ValueError, RecursionError) as error:
        why = str(error).partition("\n")[0][:80]
    raise NotARunError(f"this is no report of deadneuron ({why})", where=str(path), todo=todo)


def known_findings(path: Path | None) -> Baseline:
    """Raises `UsageError` for a file that is no baseline."""
    if path is None:
        return {}
    from deadneuron.errors import UsageError
    from deadneuron.report.difference_json import parse_baseline

    try:
        return parse_baseline(path.read_text("utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
    except ValueError:
        why = "it is not what --write-baseline writes"
    raise UsageError(f"this baseline cannot be read: {why}", where=str(path), todo="write one with --write-baseline")


def write_known(path: Path, baseline: Baseline) -> None:
    """Raises `UsageError` where it cannot be written."""
    from deadneuron.errors import UsageError
    from deadneuron.report.difference_json import render_baseline

    try:
        path.write_text(render_baseline(baseline), "utf-8")
    except OSError as error:
        what = f"cannot write the baseline: {error.strerror}"
        raise UsageError(what, where=str(path), todo="choose another place") from None
    many = f"{len(baseline)} finding{'' if len(baseline) == 1 else 's'}"
    print(f"deadneuron: wrote {many} to {path}; from now on give --baseline {path}", file=sys.stderr)
