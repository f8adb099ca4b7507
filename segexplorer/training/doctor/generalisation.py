"""What was learned by heart: training goes on getting better while the validation does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from segexplorer.core.events import ValidationDone
from segexplorer.training.doctor.base import (
    CannotTell,
    CurveLink,
    Evidence,
    Finding,
    Place,
    check,
    median,
    scatter,
)

FEWEST = 6
"""Validations that a statement rests on: three of them after the turn."""
LATE = 3
"""The last validations, all of which must agree."""
RISE = 0.2
"""Share of its whole fall by which the validation loss must have risen again."""
GAP = 0.2
"""Difference in Dice between the watched training case and the validation cases. Cases of one data set differ by
.05 to .1 (standard deviation, organs), so that a single training case is above the mean of others by this much
by chance in under 3 %."""
SAME_DICE = 0.01
"""Dice by which the validation must have improved to count as still learning."""


@check(
    "generalisation_gap",
    "Train against validation",
    "A validation that gets worse, or stays far behind, while training gets better: the cases are learned by "
    "heart.",
)
def gap(evidence: Evidence) -> Iterator[Finding]:
    """Look for a turn of the validation loss, then for a gap in Dice."""
    validations = evidence.validations
    if evidence.planned is not None and "training case, not held out" in evidence.planned.badges:
        raise CannotTell("it validates on its training case")
    if len(validations) < FEWEST:
        raise CannotTell(f"{len(validations)} validations were made, where {FEWEST} are needed")
    found = _turned(evidence, validations) or _gap(evidence, validations)
    if found is not None:
        yield found


def _dice_stalled(validations: Sequence[ValidationDone], at: int) -> bool:
    """Whether the mean Dice of the last validations is no better than at validation `at`."""
    return max(v.mean_dice for v in validations[-LATE:]) <= validations[at].mean_dice + SAME_DICE


def _turned(evidence: Evidence, validations: Sequence[ValidationDone]) -> Finding | None:
    losses = [v.loss for v in validations]
    if not all(map(math.isfinite, losses)):
        return None
    best = min(range(len(losses)), key=losses.__getitem__)
    if best > len(losses) - 1 - LATE:
        return None
    rise = min(losses[-LATE:]) - losses[best]
    if rise <= max(RISE * (losses[0] - losses[best]), 3 * scatter(losses)):
        return None
    trained = [(e.step, e.loss) for e in evidence.epochs if e.step >= validations[best].step]
    around, late = median([v for _, v in trained[:LATE]]), median([v for _, v in trained[-LATE:]])
    if not late < around - scatter([v for _, v in trained]):
        return None
    stalled = _dice_stalled(validations, best)
    step = validations[best].step
    verdict = (
        "the training cases are being learned by heart"
        if stalled
        else "probabilities get too certain, while the mean Dice still improves"
    )
    return Finding(
        "generalisation_gap",
        "problem" if stalled else "remark",
        f"Since step {step} the validation loss rises (from {losses[best]:.3g} to {losses[-1]:.3g}) while the "
        "training loss "
        f"goes on falling (from {around:.3g} to {late:.3g}): {verdict}.",
        {
            "lowest validation loss": losses[best],
            "last validation loss": losses[-1],
            "training loss then": around,
            "training loss now": late,
            "mean Dice then": validations[best].mean_dice,
            "mean Dice now": validations[-1].mean_dice,
        },
        "Stop there (validation.early_stopping), use more training cases or more augmentation.",
        step,
        _worst(evidence, validations[-1]),
        CurveLink("validation_loss", "total"),
    )


def _gap(evidence: Evidence, validations: Sequence[ValidationDone]) -> Finding | None:
    trained = {e.step: e for e in evidence.watched("train") if e.class_dice}
    pairs = [(v, trained[v.step]) for v in validations if v.step in trained]
    if len(pairs) < LATE:
        return None
    gaps = [_mean(w.class_dice.values()) - v.mean_dice for v, w in pairs]
    best = max(range(len(validations)), key=lambda i: validations[i].mean_dice)
    still = best > len(validations) - 1 - LATE and not _dice_stalled(
        validations, max(0, len(validations) - 1 - LATE)
    )
    if still or not all(g >= GAP for g in gaps[-LATE:]):
        return None
    begun = len(pairs)
    while begun and gaps[begun - 1] >= GAP:
        begun -= 1
    last, case = pairs[-1]
    return Finding(
        "generalisation_gap",
        "problem",
        f"The watched training case has a Dice of {_mean(case.class_dice.values()):.2f}, the validation cases "
        f"{last.mean_dice:.2f}, and they improve no more: a gap of at least {GAP:g} since step "
        f"{pairs[begun][0].step}.",
        {
            "Dice of the training case": _mean(case.class_dice.values()),
            "Dice of the validation cases": last.mean_dice,
            "gap": gaps[-1],
        },
        "Use more training cases or more augmentation, a smaller network, or weight decay; and see whether "
        "training "
        "and validation cases are alike.",
        pairs[begun][0].step,
        _worst(evidence, validations[-1]),
        CurveLink("dice", "mean"),
    )


def _mean(values: object) -> float:
    finite = [float(v) for v in values if math.isfinite(v)]  # type: ignore[attr-defined]
    return sum(finite) / len(finite) if finite else math.nan


def _worst(evidence: Evidence, validation: ValidationDone) -> Place:
    """Return the case and class with the lowest Dice of a validation."""
    scored = [s for s in validation.scores if math.isfinite(s.metrics.get("dice", math.nan))]
    if not scored:
        return Place()
    worst = min(scored, key=lambda s: s.metrics["dice"])
    return Place(worst.class_name, worst.case, "validation")
