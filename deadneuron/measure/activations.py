"""Which activations a model has: modules of the gates' table, elementwise modules of the user's, and maybe functions.

What a model's Python calls by function (`F.relu`) is known only while it runs; here it is told whether it may.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn
from torch.jit import ScriptModule
from torch.nn.parameter import is_lazy

from deadneuron.errors import NoSitesError, UsageError
from deadneuron.measure.functions import MODULES
from deadneuron.measure.gates import Gate, base_of, why_no_gate
from deadneuron.measure.kinds import Kind, NoGateError, is_linear, kind_of, stated_kind
from deadneuron.measure.sites import plain_name

# Layers of torch.nn that call their activation as a function.
_CALLERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_FUSED = (nn.RNNBase, nn.RNNCellBase)
# What activation classes are called; only such are tried for a gate of their own without being named by the user.
_IN_NAME = re.compile(
    r"relu|gelu|silu|swish|[^a-z]elu|selu|celu|mish|tanh|sigmoid|softplus|softsign|snake|activation", re.IGNORECASE
)


@dataclass(slots=True)
class Found:
    """The activations of one model."""

    kinds: dict[str, Kind] = field(default_factory=dict)  # to measure, by module name
    gaps: dict[str, str] = field(default_factory=dict)  # why others cannot be
    muted: list[nn.Module] = field(default_factory=list)  # not measured, by name or for want of a gate
    functional: bool = False  # the model may call activations as functions


@dataclass(frozen=True, slots=True)
class Choice:
    """Which activations the user wants: glob patterns on their names."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, include: str | Sequence[str] | None, exclude: str | Sequence[str] | None) -> Choice:
        include, exclude = ((given,) if isinstance(given, str) else given for given in (include, exclude))
        return cls(None if include is None else tuple(include), tuple(exclude or ()))

    def __contains__(self, name: str) -> bool:
        kept = self.include is None or any(fnmatchcase(name, pattern) for pattern in self.include)
        return kept and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


Named = Mapping[str, Gate | None]


def find_activations(model: nn.Module, choice: Choice, named: Named, epsilon: float) -> Found:
    """What there is to measure in a model.

    Raises `NoSitesError` where nothing can be, and `UsageError` for a pattern or a named activation that is not there,
    or that has no gate.
    """
    found = Found(functional=any(map(may_call_functions, model.modules())))
    measurable, chosen = Found(), _named(model, named)
    for full_name, module in model.named_modules():
        name = plain_name(full_name) or type(module).__name__
        if name in measurable.kinds or name in measurable.gaps:  # "module.act" and "act" may both be there
            name = full_name
        if isinstance(module, ScriptModule):
            if not any(name.startswith(f"{outer}.") for outer in measurable.gaps):
                measurable.gaps[name] = "torch.jit made it: what it computes inside is not measured"
        elif module in chosen:
            measurable.kinds[name] = _given(name, module, chosen[module], epsilon)
        elif isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            measurable.gaps[name] = "its replicas run in threads, of which one at a time is counted"
        elif isinstance(module, _FUSED):
            measurable.gaps[name] = f"{type(module).__name__} runs as one kernel: the gates inside it are not measured"
        elif base_of(module) is not None and why_no_gate(module) is None:
            measurable.kinds[name] = kind_of(module, epsilon)
        elif why_no_gate(module) is not None or _is_named_like_one(module):
            kind, reason = _tried(module, epsilon)
            if kind is not None:
                measurable.kinds[name] = kind
            elif why_no_gate(module) is not None:
                measurable.gaps[name] = why_no_gate(module) or reason
                found.muted.append(module)
    if not measurable.kinds and not found.functional:
        todo = "deadneuron sees activation modules (nn.ReLU, nn.GELU …) and activations called in a model's own forward"
        raise NoSitesError("the model has no activation to watch", where=type(model).__name__, todo=todo)
    names = [*measurable.kinds, *measurable.gaps]
    for pattern in (*(choice.include or ()), *choice.exclude):
        check_pattern("the pattern matches no activation", pattern, model, names)
    found.kinds = {name: kind for name, kind in measurable.kinds.items() if name in choice}
    found.gaps = {name: reason for name, reason in measurable.gaps.items() if name in choice}
    found.muted += [kind.module for name, kind in measurable.kinds.items() if name not in choice]
    if not found.kinds and not found.functional:
        raise NoSitesError("include= and exclude= leave no activation to watch", todo="widen the patterns")
    return found


