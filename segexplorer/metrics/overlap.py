"""Overlap metrics per case and class, all from one count of the voxels by their true and predicted class.

Definitions as in Zhang 2025, and Taha and Hanbury 2015 (doi:10.1186/s12880-015-0068-x). A voxel of class a that
was predicted as class b is a false negative of a and a false positive of b. A metric whose denominator is zero is
NaN: it has no meaning there and never enters a mean. Where a class is only in the truth or only in the prediction,
Dice, Jaccard and F2 are 0 by definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.metrics.base import IGNORED, NEAR_ONE, Metric, registry

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure


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
    counts = np.zeros(n_classes**2, np.int64)
    for found, true in _slabs(prediction, truth):
        labelled = np.flatnonzero((found != 0) | (true != 0))
        if labelled.size < true.size // 4:  # most of a medical image is background, which needs no pairs
            counts[0] += true.size - labelled.size
            found, true = found[labelled], true[labelled]
        keep = true != ignored
        if not keep.all():
            found, true = found[keep], true[keep]
        for array, noun in ((found, "prediction"), (true, "truth")):
            _check_range(array, noun, n_classes)
        pairs = true.astype(np.int32) * np.int32(n_classes) + found.astype(np.int32)
        counts += np.bincount(pairs, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


SLAB = 2**20
"""Voxels that are counted at once: they stay in the cache, and no copy of a volume is made."""


def in_memory_order(volume: NDArray[Any]) -> NDArray[Any]:
    """Return a view, axes reversed where the first runs fastest, as in NIfTI: slabs are contiguous then."""
    return volume.T if volume.flags.f_contiguous else volume


def _slabs(prediction: NDArray[Any], truth: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield the two piece by piece, flat, in the order in which the truth is in memory."""
    if truth.flags.f_contiguous:
        prediction, truth = prediction.T, truth.T
    prediction, truth = np.atleast_1d(prediction, truth)
    thickness = max(1, SLAB // max(truth[:1].size, 1))
    for start in range(0, len(truth), thickness):
        yield prediction[start : start + thickness].ravel(), truth[start : start + thickness].ravel()


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

    def __init__(self, n_classes: int, scheme: LabelScheme = EXCLUSIVE) -> None:
        self._classes, self._scheme = n_classes, scheme
        indices = scheme.indices(n_classes - 1)
        self.matrix: NDArray[np.int64] = np.zeros((indices, indices), np.int64)

    def add(self, prediction: NDArray[Any], truth: NDArray[Any]) -> None:
        """Count one more volume."""
        self.matrix += confusion_matrix(prediction, truth, len(self.matrix))

    def class_dice(self) -> dict[int, float]:
        """Return class index (0 = background) -> Dice; 0 where truth and prediction share no voxel."""
        found = class_counts(self.matrix, self._scheme)
        sizes = (2 * c.tp + c.fp + c.fn for c in found)
        return {
            i: 2.0 * c.tp / size if size else 0.0
            for i, (c, size) in enumerate(zip(found, sizes, strict=True))
        }


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

    def value(self, structure: Structure) -> float:
        """Return what the function gives."""
        return self.function(structure.counts)


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


def mcc(c: Counts) -> float:
    """Matthews correlation coefficient; 0 where all voxels of one volume are alike, as a coin would score."""
    product = (c.tp + c.fp) * (c.tp + c.fn) * (c.tn + c.fp) * (c.tn + c.fn)  # of Python's integers, so exact
    if product:
        return (c.tp * c.tn - c.fp * c.fn) / math.sqrt(product)
    return 0.0 if c.fp or c.fn else math.nan


def kappa(c: Counts) -> float:
    """Cohen's kappa: agreement beyond what volumes of these sizes reach by chance."""
    n = c.tp + c.fp + c.fn + c.tn
    by_chance = (c.tp + c.fp) * (c.tp + c.fn) + (c.tn + c.fn) * (c.tn + c.fp)
    return _ratio(n * (c.tp + c.tn) - by_chance, n * n - by_chance)


_BY_VOLUME = "Near 1 by volume: the background of a large image outweighs any error."
_TAHA = "Taha and Hanbury 2015, doi:10.1186/s12880-015-0068-x"

METRICS: Mapping[str, OverlapMetric] = {
    metric.name: registry.register(metric)
    for metric in (
        OverlapMetric(
            name="dice",
            display_name="Dice (DSC)",
            short_name="Dice",
            definition="2 TP / (2 TP + FP + FN)",
            formula=r"\frac{2\,TP}{2\,TP + FP + FN}",
            function=dice,
            reference="Dice 1945, doi:10.2307/1932409",
            papers=("Zhang 2025", "Perera 2025 (DC)", "Yeung 2022 (eq. 8)", "Oshah 2025", "Chen 2023"),
            missed=0.0,
            spurious=0.0,
            absent=math.nan,
            tasks={
                "organs": "The common measure of overlap, so results can be compared with others.",
                "lesions": "Overlap of all lesions together; says nothing of how many were found.",
            },
            pitfalls=("small structures", "boundary", "empty references", "resolution"),
        ),
        OverlapMetric(
            name="f2",
            display_name="F2",
            definition="5 TP / (5 TP + 4 FN + FP)",
            formula=r"\frac{5\,TP}{5\,TP + 4\,FN + FP}",
            function=f2,
            note="F-beta with beta = 2: an FN weighs four times an FP.",
            reference="van Rijsbergen 1979, Information Retrieval, ch. 7",
            papers=("Zhang 2025",),
            missed=0.0,
            spurious=0.0,
            absent=math.nan,
            pitfalls=("small structures", "empty references"),
        ),
        OverlapMetric(
            name="sensitivity",
            display_name="Sensitivity (recall)",
            short_name="Sens.",
            definition="TP / (TP + FN)",
            formula=r"\frac{TP}{TP + FN}",
            function=sensitivity,
            note="Blind to what is extra: read it with precision.",
            reference=_TAHA,
            papers=("Zhang 2025 (eq. 12)", "Yeung 2022 (eq. 23, recall)", "Chen 2023 (eq. 10, recall)"),
            missed=0.0,
            spurious=math.nan,
            absent=math.nan,
            pitfalls=("small structures", "empty references"),
        ),
        OverlapMetric(
            name="specificity",
            display_name=f"Specificity ({NEAR_ONE})",
            short_name="Spec.",
            definition="TN / (TN + FP)",
            formula=r"\frac{TN}{TN + FP}",
            function=specificity,
            note=_BY_VOLUME,
            reference=_TAHA,
            papers=("Zhang 2025 (eq. 14)",),
            by_volume=True,
            pitfalls=("imbalance", "empty references"),
        ),
        OverlapMetric(
            name="precision",
            display_name="Precision",
            short_name="Prec.",
            definition="TP / (TP + FP)",
            formula=r"\frac{TP}{TP + FP}",
            function=precision,
            note="Blind to what is missing: read it with sensitivity.",
            reference=_TAHA,
            papers=("Zhang 2025 (eq. 13)", "Perera 2025 (PR)", "Yeung 2022 (eq. 24)", "Chen 2023 (eq. 11)"),
            missed=math.nan,
            spurious=0.0,
            absent=math.nan,
            pitfalls=("small structures", "empty references"),
        ),
        OverlapMetric(
            name="jaccard",
            display_name="Jaccard (IoU)",
            short_name="Jaccard",
            definition="TP / (TP + FP + FN)",
            formula=r"\frac{TP}{TP + FP + FN}",
            function=jaccard,
            note="Dice by another scale within a case, J = D / (2 - D); means over cases may rank otherwise.",
            reference="Jaccard 1912, doi:10.1111/j.1469-8137.1912.tb05611.x",
            papers=("Perera 2025 (JC)", "Oshah 2025"),
            missed=0.0,
            spurious=0.0,
            absent=math.nan,
            pitfalls=("small structures", "boundary", "empty references", "resolution"),
        ),
    )
}
"""Ratios that are drawn as curves."""

FURTHER_METRICS: Mapping[str, OverlapMetric] = {
    metric.name: registry.register(metric)
    for metric in (
        OverlapMetric(
            name="f1",
            display_name="F1",
            definition="2 TP / (2 TP + FP + FN)",
            formula=r"\frac{2\,TP}{2\,TP + FP + FN}",
            function=dice,
            note="Of voxels, F1 is Dice by another name. The F1 column of Perera 2025 differs from its DC and is "
            "not defined there; it cannot be this one.",
            reference=_TAHA,
            papers=("Perera 2025 (not as defined here)",),
            missed=0.0,
            spurious=0.0,
            absent=math.nan,
            pitfalls=("small structures", "empty references"),
        ),
        OverlapMetric(
            name="accuracy",
            display_name=f"Accuracy ({NEAR_ONE})",
            short_name="Acc.",
            definition="(TP + TN) / all",
            formula=r"\frac{TP + TN}{TP + FP + FN + TN}",
            function=accuracy,
            note=_BY_VOLUME,
            reference=_TAHA,
            by_volume=True,
            pitfalls=("imbalance", "empty references"),
        ),
    )
}
"""Ratios that tables give as well, because papers report them."""

registry.register(
    OverlapMetric(
        name="mcc",
        display_name="Matthews correlation (MCC)",
        short_name="MCC",
        definition="correlation of the two masks",
        formula=r"\frac{TP \cdot TN - FP \cdot FN}{\sqrt{(TP + FP)(TP + FN)(TN + FP)(TN + FN)}}",
        lowest=-1.0,
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=mcc,
        note="Where the structure is small it is nearly the geometric mean of sensitivity and precision.",
        reference="Matthews 1975, doi:10.1016/0005-2795(75)90109-9",
        default=False,
        pitfalls=("small structures",),
    )
)
registry.register(
    OverlapMetric(
        name="kappa",
        display_name="Cohen's kappa",
        short_name="Kappa",
        definition="(accuracy - by chance) / (1 - by chance)",
        formula=r"\frac{p_o - p_e}{1 - p_e},\quad p_o = \frac{TP + TN}{N},\quad "
        r"p_e = \frac{(TP + FP)(TP + FN) + (TN + FN)(TN + FP)}{N^2}",
        lowest=-1.0,
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=kappa,
        note="Agreement beyond chance. In a large image it is nearly Dice, and it depends on how much background "
        "the image has.",
        reference="Cohen 1960, doi:10.1177/001316446002000104",
        default=False,
        pitfalls=("small structures", "imbalance"),
    )
)


def class_counts(matrix: NDArray[np.int64], scheme: LabelScheme = EXCLUSIVE) -> tuple[Counts, ...]:
    """Return the counts of every class, background first, from a confusion matrix (true label index along rows)."""
    total = int(matrix.sum())
    of_classes = scheme.table[: len(matrix)].T if scheme.overlapping else np.eye(len(matrix), dtype=bool)
    counts = []
    for own in of_classes:
        tp = int(matrix[np.ix_(own, own)].sum())
        fp = int(matrix[:, own].sum()) - tp
        fn = int(matrix[own].sum()) - tp
        counts.append(Counts(tp, fp, fn, total - tp - fp - fn))
    return tuple(counts)
