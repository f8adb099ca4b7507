"""Gradients that explode, and losses that stop being numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from segexplorer.core.events import StepDone
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
from segexplorer.training.flight_recorder import WINDOW, exploded

AFTER = 10
"""Steps after an explosion whose losses say whether it did harm; one bad batch alone lasts one step."""


@check(
    "exploding_gradient",
    "Exploding gradients",
    "A loss or gradient that became infinite, or a gradient a hundred times as large as before that did harm.",
)
def exploding(evidence: Evidence) -> Iterator[Finding]:
    """Look at the end of the run, then at the gradient norms of all steps."""
    steps = evidence.steps
    if not steps and evidence.end is None:
        raise CannotTell("no step was made")
    broken = _not_finite(evidence)
    if broken is not None:
        yield broken
        return
    if not any(math.isfinite(e.gradient_norm) for e in steps):
        raise CannotTell("no gradient norms were recorded")
    if len(steps) <= WINDOW // 2:
        raise CannotTell(f"only {len(steps)} steps were made")
    norms = [e.gradient_norm for e in steps]
    for at in range(len(steps)):
        if exploded(norms[max(0, at - WINDOW) : at], norms[at]):
            found = _explosion(evidence, steps, at)
            if found is not None:
                yield found
                return


def _not_finite(evidence: Evidence) -> Finding | None:
    flight = next((f for f in reversed(evidence.record.flights()) if f.reason != "exploded"), None)
    end = evidence.end
    if flight is None or end is None or end.state != "failed":
        return None
    what = {"loss": "The loss", "gradient": "The gradient", "prediction": "The prediction"}[flight.reason]
    norms = [s.gradient_norm for s in flight.steps[:-1] if math.isfinite(s.gradient_norm)]
    numbers = {"step": float(flight.step), "learning rate": flight.steps[-1].learning_rate}
    course = ""
    if norms:
        numbers |= {"last gradient norm": norms[-1], "median gradient norm before": median(norms)}
        course = f"; the gradient norm before it was {norms[-1]:.3g} (median {median(norms):.3g})"
    bad = [n for n, (v, w) in flight.steps[-1].terms.items() if not (math.isfinite(v) and math.isfinite(w))]
    term = f", from the term {bad[0].replace('_', ' ')}" if bad else ""
    return Finding(
        "exploding_gradient",
        "problem",
        f"{what} was no number any more at step {flight.step}{term}, on {', '.join(dict.fromkeys(flight.cases))}"
        f"{course}.",
        numbers,
        "Lower the learning rate, set optimiser.gradient_clip, and look at that batch: the flight recorder kept it "
        "(open_run(folder).flights()).",
        flight.step,
        Place(case=flight.cases[0] if flight.cases else "", role="train"),
        CurveLink("gradient_norm", "gradient norm"),
    )


def _explosion(evidence: Evidence, steps: Sequence[StepDone], at: int) -> Finding | None:
    """Return the finding of a norm that exploded, where the loss was worse after it than before."""
    before = [e.loss for e in steps[max(0, at - WINDOW) : at]]
    after = [e.loss for e in steps[at + 1 : at + 1 + AFTER]]
    worse = len(after) >= AFTER // 2 and median(after) > median(before) + 3 * scatter(before)
    if not worse:
        return None
    usual, norm = median([e.gradient_norm for e in steps[max(0, at - WINDOW) : at]]), steps[at].gradient_norm
    clip = evidence.experiment.optimiser.gradient_clip
    clipped = f" (clipped to {clip:g})" if clip is not None and norm > clip else ""
    return Finding(
        "exploding_gradient",
        "problem",
        f"The gradient exploded at step {steps[at].step}: its norm was {norm:.3g}{clipped}, {norm / usual:.0f} "
        "times the "
        f"median of the {WINDOW} steps before, and the loss was {median(after):.3g} after it "
        f"({median(before):.3g} before).",
        {
            "norm": norm,
            "median norm before": usual,
            "median loss before": median(before),
            "median loss after": median(after),
        },
        "Lower the learning rate or optimiser.gradient_clip; the flight recorder kept that batch.",
        steps[at].step,
        Place(case=steps[at].cases[0] if steps[at].cases else "", role="train"),
        CurveLink("gradient_norm", "gradient norm"),
    )
