"""Diagnoses of checkpoints made by hand, one for each kind of report; they claim no more than the records allow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from deadneuron.profiles import load_profile
from deadneuron.records import (
    DIAGNOSIS_VERSION,
    CheckpointInfo,
    Coverage,
    Diagnosis,
    Episode,
    Finding,
    Gap,
    History,
    Verdict,
)

THRESHOLDS = load_profile("default").thresholds
MEASURE = "measure it: add --model module:factory --data module:batches, and each unit is counted on your own examples"
REPLAYED = "zero-gradient replay of Adam over {} steps: state bit for bit, weights to 1e-5"


def make_infos(steps: Iterable[int], rates: Sequence[float] = (0.003,), how: str = "") -> tuple[CheckpointInfo, ...]:
    return tuple(
        CheckpointInfo(
            f"checkpoints/step-{step:04}.pt",
            "torch training dict",
            step,
            "the optimizer's state",
            tuple(rates),
            how or ("replay from the one before, its optimizer's state" if number else "its optimizer's state"),
        )
        for number, step in enumerate(steps)
    )


def make_verdict(number: int, units: int, dead: int = 0, born: int = 0, **changes) -> Verdict:
    values = {
        "site": number,
        "name": f"layers.{number}",
        "op": "linear",
        "status": "healthy",
        "units": units,
        "dead": dead,
        "born_dead": born,
        "died": dead - born,
        "revived": 0,
        "silent": 0,
        "steps": 600,
        "enough": True,
        "window": (0, 599),
        "evidence": "replay",
    }
    return Verdict(**(values | changes))


def unknown_verdict(number: int, name: str, op: str = "linear") -> Verdict:
    return Verdict(number, name, op, "unknown")


def deaths(site: int, units: Iterable[int], first: int, latest: int, rates: tuple[float, float] | None, **changes):
    one = Episode(site, 0, "died", first, None, False, None, None, None if first == latest else latest, rates)
    return [replace(one, unit=unit, **changes) for unit in units]


def born_dead(site: int, units: Iterable[int]) -> list[Episode]:
    return [Episode(site, unit, "born dead", 0, None, True, None, None) for unit in units]


def make_history(number: int, steps: Sequence[int], dead: Sequence[float]) -> History:
    none = (0.0,) * len(steps)
    return History(number, tuple(steps), tuple(dead), none, none, ())


def make_diagnosis(verdicts: Sequence[Verdict], infos: Sequence[CheckpointInfo], **changes) -> Diagnosis:
    unseen = tuple(verdict.name for verdict in verdicts if verdict.units is None)
    units = sum(verdict.units or 0 for verdict in verdicts)
    steps = [info.step for info in infos if info.step is not None]
    order = ("severe", "warning", "unknown", "healthy")
    values = {
        "version": DIAGNOSIS_VERSION,
        "run": "checkpoints/",
        "model": f"{len(verdicts)} layers, {units:,} units",
        "status": min((verdict.status for verdict in verdicts), key=order.index, default="unknown"),
        "first_step": min(steps, default=None),
        "last_step": max(steps, default=None),
        "ended": None,
        "ended_by": None,
        "dataset_size": None,
        "thresholds": THRESHOLDS,
        "sampling": None,
        "coverage": Coverage(len(verdicts) - len(unseen), len(verdicts), unseen),
        "verdicts": tuple(verdicts),
        "episodes": (),
        "history": (),
        "answer": "",
        "certificates": (),
        "observed": (),
        "links": (),
        "trials": (),
        "reference": None,
        "findings": (),
        "gaps": (),
        "source": "checkpoints",
        "checkpoints": tuple(infos),
    }
    return Diagnosis(**(values | {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}))


def _evidence(verdict: Verdict, *facts: str) -> dict[str, object]:
    return {
        "dead": verdict.dead,
        "units": verdict.units,
        "samples": verdict.samples,
        "bound": verdict.bound,
        "window": list(verdict.window),
        "by": verdict.evidence,
        "facts": list(facts),
    }


def _dying() -> Diagnosis:
    first = make_verdict(
        0, 101, 31, status="warning", since=100, since_latest=199, rates=(0.003, 0.01), revived=2, op="linear + norm"
    )
    second = make_verdict(1, 53, 11, 11, silent=3, evidence="optimizer state")
    verdicts = [first, second, unknown_verdict(2, "head")]
    text = "layers.0 is dying: 31 of 101 units (31%) are dead: no gradient reaches them; last gradient in steps 0–499, "
    findings = [
        Finding(
            "dying",
            "warning",
            "layers.0",
            text + "at rates 0.001–0.01",
            f"{MEASURE}\ntrain again at a lower rate (try 0.0025, a quarter of what the median death used)",
            _evidence(first, *(REPLAYED.format(steps) for steps in (100, 101, 103, 107, 109))),
        ),
        Finding(
            "born-dead",
            "note",
            "layers.1",
            "layers.1: 11 of 53 units (21%) are born dead: no gradient ever reached them since the optimizer's state "
            "began",
            "this is initialization, inputs or an earlier training, and not this training's learning rate",
            _evidence(second, "exp_avg_sq of Adam is exactly 0 in these rows: certain, unless it was reset"),
        ),
        Finding("unseen", "note", "the checkpoints", "of 1 of 3 layers nothing can be said: head", MEASURE, {}),
    ]
    steps = (0, 100, 200, 300)
    return make_diagnosis(
        verdicts,
        make_infos(steps, (0.003, 0.01)),
        episodes=[
            *deaths(0, range(7), 3, 99, (0.003, 0.01)),
            *deaths(0, range(7, 29), 100, 199, (0.003, 0.01)),
            *deaths(0, range(29, 31), 131, 299, (0.001, 0.003)),
            *deaths(0, range(31, 33), 0, 99, None, last_step=250),
            *born_dead(1, range(11)),
        ],
        history=[make_history(0, steps, (0.0, 9 / 101, 31 / 101, 31 / 101)), make_history(1, steps, (11 / 53,) * 4)],
        answer="was it the rate? checkpoints cannot tell: 31 of 31 deaths are dated to updates whose rates are known, "
        "and a rate that was used is not yet a cause",
        findings=findings,
        gaps=[Gap("head", "has no state in the optimizer: it was not trained", 0)],
    )


def _stuck() -> Diagnosis:
    stuck = make_verdict(0, 53, 47, 5, status="severe", stuck=True, since=0, since_latest=499, rates=(0.1, 0.1))
    text = "layers.0 is stuck: 47 of 53 units (89%) are dead: no gradient reaches them (5 of them born dead, 42 died)"
    found = Finding("stuck", "severe", "layers.0", text, MEASURE, _evidence(stuck, REPLAYED.format(500)))
    return make_diagnosis(
        [stuck, make_verdict(1, 29)],
        make_infos((0, 500), (0.1,)),
        episodes=[*born_dead(0, range(5)), *deaths(0, range(5, 47), 0, 499, (0.1, 0.1))],
        history=[make_history(0, (500,), (47 / 53,)), make_history(1, (500,), (0.0,))],
        answer="was it the rate? checkpoints cannot tell: 42 of 42 deaths are dated to updates whose rates are known",
        findings=[found],
    )


def _healthy() -> Diagnosis:
    return make_diagnosis(
        [make_verdict(0, 101), make_verdict(1, 53)],
        make_infos((300, 600)),
        history=[make_history(number, (600,), (0.0,)) for number in range(2)],
    )


def _unknown() -> Diagnosis:
    """Weights without any optimizer state, in two files that tell no step."""
    text = "nothing can be said: no layer's units can be told alive or dead from these files alone"
    advice = "give two checkpoints of one training with their optimizer's state, or one of Adam"
    infos = [
        CheckpointInfo(place, "safetensors", None, "", (), "nothing: it gives no evidence alone")
        for place in ("a/model.safetensors", "b/model.safetensors")
    ]
    return make_diagnosis(
        [unknown_verdict(0, "fc1"), unknown_verdict(1, "fc2")],
        infos,
        run="a/model.safetensors, b/model.safetensors",
        model="2 layers, 82 units",
        findings=[Finding("blind", "severe", "the checkpoints", text, advice, {"seen": 0, "known": 2})],
        gaps=[Gap("all layers", "no optimizer state: nothing can be compared", 0)],
    )


def _adam() -> Diagnosis:
    """One checkpoint: ages from Adam's moments, and a layer that its weights hold closed."""

    def aged(unit: int, first: int) -> list[Episode]:
        return deaths(0, [unit], first, first + 60, None)

    known = make_verdict(0, 37, 9, 2, evidence="optimizer state", since=269, since_latest=329, status="warning")
    closed = make_verdict(1, 19, 3, 0, evidence="weights", status="unknown", op="norm", window=(700, 700))
    text = "layers.0 is dying: 7 of 37 units (19%) are dead: no gradient reaches them; last gradient in steps 19–389"
    fact = "ages are estimates from m²/v of Adam: median error 19 steps, and a live unit with tiny gradients looks old"
    return make_diagnosis(
        [known, closed],
        make_infos((700,)),
        run="checkpoints/step-0700.pt",
        episodes=born_dead(0, (0, 1)) + [one for back in range(7) for one in aged(2 + back, 269 - 41 * back)],
        history=[make_history(0, (699,), (9 / 37,))],
        answer="was it the rate? checkpoints cannot tell: 0 of 7 deaths are dated to updates whose rates are known",
        findings=[Finding("dying", "warning", "layers.0", text, MEASURE, _evidence(known, fact))],
    )


