"""Which site a call of an activation is: told by who calls it and by the parameter that feeds it.

The order of calls serves only where no feeder is known. Where nothing tells two calls apart they are one site.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from deadneuron.errors import UsageError
from deadneuron.measure.axes import NO_AXIS
from deadneuron.measure.feeders import Producer, still_fed_by, trace
from deadneuron.measure.sites import AxisFrom, LiveSite, guess_axis

if TYPE_CHECKING:
    from deadneuron.measure.probe import Probe
    from deadneuron.measure.tap import Tap

_MOST_OUTSIDE = 32  # calls of one activation by hand between two steps that may each be a site


class Resolver:
    """The sites of one activation."""

    def __init__(self, probe: Probe, tap: Tap) -> None:
        self.probe, self.tap, self.name = probe, tap, tap.name
        self.sites: list[LiveSite] = []
        self.routes: dict[tuple[nn.Module | None, int], LiveSite] = {}  # (caller, call number) → its site last time

    def site(self, x: Tensor) -> LiveSite:
        """The site of the call whose pre-activation is `x`; a new one if there is none."""
        caller = self.tap.caller or self.probe.stack.caller()
        call = self.probe.stack.next_call(self.tap)
        site = self.routes.get((caller, call))
        if site is None or (x.grad_fn is not None and not _confirmed(site, x)):
            site = self.routes[caller, call] = self._resolve(x, caller, call)
        return site

    def expects(self, x: Tensor) -> bool:
        """Whether the next call, given `x`, is one whose feeder is known: then there is nothing to find out."""
        calls = self.probe.stack.calls.get(id(self.tap), 0)
        site = self.routes.get((self.tap.caller or self.probe.stack.caller(), calls))
        fed = site is not None and site.feeder is not None and site.path is not None and x.grad_fn is not None
        return fed and site is not None and _confirmed(site, x)

    def _resolve(self, x: Tensor, caller: nn.Module | None, call: int) -> LiveSite:
        """The site of this caller and feeder, or of this call where no feeder is known; a new one if there is none."""
        producer = trace(x) or self.probe.without_graph(self.tap, x, caller, call)
        feeder = producer.feeder if producer is not None else None
        where = self.probe.names.get(caller, "") if caller is not None else ""
        path = producer.path if producer is not None else None
        known = self.routes.get((caller, call))
        part = producer.part if producer is not None else ()
        entry = producer.entry if producer is not None else None
        site = self._known(where, feeder, entry, path, part, call, has_graph=x.grad_fn is not None)
        if site is not None:
            if path is not None:
                site.path, site.traced = path, True
            self._learn_axis(site, x, producer)
            return site
        if known is not None and feeder is not None and known.path == path and self._was_replaced(known, x):
            known.feeder = feeder  # new leaves every step: functional_call, load_state_dict(assign=True)
            return known
        if known is None and caller is None and x.grad_fn is None:
            return self._outside(call) or self._new_site(x, producer, where, call)
        if known is None or (known.feeder is not None and known.feeder.requires_grad):
            return self._new_site(x, producer, where, call)
        if producer is not None:  # first seen without a graph, or frozen since
            if self._axis(x, producer)[0] != known.axis_in(x):  # and its axis was guessed wrongly
                return self._new_site(x, producer, where, call)
            known.feeder, known.path = (known.feeder, None) if feeder is None else (feeder, path)
        known.traced = x.grad_fn is not None
        return known

    def _known(
        self,
        where: str,
        feeder: Tensor | None,
        entry: int | None,
        path: tuple[int, ...] | None,
        part: tuple[int, ...],
        call: int,
        *,
        has_graph: bool,
    ) -> LiveSite | None:
        """The site of this caller that the same parameter feeds; that of the same call where nothing feeds either."""
        mine = [site for site in self.sites if site.caller == where]
        if feeder is None:
            return next((site for site in mine if has_graph and site.feeder is None and site.nth == call), None)
        # The same parameter by another path is another site (relu(y) beside relu(-y)), and so are other units of it
        # (the gates of an LSTM), unless it is the same call.
        fed = [site for site in mine if site.feeder is feeder and site.entry == entry]
        return (
            next((site for site in fed if path is not None and site.path == path and site.part == part), None)
            or next((site for site in fed if site.nth == call), None)
            or next((site for site in fed if site.path is None or path is None), None)
        )

    def _was_replaced(self, site: LiveSite, x: Tensor) -> bool:
        """Whether what fed the site is no parameter of the model any longer, while the site's shape is what it was."""
        units = x.shape[axis] if -x.dim() <= (axis := site.axis_in(x)) < x.dim() else None
        current = any(parameter is site.feeder for parameter in self.probe.model.parameters())
        return not current and (site.axis == NO_AXIS or units == site.units)

    def _outside(self, call: int) -> LiveSite | None:
        """The site of a call outside of every container and without a graph: nothing but other calls can tell it."""
        fed = [site for site in self.sites if site.feeder is not None]
        if len(fed) == 1:
            return fed[0]
        if fed or call >= _MOST_OUTSIDE:
            raise LookupError("called by hand and without a gradient: which layer it belongs to cannot be told")
        return None

    def _learn_axis(self, site: LiveSite, x: Tensor, producer: Producer | None) -> None:
        axis, _ = self._axis(x, producer)
        if axis != NO_AXIS and x.shape[axis] == site.units:
            site.axes[x.dim()] = axis

    def _new_site(self, x: Tensor, producer: Producer | None, caller: str, call: int) -> LiveSite:
        axis, axis_from = self._axis(x, producer)
        site = LiveSite(
            number=len(self.probe.sites),
            module=self.name,
            call=len(self.sites),
            op=self.tap.kind.op,
            source="module" if self.tap.caller is None else "function",
            units=1 if axis == NO_AXIS else x.shape[axis],
            axis=axis,
            axis_from=axis_from,
            gate=self.tap.kind.gate,
            outputs=self.tap.kind.outputs,
            caller=caller,
            nth=call,
            feeder=producer.feeder if producer else None,
            path=producer.path if producer else None,
            part=producer.part if producer else (),
            entry=producer.entry if producer else None,
            traced=x.grad_fn is not None,
            low=self.tap.kind.low(self.probe.epsilon),
            axes={x.dim(): axis},
        )
        if axis_from == "shape" and x.dim() > 2:
            shape = tuple(x.shape)
            self.probe.fail(self.name, f"unit axis {axis} assumed for shape {shape}: say it with unit_axis=")
        if producer is not None and producer.grouped:
            reason = "one call computes several experts: a unit here is the same neuron of all of them together"
            self.probe.note(self.name, reason)
        self.sites.append(site)
        self.probe.sites.append(site)
        return site

    def _axis(self, x: Tensor, producer: Producer | None) -> tuple[int, AxisFrom]:
        axis = self.probe.stated_axis(self.name)
        if axis is not None:
            if not -x.dim() <= axis < x.dim():
                raise UsageError(f"unit_axis {axis} is outside of a tensor of shape {tuple(x.shape)}", where=self.name)
            return axis % x.dim(), "user"
        if producer is not None and producer.axis is not None and producer.axis < x.dim():
            return producer.axis, "producer"
        return guess_axis(self.probe.model, self.tap.kind.module if self.tap.caller is None else None, x)


def _confirmed(site: LiveSite, x: Tensor) -> bool:
    """Whether this call's pre-activation still comes from what feeds the site (or from nothing that can be known)."""
    if site.feeder is None or site.path is None:
        return site.traced
    return still_fed_by(x, site.path, site.feeder, site.entry)
