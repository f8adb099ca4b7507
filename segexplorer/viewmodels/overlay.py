"""Prediction against truth as error codes, with the legend and the volumes that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.viewmodels import colours

IGNORED = 255


class Code(IntEnum):
    """What is drawn in a voxel of the errors layer."""

    NOTHING = 0
    TRUE_POSITIVE = 1
    FALSE_POSITIVE = 2
    FALSE_NEGATIVE = 3
    WRONG_CLASS = 4


@dataclass(frozen=True)
class LegendEntry:
    """One line of the legend."""

    code: Code
    name: str
    colour: str
    outline: bool = False


LEGEND: tuple[LegendEntry, ...] = (
    LegendEntry(Code.FALSE_POSITIVE, "extra (false positive)", colours.FALSE_POSITIVE),
    LegendEntry(Code.FALSE_NEGATIVE, "missed (false negative)", colours.FALSE_NEGATIVE),
    LegendEntry(Code.WRONG_CLASS, "wrong organ", colours.WRONG_CLASS),
    LegendEntry(Code.TRUE_POSITIVE, "correct (outline)", colours.TRUE_POSITIVE, outline=True),
)


def legend(class_index: int | None = None) -> tuple[LegendEntry, ...]:
    """Return the legend; one class against the rest has no wrong organ."""
    return LEGEND if class_index is None else tuple(e for e in LEGEND if e.code != Code.WRONG_CLASS)


def colour_table() -> dict[int, tuple[float, float, float, float]]:
    """Return code -> red, green, blue, opacity; nothing is transparent."""
    return {int(Code.NOTHING): (0.0, 0.0, 0.0, 0.0)} | {int(e.code): colours.rgba(e.colour) for e in LEGEND}


def error_codes(
    prediction: NDArray[Any], truth: NDArray[Any], class_index: int | None = None
) -> NDArray[np.uint8]:
    """Return a `Code` per voxel.

    Parameters
    ----------
    prediction, truth
        uint8 class indices of one shape, 0 = background; where the truth is 255 nothing is drawn.
    class_index
        One class against the rest (background and other classes alike); None for all classes, where an organ
        taken for another is a wrong class.

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
    codes: NDArray[np.uint8] = _table(class_index)[truth, prediction]
    return codes


def _table(class_index: int | None) -> NDArray[np.uint8]:
    truth, prediction = np.mgrid[0:256, 0:256]
    if class_index is None:
        in_truth, in_prediction = truth > 0, prediction > 0
        wrong = in_truth & in_prediction & (truth != prediction)
    else:
        in_truth, in_prediction = truth == class_index, prediction == class_index
        wrong = np.zeros_like(in_truth)
    codes = np.select(
        [truth == IGNORED, wrong, in_truth & in_prediction, in_prediction, in_truth],
        [
            Code.NOTHING,
            Code.WRONG_CLASS,
            Code.TRUE_POSITIVE,
            Code.FALSE_POSITIVE,
            Code.FALSE_NEGATIVE,
        ],
        Code.NOTHING,
    )
    return codes.astype(np.uint8)


def with_outline(
    codes: NDArray[np.uint8], prediction: NDArray[Any], axes: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Return the codes with true positives only where they border on something else.

    Parameters
    ----------
    codes, prediction
        Error codes and the class indices they came from, of one shape; touching organs keep their border.
    axes
        Axes along which a border counts: the two of the slice that is looked at. None for all.
    """
    correct = codes == Code.TRUE_POSITIVE
    marks = np.where(correct, prediction, 0)
    border = np.zeros_like(correct)
    for axis in range(codes.ndim) if axes is None else axes:
        low = [slice(None)] * codes.ndim
        high = [slice(None)] * codes.ndim
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        change = marks[tuple(low)] != marks[tuple(high)]
        border[tuple(low)] |= change
        border[tuple(high)] |= change
    outlined = codes.copy()
    outlined[correct & ~border] = Code.NOTHING
    return outlined


def volumes_ml(codes: NDArray[np.uint8], spacing: Sequence[float]) -> Mapping[Code, float]:
    """Return the volume of every code but nothing, in ml; `spacing` in mm. Take codes without outline."""
    counts = np.bincount(codes.ravel(), minlength=len(Code))
    millilitres = float(np.prod(np.asarray(spacing, dtype=float))) / 1000
    return {code: float(counts[code]) * millilitres for code in Code if code is not Code.NOTHING}
