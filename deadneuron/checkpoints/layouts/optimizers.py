"""An optimizer's saved state, linked to the names of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deadneuron.checkpoints.contents import Group, Optimizer, State, Stored
from deadneuron.checkpoints.layouts.kinds import LIKE_PARAMETER, SCALARS, kind_of
from deadneuron.checkpoints.layouts.links import Fits, Shape, Slot, TooManyWays, fits
from deadneuron.checkpoints.layouts.names import plain_names
from deadneuron.checkpoints.layouts.order import Node, only
from deadneuron.checkpoints.layouts.scalars import number_in
from deadneuron.records import Gap

_NAMED = 3  # names that one gap spells out
_LOOP = 8  # groups of one parameter each that nobody writes by hand

Key = int | str
_Lane = list[tuple[int, Key]]  # (group, key) of parameters that stand in the model's order


@dataclass(frozen=True, slots=True)
class Saved:
    """An optimizer's state dict as it lies in a file."""

    place: str  # the keys that lead to it, or its file: "optimizer", "optimizer_states[0]"
    groups: tuple[Mapping[str, Any], ...]
    states: Mapping[Key, Mapping[str, Any]]
    of: str = ""  # the names that it trains start so, where the file's keys tell

    def keys(self, group: int) -> tuple[Key, ...]:
        return tuple(self.groups[group]["params"])

    def state(self, key: Key) -> Mapping[str, Any]:
        return {name: value for name, value in self.states.get(key, {}).items() if value is not None}


def saved_optimizer(place: str, value: object) -> Saved | None:
    """What has the form of an optimizer's state dict: "param_groups" with "params", and "state"."""
    if not isinstance(value, Mapping) or not isinstance(groups := value.get("param_groups"), list | tuple):
        return None
    states = value.get("state")
    if not isinstance(states, Mapping) or not groups:
        return None
    listed: set[Key] = set()
    for group in groups:
        keys = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(keys, list | tuple) or not all(isinstance(key, int | str) for key in keys):
            return None
        if len(set(keys)) < len(keys) or listed & set(keys):
            return None
        listed.update(keys)
    kept = {key: state for key, state in states.items() if isinstance(state, Mapping)}
    if all(isinstance(key, int) for key in listed):  # what torch converted from a distributed checkpoint has "0", "1" …
        kept = {int(key) if str(key).isdecimal() else key: state for key, state in kept.items()}
    return Saved(place, tuple(groups), kept)


@dataclass(frozen=True, slots=True)
class Linked:
    """Optimizers whose states have names."""

    optimizers: tuple[Optimizer, ...]
    order: tuple[str, ...] | None  # the model's order of parameters, where the optimizers tell it
    gaps: tuple[Gap, ...]


def read_optimizers(
    saved: Sequence[Saved], weights: Mapping[str, Stored], order: Node, trainable: Mapping[str, Shape]
) -> Linked:
    """Optimizers with their states under the names of `weights`.

    A state is linked where the file names its parameter, or where order and shapes leave one name; every tensor that
    an optimizer keeps in its parameter's shape must have it. All else is left out and told in a gap. `order` and
    `trainable` are of the names that may have a gradient. Reads scalars; raises `CheckpointError` where that fails.
    """
    gaps: list[Gap] = []
    named = [_by_name(one, weights) for one in saved]
    unnamed = [number for number, names in enumerate(named) if names is None]
    ordered, told = _by_order([saved[number] for number in unnamed], order, trainable, gaps)
    found: list[Optimizer] = []
    for number, one in enumerate(saved):
        names = named[number]
        found.append(_linked(one, ordered[unnamed.index(number)] if names is None else names, weights, gaps))
    if told is None and len(found) == 1 and len(found[0].groups) == 1:
        told = found[0].groups[0].parameters if set(found[0].groups[0].parameters) == trainable.keys() else None
        told = told if named[0] is not None or set(found[0].states) == trainable.keys() else None
    return Linked(tuple(found), told, tuple(gaps))


@dataclass(frozen=True, slots=True)
class _Names:
    by_key: Mapping[Key, str]  # links that are certain
    members: Mapping[str, int]  # name → group, of parameters without state, where that alone is certain


