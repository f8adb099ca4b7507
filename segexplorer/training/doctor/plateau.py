"""A loss that moves no more: at its floor, or where a prediction that needs no network would be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from segexplorer.core.events import Reference, StepDone
from segexplorer.training.doctor.base import (
    CannotTell,
    CurveLink,
    Evidence,
    Finding,
    check,
    last_half,
    median,
)

TRIVIAL: tuple[Reference, ...] = ("all background", "class frequencies", "random")
"""References that know nothing of the image."""
WORDS: dict[Reference, str] = {
    "all background": "predicting background everywhere",
    "class frequencies": "predicting the share of each class at every voxel",
    "random": "a random prediction",
    "perfect": "a perfect prediction",
}
FEWEST = 3
"""Measurements of the later half that a statement rests on."""
STILL = 0.05
"""Share of the way from the best trivial prediction to a perfect one that the loss may still make from the third
quarter of the run to the last, and count as flat: at this rate, it would need ten times as long for half of it."""
NEAR_TRIVIAL = 0.9
"""Position from which on a loss is where a trivial prediction is: it made less than a tenth of the way."""
NEAR_FLOOR = 0.05
"""Position up to which a loss is at its floor."""


@check(
    "plateau",
    "Plateaus",
    "A loss that moves no more: where a prediction that knows nothing would be, or at the floor of this loss.",
)
def plateau(evidence: Evidence) -> Iterator[Finding]:
    """Place the loss of each measured batch between its values for a trivial and for a perfect prediction."""
    measured = [e for e in evidence.measured if e.references and math.isfinite(_position(e))]
    if not measured:
        raise CannotTell("references were not recorded (monitoring.gradients_every)")
    late = last_half(measured, FEWEST, "measurements")
    position = median([_position(e) for e in late])
    moved = _moved(evidence.steps, measured)
    values: dict[Reference, float] = {
        name: median([e.references.get(name, math.nan) for e in late]) for name in WORDS
    }
    loss = median([e.loss for e in late])
    numbers = {"loss": loss, "position": position, "moved": moved, **{str(n): v for n, v in values.items()}}
    nearest = min(TRIVIAL, key=lambda name: abs(values[name] - loss))
    scale = _scale(evidence)
    link, step = CurveLink("references", "this run"), late[0].step
    if all(e.loss > max(_trivial(e)) for e in late):
        yield Finding(
            "plateau",
            "problem",
            f"The loss ({loss:.3g}) is worse than that of every prediction that knows nothing of the image "
            f"({_listed(values)}){scale}.",
            numbers,
            "Lower the learning rate; if it begins so, see whether label and image belong together.",
            step,
            curve=link,
        )
    elif position >= NEAR_TRIVIAL and abs(moved) <= STILL:
        pull = _pull_left(measured)
        yield Finding(
            "plateau",
            "problem",
            f"The loss has stopped at {loss:.3g}, where {WORDS[nearest]} of the same patches would be "
            f"({values[nearest]:.3g}; perfect {values['perfect']:.3g}){scale}: the network has learned nothing "
            "from "
            f"the images{pull}.",
            numbers,
            "Raise or lower the learning rate, use a loss with overlap or class weights, and sample more patches "
            "with "
            "the small classes (sampling.foreground_ratio).",
            step,
            curve=link,
        )
    elif position <= NEAR_FLOOR and abs(moved) <= STILL and _floor_is_not_best(evidence, values):
        yield Finding(
            "plateau",
            "remark",
            f"The loss has stopped at {loss:.3g}, and that is its floor: a perfect prediction of the same "
            "patches has "
            f"{values['perfect']:.3g}{scale}.",
            numbers,
            "Nothing needs to be done; compare with the floor, not with 0.",
            step,
            curve=link,
        )


def _trivial(event: StepDone) -> list[float]:
    """Return what the loss is for the predictions that know nothing; NaN alone where that is not known."""
    values = [v for name in TRIVIAL if math.isfinite(v := event.references.get(name, math.nan))]
    return values or [math.nan]


def _position(event: StepDone) -> float:
    """Return 0 where the loss is that of a perfect prediction, 1 where it is the best trivial one's."""
    perfect, trivial = event.references.get("perfect", math.nan), min(_trivial(event))
    way = trivial - perfect
    # a batch without foreground: background everywhere is the perfect prediction, and tells nothing
    if not way > 1e-3 * max(abs(trivial), abs(perfect), 1e-6):
        return math.nan
    return (event.loss - perfect) / way


def _moved(steps: Sequence[StepDone], measured: Sequence[StepDone]) -> float:
    """Return how far the loss fell from the third quarter of the run to the last, as a share of the whole way."""
    quarter = len(steps) // 4
    if not quarter:
        raise CannotTell(f"only {len(steps)} steps were made")
    way = median([min(_trivial(e)) - e.references["perfect"] for e in measured])
    third, fourth = (
        median([e.loss for e in part]) for part in (steps[-2 * quarter : -quarter], steps[-quarter:])
    )
    return (third - fourth) / way


def _scale(evidence: Evidence) -> str:
    """Return a clause about a loss that is a sum, which has to be known before its values are compared."""
    from segexplorer.losses.references import adds_up

    if evidence.record.recorded is not None or not adds_up(evidence.experiment.loss):
        return ""
    return "; this loss adds up over voxels, so patches and whole volumes cannot be compared"


def _pull_left(measured: Sequence[StepDone]) -> str:
    """Return a clause about a gradient that has gone, which no learning rate brings back."""
    totals = [e.term_gradients["total"] for e in measured if "total" in e.term_gradients]
    if len(totals) < 2 * FEWEST or not median(totals[:FEWEST]) > 0:
        return ""
    left = median(totals[-FEWEST:]) / median(totals[:FEWEST])
    return f"; its gradient on the logits is {left:.1e} of what it was" if left < 1e-3 else ""


def _floor_is_not_best(evidence: Evidence, values: dict[Reference, float]) -> bool:
    """Whether a perfect prediction of these patches has another value than the loss's best one."""
    best = evidence.experiment.loss.best()
    way = min(values[name] for name in TRIVIAL) - values["perfect"]
    return not math.isfinite(best) or abs(values["perfect"] - best) > NEAR_FLOOR * way


def _listed(values: dict[Reference, float]) -> str:
    return ", ".join(f"{name} {values[name]:.3g}" for name in TRIVIAL)
