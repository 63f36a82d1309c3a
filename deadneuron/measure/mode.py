"""The function mode: sees every torch call that a model's forward makes, while a pass of the model is counted.

It is on the stack only between the outermost container's hooks, and only in passes that discover which functional
activations there are or that are known to have some: a mode costs about a microsecond for each torch call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from deadneuron.measure.compiled import in_transform
from deadneuron.measure.functions import READERS

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe


class FunctionMode(TorchFunctionMode):
    """Hands activations that are called as functions to the probe."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.probe = probe
        self.order = probe.order
        self.on = False  # it is on the stack of this thread
        self.traced_in: nn.Module | None = None  # the module whose hook put it there in a traced program

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = {} if kwargs is None else kwargs
        if torch.compiler.is_compiling():
            return self._traced(func, args, kwargs)
        functions = self.probe.functions
        call = functions.begin(func, args, kwargs)
        output = func(*args, **kwargs)
        if call is not None:
            functions.end(call, output)
        return output

    def put_on(self) -> None:
        """Enter the stack of modes."""
        if not self.on:
            self.on = True
            self.__enter__()  # type: ignore[no-untyped-call]

    def take_off(self) -> None:
        """Leave the stack of modes, wherever in it this one is: a KeyboardInterrupt may have left others above it."""
        if not self.on:
            return
        above = []
        try:
            while torch._C._len_torch_function_stack():
                mode = torch._C._pop_torch_function_stack()
                if mode is self:
                    break
                above.append(mode)
        finally:
            for mode in reversed(above):
                torch._C._push_on_torch_function_stack(mode)
        self.on = False  # last of all: a KeyboardInterrupt in here must not leave the mode there for good

    # ── in a traced program: no state but the stack of modes itself may change ───────────────────────────────────────

    def enter_traced(self, module: nn.Module) -> None:
        """A container enters while torch.compile traces it."""
        if not self.on and self.probe.functional:
            self.on = True
            self.traced_in = module
            self.__enter__()  # type: ignore[no-untyped-call]

    def leave_traced(self, module: nn.Module) -> None:
        """The container leaves."""
        if self.traced_in is module:
            self.on = False
            self.traced_in = None
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _traced(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.compiler.is_exporting():
            return func(*args, **kwargs)
        if func is checkpoint and args:
            # The segment is traced as a program of its own, to which this mode does not extend by itself. It may not
            # be the first to change the stack of modes: so that is changed here, to no effect.
            with self:
                pass
            return func(self._inside(args[0]), *args[1:], **kwargs)
        read = READERS.get(func)
        if read is not None:
            applied = read(*args, **kwargs)
            if applied is not None:
                x, kind, parameters, other = applied
                if isinstance(x, Tensor) and x.is_floating_point() and not in_transform(self.probe.number):
                    torch.ops.deadneuron.apply(x, other, self.order, kind, list(parameters))
        return func(*args, **kwargs)

    def _inside(self, function: Any) -> Any:
        def segment(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return segment