def _series() -> Diagnosis:
    """Many checkpoints and layers, with revivals."""
    steps = tuple(range(0, 2300, 100))
    made, episodes, history = [], [], []
    for number, units in enumerate((211, 199, 197, 193, 191, 181, 179)):
        dead = 3 * number
        spans = {"since": 100 * number, "since_latest": 100 * number + 99, "rates": (0.01 / (number + 1),) * 2}
        made.append(make_verdict(number, units, dead, revived=number, **(spans if dead else {})))
        for unit in range(dead):
            episodes += deaths(number, [unit], 100 * number, 100 * number + 99, spans["rates"])
        history.append(make_history(number, steps, [dead / units if step > 100 * number else 0 for step in steps]))
    return make_diagnosis(made, make_infos(steps), episodes=episodes, history=history)


def _measured() -> Diagnosis:
    numbers = {"samples": 1024, "bound": 3 / 1024, "evidence": "measured", "op": "ReLU", "window": (0, 600)}
    first = make_verdict(0, 101, 17, status="warning", rare=5, dormant=19, closed_above=0, **numbers)
    first = replace(first, since=200, since_latest=399, name="layers.0.act")
    second = make_verdict(1, 53, 0, rare=0, dormant=2, silent=1, name="layers.1.act", **numbers)
    text = "layers.0.act is dying: 17 of 101 units (17%) are dead: they fire on none of 1,024 examples"
    found = Finding(
        "dying", "warning", "layers.0.act", text, "warm up", _evidence(first, "counted on 1,024 examples a checkpoint")
    )
    return make_diagnosis(
        [first, second],
        make_infos((0, 200, 400, 600), how="measured"),
        model="Net",
        episodes=deaths(0, range(17), 200, 399, None, samples=1024),
        history=[make_history(0, (0, 200, 400, 600), (0.0, 0.0, 17 / 101, 17 / 101)), make_history(1, (600,), (0.0,))],
        answer="was it the rate? checkpoints cannot tell: 0 of 17 deaths are dated to updates whose rates are known",
        findings=[found],
    )


CHECKPOINTS = {
    "dying": _dying,
    "stuck": _stuck,
    "healthy": _healthy,
    "unknown": _unknown,
    "adam": _adam,
    "series": _series,
    "measured": _measured,
}
