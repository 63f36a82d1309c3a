"""What a lab file says, as records: what is trained, over which grid of axes, and which measures are shown."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import Any, ClassVar

OPTIMIZERS = ("SGD", "SGD+momentum", "SGD+nesterov", "Adam", "AdamW", "RMSprop")
INITS = ("he", "default")
NORMS = ("none", "batch", "layer")
LAYERS = ("each", "first", "last", "all")
_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class About:
    """What the lab is for and how its table looks."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    title: str
    claim: str  # what the field says
    source: str  # where it says so
    layers: tuple[str, ...]  # rows of the table: "each" layer, the "first", the "last", "all" taken together
    columns: tuple[str, ...]  # names of measures


@dataclass(frozen=True, slots=True)
class Data:
    """scikit-learn's digits."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    test: int  # images held out
    scale: float  # pixels are divided by this


@dataclass(frozen=True, slots=True)
class Training:
    """What all cells have in common."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    steps: int | None  # exactly one of steps and rate_sum is given
    rate_sum: float | None  # as many steps as make rate × steps this sum
    batch: int
    momentum: float  # of SGD+momentum and SGD+nesterov
    look: int  # steps between two looks at the whole training set
    loss_bound: float  # a cell whose loss ends above has diverged
    profile: str  # of the monitor


@dataclass(frozen=True, slots=True)
class Net:
    """The multilayer perceptron, apart from what the grid says."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    width: int


@dataclass(frozen=True, slots=True)
class Grid:
    """Values of each axis; every combination is a cell."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    activation: tuple[str, ...]
    lr: tuple[float, ...]
    schedule: tuple[str, ...]
    optimizer: tuple[str, ...]
    init: tuple[str, ...]
    norm: tuple[str, ...]
    depth: tuple[int, ...]
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """How long things take on one core, so that a lab can say its time before it starts."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    start: float  # seconds to start a process
    cell: float  # seconds a cell takes besides its steps
    step: float  # seconds a step
    layer_step: float  # seconds a step and hidden layer


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of the axes: one training."""

    activation: str
    lr: float
    schedule: str
    optimizer: str
    init: str
    norm: str
    depth: int
    seed: int

    @property
    def name(self) -> str:
        """Its folder. All axes are in it, so that a cell is still finished when another axis gets a second value."""
        schedule = self.schedule.replace(":", "-")
        words = (
            self.activation,
            f"lr{self.lr!r}",
            schedule,
            self.optimizer,
            self.init,
            self.norm,
            f"depth{self.depth}",
        )
        return "_".join((*words, f"seed{self.seed}"))


AXES = tuple(field.name for field in fields(Cell))


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab file, checked."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID

    name: str
    lab: About
    data: Data
    training: Training
    net: Net
    grid: tuple[Grid, ...]
    cost: Cost

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every combination of each grid, each once."""
        product = (itertools.product(*(getattr(grid, axis) for axis in AXES)) for grid in self.grid)
        return tuple(dict.fromkeys(Cell(*values) for values in itertools.chain(*product)))

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes that take more than one value, but for the seed."""
        cells = self.cells
        return tuple(axis for axis in AXES if axis != "seed" and len({getattr(c, axis) for c in cells}) > 1)

    def steps(self, cell: Cell) -> int:
        """How many steps a cell trains."""
        if self.training.steps is not None:
            return self.training.steps
        return max(round((self.training.rate_sum or 0.0) / cell.lr), 1)

    def seconds(self, cells: tuple[Cell, ...], jobs: int) -> float:
        """Expected time of these cells on so many processes, each on a core of its own."""
        if not cells:
            return 0.0
        cost = self.cost
        work = [cost.cell + self.steps(c) * (cost.step + cost.layer_step * c.depth) for c in cells]
        return cost.start + max(sum(work) / jobs, max(work))
