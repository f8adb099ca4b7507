"""Overlap metrics per case and class, from voxel counts.

Definitions as in paper 000, and Taha and Hanbury 2015 (doi:10.1186/s12880-015-0068-x). A voxel of
class a predicted as class b is a false negative of a and a false positive of b. Metrics whose denominator is
zero are NaN: they have no meaning there and never enter a mean. Where a class is only in the truth or only
in the prediction, Dice, Jaccard and F2 are 0 by definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics.metric import Metric


@dataclass(frozen=True)
class Counts:
    """Voxels of one class in one case: true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def state(self) -> Literal["scored", "absent", "missed", "spurious"]:
        """Whether the class is in truth and prediction, neither, only the truth, only the prediction."""
        in_truth, in_prediction = self.tp + self.fn > 0, self.tp + self.fp > 0
        if in_truth:
            return "scored" if in_prediction else "missed"
        return "spurious" if in_prediction else "absent"


@dataclass(frozen=True, kw_only=True)
class OverlapMetric(Metric):
    """A metric of voxel counts."""

    function: Callable[[Counts], float]


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")


def dice(c: Counts) -> float:
    """Dice similarity coefficient, equal to F1."""
    return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn)


def f2(c: Counts) -> float:
    """F-beta with beta = 2: recall weighs four times as much as precision."""
    return _ratio(5 * c.tp, 5 * c.tp + 4 * c.fn + c.fp)


def sensitivity(c: Counts) -> float:
    """Recall, the true positive rate."""
    return _ratio(c.tp, c.tp + c.fn)


def specificity(c: Counts) -> float:
    """True negative rate; near 1 for any small structure, whatever the prediction."""
    return _ratio(c.tn, c.tn + c.fp)


def precision(c: Counts) -> float:
    """Positive predictive value."""
    return _ratio(c.tp, c.tp + c.fp)


def jaccard(c: Counts) -> float:
    """Intersection over union."""
    return _ratio(c.tp, c.tp + c.fp + c.fn)


def accuracy(c: Counts) -> float:
    """Share of voxels that are right for this class; near 1 for any small structure, as specificity is."""
    return _ratio(c.tp + c.tn, c.tp + c.fp + c.fn + c.tn)


def _overlap(
    name: str, display_name: str, definition: str, function: Callable[[Counts], float], note: str = ""
) -> OverlapMetric:
    return OverlapMetric(
        name=name, display_name=display_name, definition=definition, function=function, note=note
    )


_BY_VOLUME = "Near 1 by volume: the background of a large image outweighs any error."

METRICS: Mapping[str, OverlapMetric] = {
    metric.name: metric
    for metric in (
        _overlap("dice", "Dice (DSC)", "2 TP / (2 TP + FP + FN)", dice),
        _overlap("f2", "F2", "5 TP / (5 TP + 4 FN + FP)", f2),
        _overlap("sensitivity", "Sensitivity (recall)", "TP / (TP + FN)", sensitivity),
        _overlap("specificity", "Specificity (near 1 by volume)", "TN / (TN + FP)", specificity, _BY_VOLUME),
        _overlap("precision", "Precision", "TP / (TP + FP)", precision),
        _overlap("jaccard", "Jaccard (IoU)", "TP / (TP + FP + FN)", jaccard),
    )
}
"""The ratios that are worth a curve."""

FURTHER_METRICS: Mapping[str, OverlapMetric] = {
    metric.name: metric
    for metric in (
        _overlap("f1", "F1", "2 TP / (2 TP + FP + FN)", dice, "Of voxels, F1 is Dice by another name."),
        _overlap("accuracy", "Accuracy (near 1 by volume)", "(TP + TN) / all", accuracy, _BY_VOLUME),
    )
}
"""Ratios that papers report and tables give."""


def class_counts(matrix: NDArray[np.int64]) -> tuple[Counts, ...]:
    """Return the counts of every class, background first, from a confusion matrix (true class along rows)."""
    total = int(matrix.sum())
    counts = []
    for index in range(len(matrix)):
        tp = int(matrix[index, index])
        fp = int(matrix[:, index].sum()) - tp
        fn = int(matrix[index].sum()) - tp
        counts.append(Counts(tp, fp, fn, total - tp - fp - fn))
    return tuple(counts)
