"""The error map of a prediction: a code per voxel with legend and volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core import colours
from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.volume import value_counts

IGNORED = 255


class Code(IntEnum):
    """What is drawn in a voxel of the errors layer."""

    NOTHING = 0
    TRUE_POSITIVE = 1
    FALSE_POSITIVE = 2
    FALSE_NEGATIVE = 3
    WRONG_CLASS = 4


COLOURS: Mapping[Code, str] = {
    Code.TRUE_POSITIVE: colours.TRUE_POSITIVE,
    Code.FALSE_POSITIVE: colours.FALSE_POSITIVE,
    Code.FALSE_NEGATIVE: colours.FALSE_NEGATIVE,
    Code.WRONG_CLASS: colours.WRONG_CLASS,
}
NAMES: Mapping[Code, str] = {
    Code.FALSE_POSITIVE: "extra (false positive)",
    Code.FALSE_NEGATIVE: "missed (false negative)",
    Code.WRONG_CLASS: "wrong organ",
}
Form = Literal["fill", "outline", "line", "solid"]
"""How something is drawn: filled, as a thick outline, as a thin line, or as a surface in 3D."""


@dataclass(frozen=True)
class LegendEntry:
    """One line of the legend; `code` of an error."""

    name: str
    colour: str
    form: Form = "fill"
    code: Code | None = None


ERRORS: tuple[LegendEntry, ...] = tuple(
    LegendEntry(name, COLOURS[code], code=code) for code, name in NAMES.items()
)
LINES: tuple[LegendEntry, ...] = (
    LegendEntry("correct outline", colours.TRUE_POSITIVE, "line"),
    LegendEntry("outline of the truth", colours.TRUTH_OUTLINE, "line"),
    LegendEntry("outline of the prediction", colours.PREDICTION_OUTLINE, "line"),
)


def legend(class_index: int | None = None, form: Form = "fill") -> tuple[LegendEntry, ...]:
    """Return the legend of the errors; one class against the rest has no wrong organ.

    Parameters
    ----------
    form
        "fill" with outlines of truth and prediction; "outline" over a map, where only what is correct has a line
        of its own.
    """
    shown = [e for e in ERRORS if class_index is None or e.code != Code.WRONG_CLASS]
    if form == "solid":
        return tuple(shown)
    if form == "fill":
        return (*shown, *LINES)
    return (*(replace(entry, form=form) for entry in shown), LINES[0])


def class_legend(names: Sequence[str], indices: Iterable[int], form: Form) -> tuple[LegendEntry, ...]:
    """Return the legend of classes, by their indices 1, 2, ..."""
    palette = colours.ClassColours(tuple(names))
    return tuple(LegendEntry(names[index - 1], palette.colour(index), form) for index in indices)


def colour_table() -> dict[int, tuple[float, float, float, float]]:
    """Return code -> red, green, blue, opacity; nothing is transparent."""
    return {int(Code.NOTHING): (0.0, 0.0, 0.0, 0.0)} | {
        int(code): colours.rgba(colour) for code, colour in COLOURS.items()
    }


def error_codes(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    class_index: int | None = None,
    scheme: LabelScheme = EXCLUSIVE,
) -> NDArray[np.uint8]:
    """Return a `Code` per voxel.

    Parameters
    ----------
    prediction, truth
        uint8 label indices of one shape, 0 = background; where the truth is 255 nothing is drawn.
    class_index
        One class against the rest (background and other classes alike); None for all classes, where an organ
        taken for another is a wrong class.
    scheme
        What the label indices mean. Where classes overlap, a voxel is extra that has more classes than in truth,
        missed where it has fewer, and wrong where one class is extra and another is missed.

    Raises
    ------
    DataError
        When the shapes differ or the arrays are not uint8.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}.",
            "Errors need both on the same grid.",
        )
    if prediction.dtype != np.uint8 or truth.dtype != np.uint8:
        raise DataError(
            f"Errors are drawn from uint8 class indices, not {prediction.dtype} and {truth.dtype}.",
            "Encode the labels with the experiment's classes first.",
        )
    # one look-up per voxel in a table over all (truth, prediction) pairs
    codes: NDArray[np.uint8] = _table(class_index, scheme)[truth, prediction]
    return codes


def _table(class_index: int | None, scheme: LabelScheme) -> NDArray[np.uint8]:
    extra, missed, both = scheme.comparison(class_index)
    ignored = np.zeros_like(both)
    ignored[IGNORED] = True
    codes = np.select(
        [ignored, extra & missed, extra, missed, both],
        [
            Code.NOTHING,
            Code.WRONG_CLASS,
            Code.FALSE_POSITIVE,
            Code.FALSE_NEGATIVE,
            Code.TRUE_POSITIVE,
        ],
        Code.NOTHING,
    )
    return codes.astype(np.uint8)


def volumes_ml(codes: NDArray[np.uint8], spacing: Sequence[float]) -> Mapping[Code, float]:
    """Return the volume of every code but nothing, in ml; `spacing` in mm."""
    counts = value_counts(codes)
    millilitres = float(np.prod(np.asarray(spacing, dtype=float))) / 1000
    return {code: counts.get(int(code), 0) * millilitres for code in Code if code is not Code.NOTHING}
