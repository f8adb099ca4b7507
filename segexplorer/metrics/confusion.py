"""The one pass over voxels that all overlap metrics come from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError

IGNORED = 255
"""Truth value of voxels that count nowhere."""


def confusion_matrix(
    prediction: NDArray[Any], truth: NDArray[Any], n_classes: int, ignored: int = IGNORED
) -> NDArray[np.int64]:
    """Count voxels by true and predicted class.

    Parameters
    ----------
    prediction, truth
        Integer class indices 0 .. n_classes - 1 of one shape, any rank.
    n_classes
        Number of classes, background included.
    ignored
        Truth value of voxels that are left out.

    Returns
    -------
    numpy.ndarray
        (n_classes, n_classes) voxel counts, the true class along the rows.

    Raises
    ------
    DataError
        When shapes differ, values are no integers, or a class index is out of range.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise DataError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}.",
            "Bring both to the same grid first.",
        )
    for array, noun in ((prediction, "prediction"), (truth, "truth")):
        if array.dtype.kind not in "iub":
            raise DataError(f"The {noun} holds {array.dtype} values.", "Metrics need integer class indices.")
    prediction, truth = prediction.ravel(), truth.ravel()
    keep = truth != ignored
    if not keep.all():
        prediction, truth = prediction[keep], truth[keep]
    for array, noun in ((prediction, "prediction"), (truth, "truth")):
        _check_range(array, noun, n_classes)
    # the smallest type that holds every pair keeps the pass over memory short
    pairs = truth.astype(np.int32) * np.int32(n_classes) + prediction.astype(np.int32)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def _check_range(array: NDArray[Any], noun: str, n_classes: int) -> None:
    if array.size and not (int(array.min()) >= 0 and int(array.max()) < n_classes):
        found = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise DataError(
            f"The {noun} holds the class index {found}; there are {n_classes} classes, counted from 0.",
            "Encode the labels with the experiment's classes first.",
        )


class Confusion:
    """A confusion matrix gathered over many volumes, e.g. a validation set.

    Dice from the gathered counts is what `EpochSummary.class_dice` carries: every voxel of the set weighs the
    same, and no case without the class can spoil it.
    """

    def __init__(self, n_classes: int) -> None:
        self.matrix: NDArray[np.int64] = np.zeros((n_classes, n_classes), np.int64)

    def add(self, prediction: NDArray[Any], truth: NDArray[Any]) -> None:
        """Count one more volume."""
        self.matrix += confusion_matrix(prediction, truth, len(self.matrix))

    def class_dice(self) -> dict[int, float]:
        """Return class index (0 = background) -> Dice; 0 where truth and prediction share no voxel."""
        hits = np.diag(self.matrix)
        sizes = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        dice = np.divide(2.0 * hits, sizes, out=np.zeros(len(hits)), where=sizes > 0)
        return {index: float(value) for index, value in enumerate(dice)}