def check_pattern(message: str, pattern: str, model: nn.Module, names: Sequence[str]) -> None:
    """Raise `UsageError` for a pattern that matches no activation module and no function that the model may call."""
    if any(fnmatchcase(name, pattern) for name in names) or any(
        fnmatchcase(name, pattern) for name in _possible_functions(model)
    ):
        return
    known = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    raise UsageError(message, where=pattern, todo=f"there are {known or 'only functions, named like relu()'}")


def may_call_functions(module: nn.Module) -> bool:
    """Whether a module's forward may apply an activation by a function: that of any class outside of torch.nn."""
    if isinstance(module, ScriptModule):  # Python sees nothing of it
        return False
    return isinstance(module, _CALLERS) or not type(module).__module__.startswith(("torch.nn.", "torch._dynamo"))


def containers_of(model: nn.Module, found: Found) -> Iterator[nn.Module]:
    """The modules in whose forward an activation may be applied: those that contain one, and those of the user's."""
    activations = {*(kind.module for kind in found.kinds.values()), *found.muted}
    for module in model.modules():
        if module in activations or type(module).__module__.startswith("torch._dynamo"):
            continue
        if isinstance(module, ScriptModule):  # it takes no hooks
            continue
        if (
            module is model
            or may_call_functions(module)
            or any(child in activations or may_call_functions(child) for child in module.modules())
        ):
            yield module


def function_name(caller: str, function: str) -> str:
    """What an activation is called that the module `caller` applies by a function."""
    return f"{caller}.{function}()" if caller else f"{function}()"


def _possible_functions(model: nn.Module) -> Iterable[str]:
    for full_name, module in model.named_modules():
        if may_call_functions(module):
            yield from (function_name(plain_name(full_name), function) for function in MODULES)


def _named(model: nn.Module, named: Named) -> dict[nn.Module, Gate | None]:
    """The modules that the user names as activations, by glob pattern of their names or by their class."""
    chosen: dict[nn.Module, Gate | None] = {}
    for pattern, gate in named.items():
        if gate is not None and not (len(gate) == 2 and gate[0] < gate[1] and not any(map(math.isnan, gate))):
            raise UsageError("a gate is an interval (low, high)", where=f"activations[{pattern!r}] = {gate}")
        modules = [
            module
            for name, module in model.named_modules()
            if name and (fnmatchcase(plain_name(name), pattern) or type(module).__name__ == pattern)
        ]
        if not modules:
            todo = "give a glob pattern of module names, or the name of a class"
            raise UsageError("no module of the model is called so", where=f"activations[{pattern!r}]", todo=todo)
        for module in modules:
            chosen.setdefault(module, gate)
    return chosen


def _given(name: str, module: nn.Module, gate: Gate | None, epsilon: float) -> Kind:
    if gate is not None:
        return stated_kind(module, (float(gate[0]), float(gate[1])))
    try:
        return kind_of(module, epsilon)
    except NoGateError as error:
        todo = f'state it: activations={{"{name}": (low, high)}}'
        raise UsageError(f"its gate cannot be derived: {error}", where=name, todo=todo) from None


def _is_named_like_one(module: nn.Module) -> bool:
    if type(module).__module__.startswith("torch.nn.") or not _IN_NAME.search(f" {type(module).__name__}"):
        return False
    if any(True for _ in module.children()):
        return False
    return all(not is_lazy(parameter) and parameter.dim() <= 1 for parameter in module.parameters())


def _tried(module: nn.Module, epsilon: float) -> tuple[Kind | None, str]:
    try:
        kind = kind_of(module, epsilon)
    except (NoGateError, KeyError) as error:
        return None, str(error)
    return (None, "it is linear") if is_linear(kind) else (kind, "")
