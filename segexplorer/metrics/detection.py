"""Lesion-wise detection and panoptic quality, from the connected components of prediction and truth.

A lesion is a connected component of one class. Whether it was found is decided by one of three rules:

any
    A lesion of the truth is found, and one of the prediction is true, if any of its voxels is in the other volume.
overlap
    The same if more than a share of its voxels is (by default 10 %).
iou
    Lesions are paired one to one, and a pair needs an intersection over union above a bound (by default 0.5). Above
    0.5 no lesion can have two partners; below, pairs are taken in order of their IoU.

With the first two rules one large prediction can find several lesions, and several pieces can all be true; the
third punishes both. Panoptic quality (Kirillov et al. 2019) always pairs by an IoU above 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics.base import StructureMetric, registry
from segexplorer.metrics.options import MetricOptions

if TYPE_CHECKING:
    from segexplorer.metrics.structure import LabelPair

Integers = NDArray[np.int64]
RANKS = {"faces": 1, "edges": 2, "corners": 3}
"""Over how many axes at once neighbours may differ."""


@dataclass(frozen=True)
class Pairs:
    """Every pair of components that share voxels: their numbers (from 0), the voxels shared, and their IoU."""

    truth: Integers
    prediction: Integers
    shared: Integers
    iou: NDArray[np.float64]


class Matching:
    """The components of a prediction and of its truth, and which of them overlap.

    Attributes
    ----------
    predicted, true
        Voxels of every component.
    pairs
        Which overlap.
    """

    def __init__(self, predicted: Integers, true: Integers, pairs: Pairs, options: MetricOptions) -> None:
        self.predicted, self.true, self.pairs, self.options = predicted, true, pairs, options

    @cached_property
    def found(self) -> NDArray[np.bool_]:
        """Which components of the truth were found."""
        return self._by_rule(self.true, self.pairs.truth)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Which components of the prediction are true."""
        return self._by_rule(self.predicted, self.pairs.prediction)

    def one_to_one(self, min_iou: float) -> Integers:
        """Return the positions in `pairs` of one-to-one pairs with an IoU above a bound, best first."""
        pairs = self.pairs
        order = np.argsort(-pairs.iou, kind="stable")
        order = order[pairs.iou[order] > min_iou]
        if min_iou >= 0.5:  # then no component can be in two of them (Kirillov et al. 2019)
            return order
        taken_true, taken_predicted, kept = set(), set(), []
        for position in order.tolist():
            t, p = int(pairs.truth[position]), int(pairs.prediction[position])
            if t not in taken_true and p not in taken_predicted:
                taken_true.add(t)
                taken_predicted.add(p)
                kept.append(position)
        return np.asarray(kept, np.int64)

    def _by_rule(self, sizes: Integers, numbers: Integers) -> NDArray[np.bool_]:
        hit = np.zeros(len(sizes), bool)
        if self.options.matching == "iou":
            hit[numbers[self.one_to_one(self.options.min_iou)]] = True
        else:
            bound = self.options.min_overlap if self.options.matching == "overlap" else 0.0
            covered = np.bincount(numbers, self.pairs.shared, minlength=len(sizes))
            hit = covered > bound * sizes
        return hit

    @property
    def sensitivity(self) -> float:
        """Share of the true lesions that were found; NaN without any."""
        return float(self.found.mean()) if len(self.true) else math.nan

    @property
    def ppv(self) -> float:
        """Share of the predicted lesions that are true; NaN without any."""
        return float(self.correct.mean()) if len(self.predicted) else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and PPV; 0 where only one volume has lesions, NaN where neither has."""
        if not len(self.true) and not len(self.predicted):
            return math.nan
        if not len(self.true) or not len(self.predicted):
            return 0.0
        both = self.sensitivity + self.ppv
        return 2 * self.sensitivity * self.ppv / both if both else 0.0

    @property
    def false_positives(self) -> float:
        """Number of predicted lesions that are not true."""
        return float(len(self.predicted) - self.correct.sum())

    @cached_property
    def panoptic(self) -> tuple[float, float, float]:
        """Panoptic, segmentation and recognition quality; NaN without components, SQ also without a pair."""
        ious = self.pairs.iou[self.one_to_one(0.5)]
        everything = (len(self.true) + len(self.predicted)) / 2
        if not everything:
            return math.nan, math.nan, math.nan
        segmentation = float(ious.mean()) if len(ious) else math.nan
        return float(ious.sum()) / everything, segmentation, len(ious) / everything


def components(
    mask: NDArray[np.bool_],
    connectivity: Literal["faces", "edges", "corners"] = "corners",
    min_voxels: int = 1,
) -> tuple[NDArray[np.int32], Integers]:
    """Return the numbered connected components of a mask and how many voxels each has.

    Components of fewer than `min_voxels` voxels are background; the others are numbered without gaps from 1.
    """
    from scipy.ndimage import generate_binary_structure, label

    numbered, count = label(mask, generate_binary_structure(mask.ndim, min(RANKS[connectivity], mask.ndim)))
    sizes = np.bincount(numbered[mask], minlength=count + 1)
    kept = sizes >= min_voxels
    kept[0] = False
    if not kept[1:].all():
        renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
        numbered = renumbered[numbered]
    return numbered.astype(np.int32, copy=False), sizes[kept].astype(np.int64)


def shared_voxels(
    truth: NDArray[np.int32], prediction: NDArray[np.int32]
) -> tuple[Integers, Integers, Integers]:
    """Return the pairs of components that overlap, numbered from 0, and how many voxels they share."""
    both = (truth > 0) & (prediction > 0)
    t, p = truth[both].astype(np.int64) - 1, prediction[both].astype(np.int64) - 1
    width = int(p.max()) + 1 if p.size else 1
    keys, shared = np.unique(t * width + p, return_counts=True)
    return keys // width, keys % width, shared.astype(np.int64)


def match_components(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], options: MetricOptions | None = None
) -> Matching:
    """Find the components of two masks of one shape, and which of them overlap."""
    options = options or MetricOptions()
    predicted, predicted_sizes = components(prediction, options.connectivity, options.min_voxels)
    true, true_sizes = components(truth, options.connectivity, options.min_voxels)
    t, p, shared = shared_voxels(true, predicted)
    iou = shared / (true_sizes[t] + predicted_sizes[p] - shared)
    return Matching(predicted_sizes, true_sizes, Pairs(t, p, shared, iou), options)


_RULE = "Lesions are connected components, matched by the rule of the options (by default any overlap)."
_COMMOWICK = "Commowick et al. 2018, doi:10.1038/s41598-018-31911-7"
_KIRILLOV = "Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963"

for _metric in (
    StructureMetric(
        name="lesion_f1",
        display_name="Lesion F1",
        short_name="Lesion F1",
        definition="2 S PPV / (S + PPV) of lesions",
        formula=r"\frac{2\,S\,PPV}{S + PPV}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=lambda structure: structure.matching.f1,
        note=f"Every lesion weighs the same, whatever its size. {_RULE}",
        reference=_COMMOWICK,
        papers=("Perera 2025 (F1, by inference; see coactseg_f1)",),
        tasks={"lesions": "Whether lesions are found, each weighing the same: the question of most readers."},
        pitfalls=("empty references", "resolution"),
    ),
    StructureMetric(
        name="lesion_sensitivity",
        display_name="Lesion sensitivity",
        short_name="Lesion sens.",
        definition="found lesions / lesions of the truth",
        formula=r"\frac{\text{found lesions}}{\text{lesions of the truth}}",
        missed=0.0,
        spurious=math.nan,
        absent=math.nan,
        function=lambda structure: structure.matching.sensitivity,
        note=f"Blind to false positives: read it with their number per case. {_RULE}",
        reference=_COMMOWICK,
        tasks={"lesions": "How many of the lesions that are there were found."},
        pitfalls=("empty references", "resolution"),
    ),
    StructureMetric(
        name="lesion_ppv",
        display_name="Lesion PPV",
        short_name="Lesion PPV",
        definition="true predicted lesions / predicted lesions",
        formula=r"\frac{\text{true predicted lesions}}{\text{predicted lesions}}",
        missed=math.nan,
        spurious=0.0,
        absent=math.nan,
        function=lambda structure: structure.matching.ppv,
        note=f"Blind to missed lesions: read it with their sensitivity. {_RULE}",
        reference=_COMMOWICK,
        tasks={"lesions": "How many of the predicted lesions are real."},
        pitfalls=("empty references", "resolution"),
    ),
    StructureMetric(
        name="lesion_fp",
        display_name="False positive lesions per case",
        short_name="Lesion FP",
        definition="predicted lesions that are not true",
        formula=r"\text{predicted lesions} - \text{true predicted lesions}",
        better="lower",
        best=0.0,
        highest=math.inf,
        missed=0.0,
        absent=0.0,
        over_absent=True,
        function=lambda structure: structure.matching.false_positives,
        note=f"A case without lesions counts, too: it can only have false ones. {_RULE}",
        reference=_COMMOWICK,
        tasks={"lesions": "The only measure that has a value in cases without lesions."},
        pitfalls=("resolution",),
    ),
    StructureMetric(
        name="pq",
        display_name="Panoptic quality (PQ)",
        short_name="PQ",
        definition="sum of IoU of pairs / (pairs + FP/2 + FN/2)",
        formula=r"\frac{\sum_{(p, t) \in TP} IoU(p, t)}{|TP| + \frac12 |FP| + \frac12 |FN|}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=lambda structure: structure.matching.panoptic[0],
        note="Components are paired by an IoU above 0.5. The product of SQ and RQ: read all three.",
        reference=_KIRILLOV,
        tasks={
            "lesions": "Finding and delineating lesions in one number; small lesions rarely reach its IoU of 0.5."
        },
        pitfalls=("small structures", "empty references", "resolution"),
    ),
    StructureMetric(
        name="sq",
        display_name="Segmentation quality (SQ)",
        short_name="SQ",
        definition="mean IoU of pairs",
        formula=r"\frac{\sum_{(p, t) \in TP} IoU(p, t)}{|TP|}",
        lowest=0.5,
        missed=math.nan,
        spurious=math.nan,
        absent=math.nan,
        function=lambda structure: structure.matching.panoptic[1],
        note="Only of components that were paired, so never below 0.5; NaN without a pair.",
        reference=_KIRILLOV,
        pitfalls=("small structures", "empty references"),
    ),
    StructureMetric(
        name="rq",
        display_name="Recognition quality (RQ)",
        short_name="RQ",
        definition="pairs / (pairs + FP/2 + FN/2)",
        formula=r"\frac{|TP|}{|TP| + \frac12 |FP| + \frac12 |FN|}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=lambda structure: structure.matching.panoptic[2],
        note="F1 of components that are paired by an IoU above 0.5.",
        reference=_KIRILLOV,
        pitfalls=("small structures", "empty references", "resolution"),
    ),
):
    registry.register(replace(_metric, default=False))


# ---- lesions one by one, and their table by size


@dataclass(frozen=True)
class Lesion:
    """One connected component of one class in one case.

    Attributes
    ----------
    volume
        "truth" or "prediction".
    matched
        Whether the rule of the options found it in the other volume.
    overlap
        Share of its voxels that are in the other volume.
    iou
        With the component that it overlaps best; 0 without one.
    """

    case: str
    class_name: str
    volume: Literal["truth", "prediction"]
    number: int
    voxels: int
    mm3: float
    matched: bool
    overlap: float
    iou: float


def lesions(pair: LabelPair, case: str = "") -> tuple[Lesion, ...]:
    """Return every lesion of a case, class by class, those of the truth first."""
    rows = []
    for structure in pair.structures():
        if structure.state == "absent":
            continue
        matching = structure.matching
        sides: tuple[tuple[Literal["truth", "prediction"], Any, Any, Any], ...] = (
            ("truth", matching.true, matching.pairs.truth, matching.found),
            ("prediction", matching.predicted, matching.pairs.prediction, matching.correct),
        )
        for volume, sizes, numbers, matched in sides:
            covered = np.bincount(numbers, matching.pairs.shared, minlength=len(sizes))
            best = np.zeros(len(sizes))
            np.maximum.at(best, numbers, matching.pairs.iou)
            rows += [
                Lesion(
                    case=case,
                    class_name=structure.name,
                    volume=volume,
                    number=number,
                    voxels=int(sizes[number - 1]),
                    mm3=float(sizes[number - 1]) * structure.voxel_mm3,
                    matched=bool(matched[number - 1]),
                    overlap=float(covered[number - 1] / sizes[number - 1]),
                    iou=float(best[number - 1]),
                )
                for number in range(1, len(sizes) + 1)
            ]
    return tuple(rows)


@dataclass(frozen=True)
class SizeClass:
    """Detection of the lesions of one class within bounds of size, over all cases together.

    Attributes
    ----------
    low, high
        Bounds in `unit`; a lesion of size `high` is in the next class.
    true, found, predicted, correct
        Numbers of lesions. Those of the truth are sorted by their own size, those of the prediction by theirs.
    false_positives_per_case
        Over all cases that were scored, also those without a lesion.
    """

    class_name: str
    low: float
    high: float
    unit: str
    true: int
    found: int
    predicted: int
    correct: int
    sensitivity: float
    ppv: float
    f1: float
    false_positives_per_case: float


def by_size(
    rows: Iterable[Lesion], n_cases: int, bounds: Sequence[float], unit: Literal["mm3", "voxels"] = "mm3"
) -> tuple[SizeClass, ...]:
    """Return detection by class and size, the row of all sizes last for each class.

    Parameters
    ----------
    rows
        Lesions of all cases.
    n_cases
        Cases that were scored.
    bounds
        Where the second, third ... class of size begins, in `unit`.
    """
    everything = list(rows)
    edges = [0.0, *bounds, math.inf]
    spans = [*pairwise(edges), (0.0, math.inf)] if bounds else [(0.0, math.inf)]
    return tuple(
        _size_class(name, [r for r in everything if r.class_name == name], low, high, unit, n_cases)
        for name in dict.fromkeys(row.class_name for row in everything)
        for low, high in spans
    )


def _size_class(
    name: str, rows: list[Lesion], low: float, high: float, unit: Literal["mm3", "voxels"], n_cases: int
) -> SizeClass:
    size: Callable[[Lesion], float] = (lambda row: row.mm3) if unit == "mm3" else (lambda row: row.voxels)
    inside = [row for row in rows if low <= size(row) < high]
    true = [row.matched for row in inside if row.volume == "truth"]
    predicted = [row.matched for row in inside if row.volume == "prediction"]
    sensitivity = sum(true) / len(true) if true else math.nan
    ppv = sum(predicted) / len(predicted) if predicted else math.nan
    both = sensitivity + ppv
    f1 = 2 * sensitivity * ppv / both if both > 0 else (0.0 if both == 0 else math.nan)
    return SizeClass(
        class_name=name,
        low=low,
        high=high,
        unit=unit,
        true=len(true),
        found=sum(true),
        predicted=len(predicted),
        correct=sum(predicted),
        sensitivity=sensitivity,
        ppv=ppv,
        f1=f1,
        false_positives_per_case=(len(predicted) - sum(predicted)) / n_cases if n_cases else math.nan,
    )
