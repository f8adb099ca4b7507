"""Where a slider can rest: the values between two ends, evenly spread or by order of magnitude."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from segexplorer.core.fields import Parameter
from segexplorer.core.spec import get_value, live_parameters

_MOST = 2000
"""Stops of a slider; more than a screen has pixels for are of no use."""
_WIDEST = 10**6
"""A range of whole numbers beyond this, such as that of a seed, is no quantity that one slides through."""
_PER_DECADE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)


@dataclass(frozen=True)
class Slider:
    """The values at which a slider rests, in ascending order."""

    stops: tuple[float, ...]
    logarithmic: bool = False

    def nearest(self, value: float) -> int:
        """Return the position of the stop that is nearest to a value, on the slider's own scale."""
        right = min(bisect_left(self.stops, value), len(self.stops) - 1)
        if right == 0:
            return 0
        low, high = self.stops[right - 1], self.stops[right]
        if self.logarithmic and low > 0 and value > 0:
            return right if value * value > low * high else right - 1
        return right if value - low > high - value else right - 1


def slider_of(declared: Parameter) -> Slider | None:
    """Return the slider of a declared number; None where its range is open, or no quantity.

    The ends are those declared as typical, else those of the allowed range; an end that is excluded is left out.
    """
    whole = declared.shape.form == "integer"
    if declared.shape.form not in {"integer", "number"}:
        return None
    low, high = declared.typical or (declared.minimum, declared.maximum)
    if low is None or high is None or high <= low:
        return None
    if declared.scale == "log":
        stops = _logarithmic(low, high, whole=whole)
        zero = declared.minimum == 0 and not declared.exclusive_minimum
        return Slider(((0.0,) if zero and stops[0] > 0 else ()) + stops, logarithmic=True)
    if whole and high - low > _WIDEST:
        return None
    step = max(declared.step or _step(high - low, whole=whole), (high - low) / _MOST)
    stops = _even(low, high, math.ceil(step) if whole else step)
    return Slider(tuple(stop for stop in stops if _allowed(declared, stop)))


def _step(span: float, *, whole: bool) -> float:
    """Return a step of one digit, at least 50 of which (100 or more of whole numbers) make up the range."""
    if whole:
        return max(1.0, math.pow(10, math.floor(math.log10(span / 500))))
    return math.pow(10, math.floor(math.log10(span / 50)))


def _even(low: float, high: float, step: float) -> tuple[float, ...]:
    """Return the multiples of a step between two ends, and the ends themselves."""
    digits = max(0, -math.floor(math.log10(step)) + 1)
    first = math.floor(low / step + 1e-9) + 1
    last = math.ceil(high / step - 1e-9)
    return (low, *(round(i * step, digits) for i in range(first, last)), high)


def _logarithmic(low: float, high: float, *, whole: bool) -> tuple[float, ...]:
    """Return 1, 1.2, 1.5, 2 ... of every decade between two positive ends, and the ends themselves."""
    if low <= 0:
        raise ValueError(f"a logarithmic slider begins above 0, not at {low}; declare what is typical")
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (float(f"{factor * 10.0**decade:.2g}") for decade in decades for factor in _PER_DECADE)
    kept = {v for v in values if low < v < high and (not whole or v.is_integer())}
    return (low, *sorted(kept), high)


def _allowed(declared: Parameter, value: float) -> bool:
    below = declared.minimum is not None and (
        value < declared.minimum or (declared.exclusive_minimum and value == declared.minimum)
    )
    above = declared.maximum is not None and (
        value > declared.maximum or (declared.exclusive_maximum and value == declared.maximum)
    )
    return not (below or above)


PENALTIES: Mapping[str, str] = {"a": "A", "b": "B", "alpha": "α", "beta": "β", "delta": "δ"}
"""Settings of losses that weigh false positives against false negatives, with their letters."""


@dataclass(frozen=True)
class PenaltySlider:
    """A penalty of a loss that may be moved while it trains.

    Attributes
    ----------
    path
        Dotted path in the experiment.
    title
        Letter and name.
    slider
        Where it can rest.
    value
        Its present value.
    """

    path: str
    title: str
    slider: Slider
    value: float


def penalty_sliders(experiment: BaseModel) -> tuple[PenaltySlider, ...]:
    """Return the sliders of the penalties of an experiment's loss, in the order of its form."""
    found = []
    for path, declared in live_parameters(experiment).items():
        letter = PENALTIES.get(path.rpartition(".")[2])
        slider = slider_of(declared)
        if path.startswith("loss") and letter is not None and slider is not None:
            title = declared.title if declared.title.endswith(f" {letter}") else f"{declared.title} {letter}"
            found.append(PenaltySlider(path, title, slider, float(get_value(experiment, path))))
    return tuple(found)