def _by_name(saved: Saved, weights: Mapping[str, Stored]) -> _Names | None:
    """Links by the names in the file; None where it has none."""
    keys: list[Key] = []
    told: list[str] = []
    for number, group in enumerate(saved.groups):
        own = saved.keys(number)
        listed = group.get("param_names")
        if isinstance(listed, list | tuple) and len(listed) == len(own) and all(isinstance(n, str) for n in listed):
            told += listed
        elif own and all(isinstance(key, str) for key in own):
            told += [str(key) for key in own]
        elif own:
            return None
        keys += own
    names = plain_names(told)
    # A LightningModule may give its optimizer the names of its inner model: they lack one prefix, the same for all.
    for prefix in dict.fromkeys(("", *_prefixes(names, weights))):
        if names and all(prefix + name in weights for name in names):
            return _Names({key: prefix + name for key, name in zip(keys, names, strict=True)}, {})
    return _Names({key: name for key, name in zip(keys, names, strict=True) if name in weights}, {})


def _prefixes(names: Sequence[str], weights: Mapping[str, Stored]) -> list[str]:
    found = [name.removesuffix(names[0]) for name in weights if names and name.endswith(f".{names[0]}")]
    return found if len(found) == 1 else []


def _by_order(
    saved: Sequence[Saved], order: Node, trainable: Mapping[str, Shape], gaps: list[Gap]
) -> tuple[list[_Names], tuple[str, ...] | None]:
    """Links by order and shapes: all optimizers together first, since they seldom share a parameter; and the order
    of the names, where that leaves one."""
    lanes = [_lanes(one) for one in saved]
    both = list(zip(saved, lanes, strict=True))
    slots = [[[_shape(one.state(key)) for _, key in lane] for lane in own] for one, own in both]
    decays = [[_decay(one, lane) for lane in own] for one, own in both]
    together = [group for one in slots for group in one]
    found: list[_Names] = []
    try:
        joint = fits(order, trainable, together, [decay for own in decays for decay in own]) if saved else None
    except TooManyWays:
        joint = None
    first = 0
    for one, in_order, shapes, own_decays in zip(saved, lanes, slots, decays, strict=True):
        ways, offset = joint, first
        first += len(shapes)
        own = {name: shape for name, shape in trainable.items() if name.startswith(one.of)}
        if ways is None or one.of:
            try:
                ways, offset = fits(only(order, own), own, shapes, own_decays), 0
            except TooManyWays:
                reason = "its groups lie over the model's names in too many ways: none of its state is used"
                gaps.append(Gap(one.place, reason, 0))
                found.append(_Names({}, {}))
                continue
        if ways is None:
            count = sum(len(group) for group in shapes)
            reason = f"its {count} parameters do not fit the model's {len(own)} by order and shape: no state is used"
            gaps.append(Gap(one.place, reason, 0))
            found.append(_Names({}, {}))
        else:
            found.append(_told(one, in_order, ways, offset, gaps))
    return found, joint.order if joint is not None else None


def _lanes(saved: Saved) -> list[_Lane]:
    """What stands in the model's order: each group. Many groups of one parameter each come from a loop over all
    parameters (mmcv, detectron2): they are in order together."""
    lanes = [[(number, key) for key in saved.keys(number)] for number in range(len(saved.groups))]
    if len(lanes) >= _LOOP and all(len(lane) == 1 for lane in lanes):
        return [[entry for lane in lanes for entry in lane]]
    return lanes


def _decay(saved: Saved, lane: _Lane) -> float | None:
    found = {number_in(saved.groups[group].get("weight_decay")) for group, _ in lane}
    return found.pop() if len(found) == 1 else None


