"""The sentences of a report: what every drawing says of a diagnosis, from one place."""

from __future__ import annotations

from collections.abc import Iterator

from deadneuron.records import Diagnosis, Finding, Gap, Reference
from deadneuron.report import checkpoints
from deadneuron.report.cells import at_least, known
from deadneuron.report.evidence import MEASURED, caveat
from deadneuron.report.page import Advice, Page, Unmeasured, Why
from deadneuron.report.rate import rate_lines
from deadneuron.report.style import printable

_OF_SILENCE = ("stuck", "dying", "born-dead", "born-dead-excess")  # findings whose n is that of silent units
_NAMED = 4  # layers in the verdict
_FACTS = 3  # sentences of evidence beneath a finding on checkpoints; the JSON report has all


def page_of(diagnosis: Diagnosis) -> Page:
    """Everything that is said of a run or of checkpoints, as printable one-line strings."""
    of_run = diagnosis.source == "run"
    coverage = diagnosis.coverage
    return Page(
        head=tuple(_head(diagnosis) if of_run else checkpoints.head(diagnosis)),
        status=diagnosis.status,
        verdict=_verdict(diagnosis),
        caveat=caveat(diagnosis),
        why=tuple(_why(diagnosis)),
        answer=printable(diagnosis.answer),
        rates=tuple(rate_lines(diagnosis)),
        next=tuple(_next(diagnosis)),
        seen=f"{coverage.seen} of {coverage.known} {'activation sites seen' if of_run else 'layers judged'}",
        complete=coverage.seen == coverage.known,
        how=_how(diagnosis) if of_run else checkpoints.how(diagnosis),
        reference="" if diagnosis.reference is None else _reference(diagnosis.reference),
        checkpoints=checkpoints.listing(diagnosis) if diagnosis.checkpoints else None,
        blind="NOT MEASURED" if of_run else "NOT JUDGED",
        gaps=tuple(_gap(gap, of_run) for gap in diagnosis.gaps),
    )


def _head(diagnosis: Diagnosis) -> Iterator[str]:
    yield from ("deadneuron", printable(diagnosis.run), printable(diagnosis.model))
    if diagnosis.last_step is None:
        yield "no steps"
    else:
        yield f"steps {diagnosis.first_step or 0}–{diagnosis.last_step:,}"
    if diagnosis.ended is None:
        yield "not ended: it still runs, or was killed"
    elif diagnosis.ended_by is not None:
        yield f"ended by {printable(diagnosis.ended_by)}"


def _verdict(diagnosis: Diagnosis) -> str:
    seen = [verdict for verdict in diagnosis.verdicts if known(verdict)]
    if not seen:
        return "no activation was seen" if diagnosis.source == "run" else "nothing is known of any layer"
    dead, units = sum(v.dead or 0 for v in seen), sum(v.units or 0 for v in seen)
    layers = [printable(verdict.name) for verdict in seen if verdict.status != "healthy"]
    more = "at least " if any(at_least(verdict) for verdict in seen) else ""
    said = f"{more}{dead:,} of {units:,} units {'is' if dead == 1 else 'are'} dead {_when(diagnosis)}"
    if layers:
        numbers = diagnosis.source == "checkpoints" and all(layer.isdigit() for layer in layers)  # of nn.Sequential
        word = f"layer{'s' * (len(layers) > 1)} " if numbers else ""
        said += f"; look at {word}{', '.join(layers[:_NAMED])}{' …' if len(layers) > _NAMED else ''}"
    return said


def _when(diagnosis: Diagnosis) -> str:
    if diagnosis.source == "checkpoints":
        return checkpoints.when(diagnosis)
    return "at the end" if diagnosis.ended else "so far"


def _why(diagnosis: Diagnosis) -> Iterator[Why]:
    """The findings. What the same evidence rests on is told once: it is long, and the same for most layers."""
    told: dict[tuple[str, ...], str] = {}
    for finding in diagnosis.findings:
        rests = tuple(printable(str(fact)) for fact in finding.evidence.get("facts", []))
        first = told.setdefault(rests, printable(finding.where))
        same = len(rests) > 1 and first != printable(finding.where)
        facts = (
            [f"known in the same way as {'layer ' if first.isdigit() else ''}{first}"] if same else list(rests[:_FACTS])
        )
        if len(rests) > _FACTS and not same:
            facts.append(f"and {len(rests) - _FACTS} more like these")
        yield Why(finding.level, printable(finding.text), (*facts, *_facts(finding)))


def _facts(finding: Finding) -> Iterator[str]:
    evidence = finding.evidence
    if evidence.get("samples"):
        bound = evidence.get("bound") if finding.code in _OF_SILENCE else None
        each = "" if bound is None else f", so each fires on at most {bound:.2g} of all (95 %)"
        yield f"n = {evidence['samples']:,} examples{each}"
    by = evidence.get("by")  # what told it, of checkpoints; moments tell of no steps but those since the last gradient
    if evidence.get("window") and by in (None, "replay", MEASURED):
        yield f"{'watched in' if by is None else 'covers'} steps {{:,}}–{{:,}}".format(*evidence["window"])
    if evidence.get("closed_above"):
        yield f"{evidence['closed_above']} of them closed at the gate's upper end"
    steps = [f"{count} in step {step:,}" for step, count, _ in evidence.get("worst_steps", []) if count > 1]
    if steps:
        yield "most deaths: " + ", ".join(steps[:3])


def _next(diagnosis: Diagnosis) -> Iterator[Advice]:
    places: dict[str, list[str]] = {}  # of each line: what is to be done at several places is told once
    for finding in diagnosis.findings:
        for line in finding.advice.splitlines():
            if finding.where not in places.setdefault(line, []):
                places[line].append(finding.where)
    for line, where in places.items():
        command = checkpoints.measuring(diagnosis) if checkpoints.asks_to_measure(line) else ()
        yield Advice(printable(line), tuple(map(printable, where)), command)
    if diagnosis.source == "checkpoints":
        yield from checkpoints.advice(diagnosis)
        return
    if not diagnosis.findings:
        yield Advice("nothing to change: hardly a unit died or fell silent")
    if diagnosis.episodes:
        command = (f"deadneuron report {printable(diagnosis.run)}", "--format json")
        yield Advice("every death with its step and rate:", command=command, minor=True)


def _how(diagnosis: Diagnosis) -> str:
    sampling = diagnosis.sampling
    if sampling is None:
        return ""
    full = "step" if sampling.every == 1 else f"{_nth(sampling.every)} step"
    return f"counted at every step, full statistics at every {full}, windows of {sampling.window} steps"


def _reference(reference: Reference) -> str:
    examples = "" if reference.examples is None else f" of {reference.examples:,} examples"
    share = reference.seconds / reference.of_seconds if reference.of_seconds else 0.0
    cost = f"{reference.passes} passes, {reference.seconds:.2g} s, {share:.1%} of the run's time"
    return f"reference batch{examples}: {cost}"


def _gap(gap: Gap, of_run: bool) -> Unmeasured:
    # The gaps of checkpoints name their own steps: a file that cannot be read has none.
    since = f" (since step {gap.first_step})" if of_run else ""
    return Unmeasured(printable(gap.where), printable(gap.reason) + since)


def _nth(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
