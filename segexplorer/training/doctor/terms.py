"""Terms of a loss that count for nothing: silent ones, weights at their limits, sums beside means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from segexplorer.core.events import StepDone
from segexplorer.training.doctor.base import (
    CannotTell,
    CurveLink,
    Evidence,
    Finding,
    check,
    last_half,
    median,
)

SILENT = 0.01
"""Share of a term in the sum of all terms' gradients below which it is silent: it then turns the direction of the
gradient by less than a hundredth (0.6 degrees), while two batches of one run differ by tens of degrees."""
HEARD = 0.1
"""Share at which a term would be heard, for the factor in the remedy."""
AT_LIMIT = 0.01
"""Distance from an end of its range, as a share of the range, within which a weight is at its limit."""
FEWEST = 3
"""Measurements, or epochs, of the later half that a statement rests on."""


def _several(evidence: Evidence) -> None:
    if evidence.steps and len(evidence.steps[-1].terms) < 2:
        raise CannotTell("the loss has one term")


@check(
    "silent_term",
    "Silent terms",
    "A term of the loss whose weighted gradient on the logits is under a hundredth of all terms' together.",
)
def silent_term(evidence: Evidence) -> Iterator[Finding]:
    """Compare the gradients of the terms over the later half of what was measured."""
    _several(evidence)
    measured = [e for e in evidence.measured if len(e.term_gradients) > 2]  # two terms and their total
    if not measured:
        raise CannotTell("the gradients of its terms were not recorded (monitoring.gradients_every)")
    late = last_half(measured, FEWEST, "measurements of the gradients")
    for name in late[-1].term_gradients:
        shares = [_share(e, name) for e in late]
        if name == "total" or not median(shares) < SILENT:
            continue
        weight = median([e.terms[name][1] for e in late if name in e.terms])
        norm = median([e.term_gradients.get(name, math.nan) for e in late])
        others = median([sum(_norms(e).values()) - e.term_gradients.get(name, 0.0) for e in late])
        yield _silent(measured, name, median(shares), weight, norm, others)


def _norms(event: StepDone) -> dict[str, float]:
    return {name: norm for name, norm in event.term_gradients.items() if name != "total"}


def _share(event: StepDone, name: str) -> float:
    total = sum(_norms(event).values())
    return _norms(event).get(name, math.nan) / total if total > 0 else math.nan


def _silent(
    measured: Sequence[StepDone], name: str, share: float, weight: float, norm: float, others: float
) -> Finding:
    since = len(measured)
    while since and _share(measured[since - 1], name) < SILENT:
        since -= 1
    step = measured[min(since, len(measured) - 1)].step
    shown = name.replace("_", " ")
    numbers = {
        "share of the gradients": share,
        "weight": weight,
        "gradient": norm,
        "gradient of the others": others,
    }
    link = CurveLink("term_gradients", name)
    if weight == 0:
        return Finding(
            "silent_term",
            "remark",
            f"The term {shown} has the weight 0 from step {step} on and takes no part in training.",
            numbers,
            "Nothing needs to be done where that is intended.",
            step,
            curve=link,
        )
    factor = HEARD / (1 - HEARD) * others / norm if norm > 0 else math.inf
    remedy = (
        f"Multiply its weight by about {factor:.2g} for a tenth of the gradient, or leave the term out."
        if math.isfinite(factor)
        else "Leave the term out, or choose one that has a gradient where the network is wrong."
    )
    return Finding(
        "silent_term",
        "problem",
        f"The term {shown} is silent: from step {step} on, its gradient on the logits (weight {weight:.3g}, norm "
        f"{norm:.2g}) is {share:.2%} of that of all terms, so training goes as it would without it.",
        numbers,
        remedy,
        step,
        curve=link,
    )


@check(
    "weight_at_limit",
    "Adaptive weights at a limit",
    "A weight that adapts and has stayed at an end of its range, so that it adapts no more.",
)
def weight_at_limit(evidence: Evidence) -> Iterator[Finding]:
    """Compare the weights at the ends of epochs with the range that their rule declares."""
    limits = evidence.experiment.loss.adaptive_limits()
    adapting = [e for e in evidence.epochs if e.adaptive]
    if not limits:
        raise CannotTell("the loss has no adaptive weight with a range")
    late = last_half(adapting, FEWEST, "epochs")
    for name, (low, high) in limits.items():
        values = [e.adaptive[name] for e in late if name in e.adaptive]
        if len(values) < FEWEST:
            continue
        near = AT_LIMIT * (high - low if math.isfinite(high) else 1.0)
        for end, what in ((low, "lowest"), (high, "highest")):
            if math.isfinite(end) and all(abs(value - end) <= near for value in values):
                begun = len(adapting)
                while begun and abs(adapting[begun - 1].adaptive.get(name, math.inf) - end) <= near:
                    begun -= 1
                yield Finding(
                    "weight_at_limit",
                    "problem",
                    f"The {name.replace('_', ' ')} has been at its {what} value since epoch "
                    f"{adapting[begun].epoch} "
                    f"({values[-1]:.3g}, range {low:g} to {high:g}): it adapts no more.",
                    {
                        "value": values[-1],
                        "lowest": low,
                        "highest": high,
                        "epochs there": len(adapting) - begun,
                    },
                    "Use fixed weights, or scale the terms so that none of them outweighs the others by itself.",
                    adapting[begun].step,
                    curve=CurveLink("weights", name),
                )


@check(
    "sum_beside_mean",
    "Sums beside means",
    "A term that adds up over voxels beside one that is a mean: its size grows with the patch.",
)
def sum_beside_mean(evidence: Evidence) -> Iterator[Finding]:
    """Compute each term on a patch and on two copies of it."""
    from segexplorer.losses.references import adds_up

    terms = evidence.experiment.loss.compound_terms()
    if evidence.record.recorded is not None:
        raise CannotTell("another program computed the loss")
    if len(terms) < 2:
        raise CannotTell("the loss has one term")
    reductions = {term.name: adds_up(term.spec) for term in terms}
    sums = [name for name, summed in reductions.items() if summed]
    means = [name for name, summed in reductions.items() if summed is False]
    for name in sums if means else ():
        last = evidence.steps[-1] if evidence.steps else None
        values = {} if last is None or name not in last.terms else {"last value": last.terms[name][0]}
        yield Finding(
            "sum_beside_mean",
            "problem",
            f"The term {name.replace('_', ' ')} adds up over all voxels, while {means[0].replace('_', ' ')} is a "
            "mean: "
            "twice the patch, twice the term.",
            values,
            "Normalise the term by the number of voxels, or divide its weight by it.",
            0,
            curve=CurveLink("loss", name),
        )