def _told(saved: Saved, lanes: list[_Lane], ways: Fits, offset: int, gaps: list[Gap]) -> _Names:
    """What all ways share, for one optimizer whose first lane is number `offset` of the search."""
    certain = ways.certain()
    by_key: dict[Key, str] = {}
    stateless: dict[Slot, int] = {}  # → group
    unclear: dict[str, None] = {}
    for number, lane in enumerate(lanes):
        for index, (group, key) in enumerate(lane):
            slot = (number + offset, index)
            if slot in certain:
                by_key[key] = certain[slot]
            elif not saved.state(key):
                stateless[slot] = group
            else:
                unclear.update(dict.fromkeys(sorted(ways.names[slot])))
    members: dict[str, int] = {}
    linked = set(by_key.values())
    for name, slots in ways.slots.items():
        places = {slot for slot in slots if slot is not None}
        if None in slots or not places <= stateless.keys() or name in linked:
            continue
        groups = sorted({stateless[slot] for slot in places})
        rules = [_settings(saved.groups[group]) for group in groups]
        if all(rule == rules[0] for rule in rules):  # which of them does not matter
            members[name] = groups[0]
    if unclear:
        reason = f"order and shapes do not tell whose state is whose for {_listed(unclear)}: it is not used "
        reason += "(an optimizer that is made of model.named_parameters() saves their names)"
        gaps.append(Gap(saved.place, reason, 0))
    ungrouped = [name for slot in stateless for name in sorted(ways.names[slot]) if name not in members]
    if ungrouped:
        reason = f"order and shapes do not tell which group holds {_listed(dict.fromkeys(sorted(ungrouped)))}"
        gaps.append(Gap(saved.place, reason, 0))
    return _Names(by_key, members)


def _linked(saved: Saved, names: _Names, weights: Mapping[str, Stored], gaps: list[Gap]) -> Optimizer:
    states = [saved.state(key) for number in range(len(saved.groups)) for key in saved.keys(number)]
    kind, why = kind_of(saved.groups, [tuple(state) for state in states if state])
    if kind is None:
        gaps.append(Gap(saved.place, f"its optimizer's class is not told: {why}", 0))
    found: dict[str, State] = {}
    misfits: dict[str, None] = {}
    groups: list[Group] = []
    for number, group in enumerate(saved.groups):
        members: list[str] = []
        for key in saved.keys(number):
            if (name := names.by_key.get(key)) is None:
                continue
            state = saved.state(key)
            if not _fits(state, weights[name]):
                misfits[name] = None
                continue
            members.append(name)
            if state:
                found[name] = _numbers_and_tensors(state, weights[name])
        members += [name for name, place in names.members.items() if place == number]
        groups.append(Group(f"{kind or 'optimizer'}[{number}]", _settings(group), tuple(members)))
    if misfits:
        gaps.append(Gap(saved.place, f"the state of {_listed(misfits)} has another shape than the weights", 0))
    return Optimizer(kind, tuple(groups), found)


def _shape(state: Mapping[str, Any]) -> Shape | None:
    """The shape of the parameter that a state is of; None where the state does not tell."""
    shapes = {value.shape for key, value in state.items() if key in LIKE_PARAMETER and isinstance(value, Stored)}
    if len(shapes) == 1:
        return next(iter(shapes))
    row, column = state.get("row_var"), state.get("col_var")  # torch's Adafactor: [..., r, 1] and [..., 1, c]
    if isinstance(row, Stored) and isinstance(column, Stored) and row.shape and column.shape:
        return (*row.shape[:-1], column.shape[-1])
    row, column = state.get("exp_avg_sq_row"), state.get("exp_avg_sq_col")  # that of transformers: [..., r], [..., c]
    if isinstance(row, Stored) and isinstance(column, Stored) and column.shape:
        return (*row.shape, column.shape[-1])
    return None


def _fits(state: Mapping[str, Any], weight: Stored) -> bool:
    like = [value for key, value in state.items() if key in LIKE_PARAMETER and isinstance(value, Stored)]
    return all(value.shape == weight.shape for value in like)


def _numbers_and_tensors(state: Mapping[str, Any], weight: Stored) -> dict[str, Stored | float]:
    """What is one number becomes one; tensors in the parameter's shape stay on disk; all else is left out."""
    kept: dict[str, Stored | float] = {}
    for key, value in state.items():
        if isinstance(value, Stored) and value.shape == weight.shape and key not in SCALARS:
            kept[str(key)] = value
        elif (number := number_in(value)) is not None:
            kept[str(key)] = number
    return kept


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in group.items():
        if key not in {"params", "param_names"}:
            plain = _plain(value)
            if plain is not _NOT_PLAIN:
                kept[str(key)] = plain
    return kept


_NOT_PLAIN = object()


def _plain(value: object, depth: int = 3) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Stored):  # a rate that is a tensor
        number = number_in(value)
        return _NOT_PLAIN if number is None else number
    if isinstance(value, list | tuple) and depth:
        inner = tuple(_plain(item, depth - 1) for item in value)
        return _NOT_PLAIN if any(item is _NOT_PLAIN for item in inner) else inner
    return _NOT_PLAIN


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
