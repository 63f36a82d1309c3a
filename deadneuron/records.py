"""The frozen records that rooms hand to each other. Plain Python and numpy: both sides of the waist may import them.

Words are those of the house: a *site* is one place where an activation function is applied, a *unit* one neuron of it,
the *gate* the interval of pre-activations where the derivative's size exceeds epsilon, *active* = inside the gate.
"Step s" is forward, backward and update number s, from 0: a unit last active in forward s died by update s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from deadneuron.causes import Certificate, Observed, RateLink, Trial

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Phase = Literal["train", "eval", "reference"]
PHASES: tuple[Phase, ...] = ("train", "eval")  # that a user may ask for; "reference" is the frozen batch's own
Level = Literal["note", "warning", "severe"]
Status = Literal["healthy", "warning", "severe", "unknown"]
LEVELS: tuple[Level, ...] = ("note", "warning", "severe")


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a run is measured. The values stand in configs/*.toml."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    every: int  # steps between full statistics (counts inside the gate are taken at every step)
    window: int  # steps between two drains
    epsilon: float  # |f'| above this is inside the gate
    common: float  # a unit is common while more than this share of its recent rows is inside the gate
    recent: int  # rows: an exponential mean over about so many
    flush_seconds: float  # what a killed training can lose


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How a run is judged. The values stand in configs/*.toml."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    patience: int  # steps of silence before "dead"
    samples: int  # independent examples that the silence must span
    rare: float  # share of rows
    warning: float  # share of a layer's units
    severe: float  # share of a layer's units
    stuck_windows: int
    revival_windows: int
    born_excess: float  # share of a layer's units
    dormant: float  # Sokar's tau: mean |output| of a unit over that of its layer
    spike: float  # share of a layer's values
    spike_shift: float  # total variation distance between histograms
    fading: float  # relative fall of the mean activation
    saturated: float  # share of a layer's values
    established: float  # share of a window's rows inside the gate above which a unit's death is certified
    kick_steps: int  # a death that took at most so many steps may be a kick by the learning rate …
    kick_rate: float  # … if its rate was at least this share of the highest that the run had used by then …
    kick_rise: float  # … or had risen by at least this factor
    gradual_steps: int  # a death that took at least so many steps was gradual
    shift: float  # share of the reference batch that a unit still fires on if its death is a data shift
    branch: float  # share of units that a branch may lose at a rate that is called safe


@dataclass(frozen=True, slots=True)
class Forensics:
    """How checkpoints are judged. The values stand in configs/*.toml."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    tolerance: float  # relative difference up to which weights agree with a replay
    slack: float  # relative difference from the closed-form decay beyond which a row is not replayed at all
    roundings: float  # below so many a step, weights that stayed the same may have lost their updates
    stranger: float  # |z| up to which two checkpoints' rows have nothing in common
    norm_closed: float  # a batch-norm unit whose beta / |gamma| lies below this is all but closed


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Site:
    """One place where an activation function is applied."""

    number: int  # index in the run, in order of first use
    name: str  # what people read: the module's name, and after "@" what feeds it where a module has several sites
    module: str  # qualified name of the activation module
    call: int  # which site of that module this is, from 0
    op: str  # "ReLU", "GELU", …
    source: Literal["module", "function"]
    units: int
    unit_axis: int  # of the pre-activation tensor, from 0
    axis_from: Literal["producer", "registration", "shape", "user"]  # how the unit axis was found
    gate: tuple[float, float]  # open interval of pre-activations; may be infinite
    feeder: str | None  # parameter whose gradient row is zero if the unit is silent: a bias or a norm's beta first
    groups: tuple[int, ...]  # parameter groups that hold the feeder (over all optimizers): the link to a learning rate
    outputs: tuple[float, ...] | None = None  # at HISTOGRAM_EDGES, ascending; None: outputs are counted themselves
    is_output: bool = False  # the model returns what this activation gives: no hidden layer

    @property
    def group(self) -> int | None:
        """The first of its groups, or None."""
        return self.groups[0] if self.groups else None


@dataclass(frozen=True, slots=True)
class Window:
    """What one site did between two drains. Arrays have shape [units]; all counts are additive over ranks."""

    site: int
    phase: Phase
    rank: int
    first_step: int
    last_step: int
    # at every step
    steps: int  # steps in which the site was seen
    samples: int  # independent examples (images, sequences): the n of every confidence bound
    rows: int  # examples × positions seen by each unit
    active: Ints  # rows inside the gate; a NaN row counts as inside, so that it can never make a unit silent
    first_active: Ints  # first step of this window with a row inside the gate; -1 for none
    last_active: Ints  # last such step; -1 for none
    # at every `every`-th step
    sampled_rows: int
    above: Ints  # rows at or beyond the gate's upper end
    nonfinite: Ints  # rows that were NaN or Inf
    first_nonfinite: Ints  # first step of this window with NaN or +Inf; -1 for none. -Inf is what masks are made of
    mean: Floats  # of the finite pre-activations; NaN where none was sampled
    square: Floats  # mean of their squares
    magnitude: Floats  # mean |output|, non-finite outputs left out (Sokar's dormant score is made of it)
    peak: Floats | None  # largest finite pre-activation
    histogram: Ints  # [bins] pre-activations of all units over HISTOGRAM_EDGES
    output_histogram: Ints | None  # [bins] outputs, where the activation is not monotone
    last_common: Ints | None = None  # last active step in which the unit was common; -1 for none
    # None where the gradient is not screened
    flow: Ints | None = None  # steps in which a gradient reached the unit
    last_flow: Ints | None = None  # the last such step; -1 for none


def _edges() -> Floats:
    # Half octaves from 2^-12 to 2^8 on both sides of an exact 0: 1, 1.5, 2, 3, 4, 6 …
    positive = np.array([2.0**k * m for k in range(-12, 8) for m in (1.0, 1.5)] + [2.0**8])
    return np.concatenate([-positive[::-1], [0.0], positive])


HISTOGRAM_EDGES: Floats = _edges()
"""Inner edges, ascending; bin i lies between edge i-1 and edge i, the first and last bins are open.

A value on an edge belongs to the bin nearer to zero, and zero itself to the bin below it: the bins up to `ZERO_BIN`
hold exactly what is at or below zero.
"""
BINS = len(HISTOGRAM_EDGES) + 1
ZERO_BIN = int(np.searchsorted(HISTOGRAM_EDGES, 0.0))


@dataclass(frozen=True, slots=True)
class Tick:
    """One optimizer step, with the learning rate of every parameter group that this very step used."""

    step: int
    time: float  # seconds since the epoch
    rates: tuple[float, ...]  # one a parameter group, over all optimizers; NaN where its optimizer did not step
    skipped: bool = False  # GradScaler found an Inf or NaN and left the weights alone
    multipliers: tuple[float, ...] | None = None  # of a dither, one a parameter group; NaN where it has none
    loss: float | None = None
    grad_norm: float | None = None
    finite: bool | None = None  # whether the first example of the model's output was; None where it was not seen


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that was not measured, and why."""

    where: str
    reason: str
    first_step: int


@dataclass(frozen=True, slots=True)
class Reference:
    """What the passes of the frozen batch took that units are held against."""

    passes: int
    seconds: float  # that its passes took, of …
    of_seconds: float  # … the run's time so far
    examples: int | None = None  # independent ones; known once a run is read


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run folder says of itself."""

    format: int
    run: str
    started: str  # ISO 8601, with time zone
    model: str
    rank: int
    world: int
    versions: Mapping[str, str]
    profile: str
    sampling: Sampling
    thresholds: Thresholds
    groups: tuple[str, ...]  # names of the parameter groups, e.g. "SGD[0]"
    modules: tuple[str, ...]  # activation modules that were asked for, seen or not
    dataset_size: int | None = None  # distinct training examples, if the user says; no n exceeds it
    settings: tuple[Mapping[str, Any], ...] = ()  # of each parameter group: momentum, betas, weight_decay …
    reference: Reference | None = None  # what evaluating the frozen batch took
    sites: tuple[Site, ...] = ()
    ended: str | None = None  # ISO 8601; None while it runs, or if its writer was killed
    ended_by: str | None = None  # the kind of exception that ended the watched block


# ── what is judged ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of steps in which one unit was dead."""

    site: int
    unit: int
    state: Literal["born dead", "died", "relapsed"]
    first_step: int  # the unit was last active in this forward; for "born dead" the first step that was watched
    last_step: int | None  # last silent step; None while it lasts
    born: bool
    rate: float | None  # of the update that ended its activity; None if born dead or where no rate is known
    samples: int | None  # independent examples in its silent windows: it fires on at most 3/samples of them (95 %)
    latest: int | None = None  # first_step lies in first_step … latest; None where it is known to the step
    rates: tuple[float, float] | None = None  # lowest and highest rate of those updates, where known


@dataclass(frozen=True, slots=True)
class Verdict:
    """One site, judged. A site that was not seen has no numbers and the status "unknown"."""

    site: int | None
    name: str
    op: str
    status: Status
    units: int | None = None
    dead: int | None = None  # at the end: born_dead + died
    born_dead: int | None = None
    died: int | None = None  # died during the run and dead at its end
    expected_born_dead: float | None = None  # units silent at a symmetric initialization, from the layer's correlation
    correlation: float | None = None  # of pre-activations across examples in the first step
    closed_above: int | None = None  # part of dead: closed at the gate's upper end
    revived: int | None = None  # episodes that ended
    silent: int | None = None  # at the end, not (yet) dead
    silent_samples: int | None = None  # independent examples that each silent unit was silent on, at least
    rare: int | None = None
    specialised: int | None = None  # part of rare: strong when they fire
    dormant: int | None = None  # by Sokar's score, dead ones among them
    saturated: float | None = None  # share of rows at the activation's flat ends; None where it has none
    nonfinite: int | None = None  # units with NaN or Inf in the last windows
    stuck: bool = False
    steps: int | None = None  # in which it was seen
    enough: bool = False  # watched for long enough to call a unit dead
    since: int | None = None  # median step of the deaths
    rate: float | None = None  # learning rate that the update at the median death used
    samples: int | None = None  # independent examples in the span that the dead units were silent at least
    bound: float | None = None  # 3/samples: a dead unit fires on at most this share of examples (95 %)
    window: tuple[int, int] | None = None  # steps that were watched
    since_latest: int | None = None  # since lies in since … since_latest; None where it is known to the step
    rates: tuple[float, float] | None = None  # lowest and highest rate of those updates, where known
    evidence: str = ""  # of checkpoints: what the counts rest on; empty for a run, whose activations were counted


@dataclass(frozen=True, slots=True)
class History:
    """Shares of one site's units at the end of each window."""

    site: int
    steps: tuple[int, ...]  # last step of each window
    dead: tuple[float, ...]
    silent: tuple[float, ...]  # not dead
    rare: tuple[float, ...]
    active: tuple[float, ...]  # mean share of rows inside the gate; empty where no activation was counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence for a person: what, where, why one may believe it, and what to do."""

    code: str
    level: Level
    where: str
    text: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.level}: {self.text} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the model was seen at all."""

    seen: int
    known: int
    unseen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One checkpoint that a diagnosis rests on."""

    place: str
    format: str
    step: int | None  # updates made before it was written
    step_from: str  # what told the step
    rates: tuple[float, ...]  # of its parameter groups, as recorded in it
    evidence: str  # how it was judged


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that a reporter needs; the JSON report is this record, field by field."""

    version: int
    run: str
    model: str
    status: Status
    first_step: int | None
    last_step: int | None
    ended: str | None  # ISO 8601; None while it runs, or if its writer was killed
    ended_by: str | None
    dataset_size: int | None
    thresholds: Thresholds
    sampling: Sampling | None  # None for checkpoints
    coverage: Coverage
    verdicts: tuple[Verdict, ...]
    episodes: tuple[Episode, ...]
    history: tuple[History, ...]
    answer: str  # whether it was the learning rate, in one sentence; empty where nobody died and nothing was tried
    certificates: tuple[Certificate, ...]
    observed: tuple[Observed, ...]
    links: tuple[RateLink, ...]
    trials: tuple[Trial, ...]
    reference: Reference | None
    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    source: Literal["run", "checkpoints"] = "run"
    checkpoints: tuple[CheckpointInfo, ...] = ()

    @property
    def worst(self) -> Verdict | None:
        """The site with the largest dead share, or None where nothing was seen."""
        seen = [v for v in self.verdicts if v.units]
        return max(seen, key=lambda v: (v.dead or 0) / (v.units or 1), default=None)

    def _repr_html_(self) -> str:
        # By name: records know nothing of reports, which are loaded when a notebook shows one.
        shown: str = import_module("deadneuron.report.notebook").diagnosis_html(self)
        return shown

    def __str__(self) -> str:
        what = "activation sites seen" if self.source == "run" else "layers judged"
        lines = [f"{self.run}: {self.status} — {self.coverage.seen} of {self.coverage.known} {what}"]
        lines += [str(finding) for finding in self.findings]
        return "\n".join(lines)


DIAGNOSIS_VERSION = 3
"""Version of the JSON report. 1: first. 2: low and high of a link are its ratio's interval, no longer rates. 3: reports
on checkpoints; there sampling and an episode's samples are null."""
