"""From what lies in a file or folder to a `Checkpoint`: plain names, the model's order, states linked, the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deadneuron.checkpoints.contents import Checkpoint, Stored
from deadneuron.checkpoints.layouts.contained import Found
from deadneuron.checkpoints.layouts.names import may_be_trained, without_wrappers
from deadneuron.checkpoints.layouts.optimizers import read_optimizers
from deadneuron.checkpoints.layouts.order import (
    Node,
    by_convention,
    in_any_order,
    in_order,
    is_only_one,
    names_in,
)
from deadneuron.checkpoints.layouts.steps import epoch_named, step_of
from deadneuron.errors import CheckpointError
from deadneuron.records import Gap


def compose(found: Found, place: str, names: Sequence[str]) -> Checkpoint:
    """`names` are those of the file and of its folder, which may tell the step.

    Raises `CheckpointError` where there are no weights, or where a number cannot be read.
    """
    weights: dict[str, Stored] = {}
    orders: list[Node] = []
    for prefix, model in found.models.items():
        plain = {f"{prefix}{name}": stored for name, stored in without_wrappers(model).items()}
        if found.sorted:
            plain = {name: plain[name] for name in names_in(by_convention(plain))}
        trained = [name for name, stored in plain.items() if may_be_trained(name, stored)]
        orders.append(by_convention(trained) if found.sorted else in_order(trained))
        weights |= plain
    trainable = {name: stored.shape for name, stored in weights.items() if may_be_trained(name, stored)}
    if not trainable:
        raise CheckpointError("this checkpoint holds no weights", where=place, todo="give one that holds a model's")
    order = orders[0] if len(orders) == 1 else in_any_order(orders)
    linked = read_optimizers(found.optimizers, weights, order, trainable)
    ordered = is_only_one(orders[0]) if len(orders) == 1 else not found.sorted
    if not ordered and linked.order is not None:
        weights, ordered = _rearranged(weights, linked.order), True
    step, source = step_of(linked.optimizers, found.counters, names)
    rates, gaps = found.rates, [*found.gaps, *linked.gaps, *_averages(found)]
    if rates and next(iter(found.counters.values()), step) != step:
        # Some of what was counted were no updates (GradScaler skipped them), and nothing tells which.
        rates = ()
        gaps.append(Gap("logged rates", "they are logged by a count that is not the optimizer's: they are not used", 0))
    return Checkpoint(
        place=place,
        format=found.format,
        step=step,
        step_from=source,
        weights=weights,
        averaged=found.averaged,
        optimizers=linked.optimizers,
        schedulers=found.schedulers,
        rates=rates,
        gaps=tuple(dict.fromkeys(gaps)),
        stated=next(iter(found.counters.values()), None),
        epoch=found.epoch if found.epoch is not None else epoch_named(names),
        epoch_ended=found.epoch_ended,
        ordered=ordered,
    )


def _averages(found: Found) -> tuple[Gap, ...]:
    if not (found.averaged and found.optimizers):
        return ()
    return (Gap("weights", "they are averages over steps; the optimizer's state belongs to those that it moved", 0),)


def _rearranged(weights: Mapping[str, Stored], told: Sequence[str]) -> dict[str, Stored]:
    """Parameters in the order told; a buffer behind the last parameter of its module, or at the end."""
    last: dict[str, float] = {name.rpartition(".")[0]: float(rank) for rank, name in enumerate(told)}
    rank = {name: float(index) for index, name in enumerate(told)}
    end = float(len(told))
    place = {name: rank.get(name, last.get(name.rpartition(".")[0], end) + 0.5) for name in weights}
    return {name: weights[name] for name in sorted(weights, key=lambda name: place[name])}
