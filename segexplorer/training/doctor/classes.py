"""Classes that a run has lost: no longer predicted, never found, predicted everywhere, or gone from the grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from segexplorer.core.errors import SegExplorerError
from segexplorer.core.events import CaseScore, ValidationDone
from segexplorer.training.doctor.base import CannotTell, CurveLink, Evidence, Finding, Place, check

GONE = 0.01
"""Share of a structure's volume below which a prediction counts as none: a hundredth of it is a few voxels at a
border, which no threshold of a metric would call found."""
ALIVE = 0.1
"""Dice from which a class counts as found once. Of a structure that fills a few percent of a volume, guessing
reaches a Dice of a few hundredths at most."""
FLOOD = 10.0
"""Times its own volume above which a class is predicted everywhere: Dice cannot exceed 2 / (1 + 10) = .18 then."""
IN_A_ROW = 2
"""Validations in a row, the last ones, that must agree: one alone may be a single bad step."""
ENOUGH = 0.5
"""Share of the planned steps after which a class that was never found is a problem and not an early stage: most
schedules have their highest learning rates behind them then."""


@dataclass(frozen=True)
class _Volume:
    """What one validation says of one class, over the cases that have it."""

    step: int
    predicted: float
    dice: float
    cases: int
    missed: int
    largest: str

    @property
    def gone(self) -> bool:
        return self.predicted < GONE


def _volumes(name: str, validations: Sequence[ValidationDone]) -> list[_Volume]:
    found = []
    for event in validations:
        scores = [s for s in event.scores if s.class_name == name and s.truth_ml > 0]
        if scores:
            found.append(_volume(event, name, scores))
    return found


def _volume(event: ValidationDone, name: str, scores: Sequence[CaseScore]) -> _Volume:
    truth = sum(s.truth_ml for s in scores)
    predicted = sum(s.truth_ml - s.false_negative_ml + s.false_positive_ml for s in scores)
    return _Volume(
        event.step,
        predicted / truth,
        event.class_dice.get(name, math.nan),
        len(scores),
        sum(s.state == "missed" for s in scores),
        max(scores, key=lambda s: s.truth_ml).case,
    )


@check(
    "collapsed_class",
    "Collapsed classes",
    "A class that was found and is predicted no more, was never found, or is predicted everywhere.",
)
def collapsed(evidence: Evidence) -> Iterator[Finding]:
    """Look at the volume that is predicted of each class, validation by validation."""
    if len(evidence.validations) < IN_A_ROW:
        raise CannotTell(f"{len(evidence.validations)} validations were made, where {IN_A_ROW} are needed")
    never: dict[str, list[_Volume]] = {}
    for name in evidence.class_names:
        volumes = _volumes(name, evidence.validations)
        if len(volumes) < IN_A_ROW:
            continue
        last = volumes[-IN_A_ROW:]
        if all(v.gone for v in last):
            if any(v.dice >= ALIVE for v in volumes):
                yield _collapsed(evidence, name, volumes)
            elif evidence.done >= ENOUGH:
                never[name] = volumes
        elif all(v.predicted > FLOOD for v in last) and evidence.done >= ENOUGH:
            yield _flooded(evidence, name, volumes)
    if never:
        yield _never_found(evidence, never)


def _collapsed(evidence: Evidence, name: str, volumes: Sequence[_Volume]) -> Finding:
    first = len(volumes)
    while volumes[first - 1].gone:
        first -= 1
    best = max(volumes[:first], key=lambda v: v.dice)
    before, begun, now = volumes[first - 1], volumes[first], volumes[-1]
    place = evidence.worst_box(name, "fn")
    return Finding(
        "collapsed_class",
        "problem",
        f"{name} has collapsed: its Dice was {best.dice:.2f} at step {best.step}, and since step {begun.step} less "
        f"than {GONE:.0%} of its volume is predicted (missed in {now.missed} of {now.cases} cases).",
        {
            "predicted share of its volume": now.predicted,
            "missed cases": now.missed,
            "cases": now.cases,
            "best Dice": best.dice,
            "Dice before": before.dice,
            "last step with it": before.step,
        },
        f"Go back to the checkpoint of step {best.step} or before (best), and lower the learning rate; if it "
        "collapses again, use a loss that looks after missed voxels (a higher beta, a term with overlap).",
        begun.step,
        place if place.case else Place(name, now.largest, "validation"),
        CurveLink("dice", name),
    )


def _never_found(evidence: Evidence, never: Mapping[str, Sequence[_Volume]]) -> Finding:
    """Return one finding for all classes that were never found; its place is that of the first."""
    name, volumes = next(iter(never.items()))
    now = volumes[-1]
    place = evidence.worst_box(name, "fn")
    one = len(never) == 1
    return Finding(
        "collapsed_class",
        "problem",
        f"{', '.join(never)} {'was' if one else 'were'} never found: in all {len(volumes)} validations up to step "
        f"{now.step}, less than {GONE:.0%} of {'its' if one else 'their'} volume is predicted.",
        {f"predicted share of {cls}": found[-1].predicted for cls, found in never.items()},
        "Use a loss with overlap (Dice, Tversky with a high beta) or class weights, and sample more patches with "
        f"{'it' if one else 'them'} (sampling.foreground_ratio); or train longer.",
        volumes[0].step,
        place if place.case else Place(name, now.largest, "validation"),
        CurveLink("dice", name),
    )


def _flooded(evidence: Evidence, name: str, volumes: Sequence[_Volume]) -> Finding:
    first = len(volumes)
    while first and volumes[first - 1].predicted > FLOOD:
        first -= 1
    now = volumes[-1]
    return Finding(
        "collapsed_class",
        "problem",
        f"{name} is predicted nearly everywhere: since step {volumes[first].step} at least {FLOOD:.0f} times its "
        "volume, "
        f"{now.predicted:.0f} times at the end (Dice {now.dice:.2f}).",
        {"predicted share of its volume": now.predicted, "Dice": now.dice},
        "Raise the penalty for false positives (alpha), lower class weights, or sample more patches without it.",
        volumes[first].step,
        evidence.worst_box(name, "fp"),
        CurveLink("dice", name),
    )


# ---- on the training grid

_LOST = {"class_vanishes", "class_untrained", "no_class"}


@check(
    "lost_on_grid",
    "Classes lost on the training grid",
    "A class of which resampling or cropping leaves nothing in some or all training cases.",
)
def lost_on_grid(evidence: Evidence) -> Iterator[Finding]:
    """Count the voxels of each class in the files and on the training grid, as the plan of a run does."""
    from segexplorer.data.case import ClassMap
    from segexplorer.data.class_voxels import ENOUGH as ENOUGH_CASES
    from segexplorer.data.class_voxels import class_problems
    from segexplorer.data.transforms import FittedPreprocessing
    from segexplorer.training.checkpoint import open_checkpoint
    from segexplorer.training.run_files import read_provenance

    if evidence.record.recorded is not None:
        raise CannotTell("another program trained it, on a grid that is not known")
    roles = next((a.roles for a in reversed(read_provenance(evidence.record.folder)) if a.roles), None)
    if roles is None:
        raise CannotTell("it did not get so far as to read its cases")
    try:
        checkpoint, _ = open_checkpoint(evidence.record.folder / "checkpoints", "last")
        fitted = FittedPreprocessing.of(checkpoint.meta["preprocessing"])
        classes = ClassMap.of(checkpoint.meta["classes"])
        refs = {ref.id: ref for ref in evidence.experiment.data.cases()}
        if missing := [case for case in roles if case not in refs]:
            raise CannotTell(f"its data are not on this computer ({len(missing)} cases are missing)")
        problems = class_problems(refs, roles, fitted, classes, all_cases=len(roles) <= ENOUGH_CASES)
    except SegExplorerError as error:
        raise CannotTell(error.message.rstrip(".")) from error
    for problem in problems:
        if problem.code in _LOST:
            yield Finding(
                "lost_on_grid",
                "problem",
                problem.message,
                problem.evidence,
                problem.remedy,
                0,
                Place(problem.class_name, problem.case),
                CurveLink("dice", problem.class_name) if problem.class_name else None,
            )
