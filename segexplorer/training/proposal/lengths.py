"""How long a proposed training is: the steps, epochs and validations that fit into a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segexplorer.training.timing import Timing

if TYPE_CHECKING:
    from segexplorer.training.plan import Plan

Measure = Callable[["Plan"], Timing | None]
"""Takes the time of some steps and windows of a plan; None when it was stopped."""

STEPS_WANTED = 500
"""Steps that a network should have at least; below, a smaller one learns more in the same time."""
VALIDATING = 0.2
"""Share of the time that validations take at most."""
_FEWEST_STEPS = 40
_MOST_VALIDATIONS, _FEWEST_BETWEEN, _STEPS_OF_EPOCH = 20, 20, 250


@dataclass(frozen=True)
class Length:
    """How long is trained, and how often whole volumes are predicted.

    Attributes
    ----------
    steps
        Optimiser steps per epoch.
    epochs
        Of the schedule.
    every
        Epochs between two validations.
    overlap
        Of neighbouring windows.
    minutes
        What it was fitted to; None where nothing was timed.
    """

    steps: int = 100
    epochs: int = 50
    every: int = 2
    overlap: float = 0.5
    minutes: float | None = None

    @property
    def total(self) -> int:
        """Optimiser steps in all."""
        return self.steps * self.epochs


def untimed(*, gpu: bool) -> Length:
    """Return a length where nothing was timed: 25,000 steps on a GPU, 5,000 on a CPU."""
    return Length(250, 100, 5) if gpu else Length()


def length(seconds: float, timing: Timing, overlap: float = 0.5) -> Length:
    """Fit epochs, steps and validations to a time.

    Parameters
    ----------
    seconds
        There are.
    timing
        Of a step, a validation and the reading of all cases.
    """
    left = max(seconds - timing.reading, 0.0)
    wanted = int(VALIDATING * left / max(timing.validation, 1e-9))
    validations = max(2, min(_MOST_VALIDATIONS, wanted))
    steps = int((left - validations * timing.validation) / max(timing.step, 1e-9))
    steps = max(_FEWEST_STEPS, steps)
    validations = min(validations, max(1, steps // _FEWEST_BETWEEN))
    between = steps / validations
    every = max(1, math.ceil(between / _STEPS_OF_EPOCH))
    return Length(max(1, int(between / every)), validations * every, every, overlap, seconds / 60)


def enough_steps(seconds: float, reading: float, step: float) -> bool:
    """Whether a step of so many seconds leaves `STEPS_WANTED` of them beside the validations."""
    return (seconds - reading) * (1 - VALIDATING) >= STEPS_WANTED * step
