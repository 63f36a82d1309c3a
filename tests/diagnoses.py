"""Diagnoses of made runs, one for each kind of report."""

from __future__ import annotations

import math
from dataclasses import replace

from making import ends_every, lives, make_run, make_site, make_ticks, make_windows
from tried import make_branch, make_links, make_sweep

from deadneuron.analysis.diagnosis import diagnose
from deadneuron.records import Diagnosis, Gap

STEPS = 307


def _layer(number, units, silent, steps=STEPS, **site):
    made = make_site(number, units, name=f"layers.{number}.act", module=f"layers.{number}.act", **site)
    return made, make_windows(made, lives(units, steps, silent), ends_every(50, steps))


def _run(*layers, steps=STEPS, gaps=(), **info):
    sites = [site for site, _ in layers]
    windows = [window for _, made in layers for window in made]
    ticks = make_ticks([0.2 * math.cos(step / 400) for step in range(steps)], loss=1.0)
    return make_run(sites, windows, ticks, gaps, **info)


def _dying() -> Diagnosis:
    first = {unit: [(41 + 3 * unit, STEPS - 1)] for unit in range(31)}
    second = {0: [(20, 250)], 1: [(201, STEPS - 1)], 2: [(290, STEPS - 1)]}
    return diagnose(_run(_layer(0, 101, first), _layer(1, 53, second), _layer(2, 29, {})))


def _healthy() -> Diagnosis:
    return diagnose(_run(_layer(0, 101, {7: [(60, STEPS - 1)]}), _layer(1, 53, {})))


def _stuck() -> Diagnosis:
    silent = {unit: [(0, STEPS - 1)] for unit in range(5)} | {unit: [(31, STEPS - 1)] for unit in range(5, 37)}
    born = {unit: [(0, STEPS - 1)] for unit in range(11)}
    return diagnose(_run(_layer(0, 53, silent, op="ReLU6"), _layer(1, 101, born)))


def _unknown() -> Diagnosis:
    gap = Gap("layers.0.act", "never called: no pass in train mode was seen", 0)
    return diagnose(make_run(ticks=make_ticks([0.1] * 13), gaps=[gap], modules=("layers.0.act", "layers.1.act")))


def _gaps() -> Diagnosis:
    gaps = [
        Gap("layers.1.glu", "GLU mixes units: its open set is no interval", 0),
        Gap("run folder", "cannot write the run folder: No space left on device", 250),
    ]
    made = _run(
        _layer(0, 53, {}), _layer(1, 29, {}, steps=60), gaps=gaps, modules=("layers.0.act", "layers.1.act", "head.act")
    )
    return diagnose(made)


def _tried() -> Diagnosis:
    sweep, branch = make_sweep(), make_branch()
    return replace(_dying(), trials=(sweep, branch), links=make_links(sweep, branch))


KINDS = {"dying": _dying, "tried": _tried, "healthy": _healthy, "stuck": _stuck, "unknown": _unknown, "gaps": _gaps}
