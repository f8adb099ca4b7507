"""Overlap metrics per case and class, from voxel counts.

Definitions as in paper 000, and Taha and Hanbury 2015 (doi:10.1186/s12880-015-0068-x). A voxel of
class a predicted as class b is a false negative of a and a false positive of b. Metrics whose denominator is
zero are NaN: they have no meaning there and never enter a mean. Where a class is only in the truth or only
in the prediction, Dice, Jaccard and F2 are 0 by definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import UnknownKindError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.core.types import Role
from segexplorer.metrics.confusion import confusion_matrix


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


@dataclass(frozen=True)
class Metric:
    """One metric, declared once for tables, plots, command line and docs."""

    name: str
    display_name: str
    definition: str
    function: Callable[[Counts], float]
    better: Literal["higher", "lower"] = "higher"


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


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("dice", "Dice (DSC)", "2 TP / (2 TP + FP + FN)", dice),
        Metric("f2", "F2", "5 TP / (5 TP + 4 FN + FP)", f2),
        Metric("sensitivity", "Sensitivity (recall)", "TP / (TP + FN)", sensitivity),
        Metric("specificity", "Specificity", "TN / (TN + FP)", specificity),
        Metric("precision", "Precision", "TP / (TP + FP)", precision),
        Metric("jaccard", "Jaccard (IoU)", "TP / (TP + FP + FN)", jaccard),
    )
}


def names() -> list[str]:
    """Return the metrics' names in the order of tables."""
    return list(METRICS)


def spec(name: str) -> Metric:
    """Return a metric by name.

    Raises
    ------
    UnknownKindError
        When there is none; the remedy names the nearest ones.
    """
    if name not in METRICS:
        raise UnknownKindError(f"There is no metric {name!r}.", did_you_mean(name, METRICS))
    return METRICS[name]


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


def score_case(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    class_names: Sequence[str],
    spacing: Sequence[float],
    *,
    case: str = "",
    role: Role = "validation",
    badge: str = "",
) -> tuple[CaseScore, ...]:
    """Score one predicted volume against the truth, class by class.

    Parameters
    ----------
    prediction, truth
        Integer class indices of one shape, in the case's own grid; 0 is background; voxels whose truth is 255
        are left out.
    class_names
        Names of the foreground classes, for the values 1, 2, ...
    spacing
        Voxel size along each axis, mm.
    case, role, badge
        Passed on into the scores.

    Returns
    -------
    tuple of CaseScore
        One per foreground class, in their order.

    Raises
    ------
    DataError
        When shapes differ or a class index is out of range.
    """
    matrix = confusion_matrix(prediction, truth, len(class_names) + 1)
    millilitres = float(np.prod(np.asarray(spacing, float))) / 1000.0
    return tuple(
        CaseScore(
            case=case,
            class_name=name,
            role=role,
            state=counts.state,
            metrics={metric.name: metric.function(counts) for metric in METRICS.values()},
            false_positive_ml=counts.fp * millilitres,
            false_negative_ml=counts.fn * millilitres,
            truth_ml=(counts.tp + counts.fn) * millilitres,
            badge=badge,
        )
        for name, counts in zip(class_names, class_counts(matrix)[1:], strict=True)
    )
