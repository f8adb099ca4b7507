"""The scorer of CoactSeg (Wu et al. 2023) for new lesions of multiple sclerosis, as its public code computes it.

Its definitions differ from ours: distances are in voxels whatever the spacing, what is called HD is the 95th
percentile of both lists of distances together, ASD is one-sided, an empty prediction scores 0 in everything, and F1
is of lesions. Where the truth is empty, or where no component of 11 voxels is left in one of the volumes, that code
stops with an error; the metrics have no value there.

The rule for lesions is that of Commowick et al. 2018 (doi:10.1038/s41598-018-31911-7): a lesion counts if more than
10 % of it is in lesions of the other volume, and if those of them that make up 65 % of this overlap, the largest
share first, are each at most 70 % outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics import overlap
from segexplorer.metrics.base import Better, StructureMetric, registry
from segexplorer.metrics.detection import components, shared_voxels
from segexplorer.metrics.overlap import Counts
from segexplorer.metrics.surface import asd, hd95_pooled

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

SMALLEST = 11
"""Voxels of the smallest component that is a lesion."""
OVERLAP, SHARE, OUTSIDE = 0.1, 0.65, 0.7
"""alpha, beta and gamma of Commowick et al. 2018."""


@dataclass(frozen=True)
class _Side:
    """The lesions of one volume: voxels of each; for every overlap its lesion and that of the other volume."""

    sizes: NDArray[np.int64]
    own: NDArray[np.int64]
    other: NDArray[np.int64]
    shared: NDArray[np.int64]


def lesion_f1(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return F1 of lesions by the rules above; NaN where a volume has no lesion of 11 voxels."""
    (found, found_sizes), (true, true_sizes) = (
        components(m, "corners", SMALLEST) for m in (prediction, truth)
    )
    if not len(found_sizes) or not len(true_sizes):
        return math.nan
    t, p, shared = shared_voxels(true, found)
    of_truth = _Side(true_sizes, t, p, shared)
    of_prediction = _Side(found_sizes, p, t, shared)
    sensitivity = _accepted(of_truth, of_prediction) / len(true_sizes)
    ppv = _accepted(of_prediction, of_truth) / len(found_sizes)
    if sensitivity == 0 or ppv == 0:
        return 0.0
    return 2 * sensitivity * ppv / (sensitivity + ppv)


def _accepted(side: _Side, other: _Side) -> int:
    """Return how many lesions of one side count."""
    inside = np.bincount(side.own, side.shared, minlength=len(side.sizes))
    outside = 1 - np.bincount(other.own, other.shared, minlength=len(other.sizes)) / other.sizes
    accepted = 0
    for lesion in np.flatnonzero(inside > OVERLAP * side.sizes):
        partners = np.flatnonzero(side.own == lesion)
        reached = 0.0
        for partner in partners[np.argsort(-side.shared[partners], kind="stable")]:
            if outside[side.other[partner]] > OUTSIDE:
                break
            reached += side.shared[partner] / inside[lesion]
            if reached >= SHARE:
                accepted += 1
                break
    return accepted


def _of_counts(function: Callable[[Counts], float]) -> Callable[[Structure], float]:
    return lambda structure: function(structure.counts)


def _hd95(structure: Structure) -> float:
    return math.nan if structure.voxel_surfaces is None else hd95_pooled(structure.voxel_surfaces)


def _asd(structure: Structure) -> float:
    return math.nan if structure.voxel_surfaces is None else asd(structure.voxel_surfaces)


def _register(
    name: str,
    display_name: str,
    definition: str,
    formula: str,
    function: Callable[[Structure], float],
    *,
    better: Better = "higher",
    note: str = "",
    papers: tuple[str, ...] = (),
) -> None:
    distance = better == "lower"
    registry.register(
        StructureMetric(
            name=f"coactseg_{name}",
            display_name=f"{display_name} (CoactSeg)",
            short_name=f"{display_name} (CoactSeg)",
            definition=definition,
            formula=formula,
            function=function,
            better=better,
            best=0.0 if distance else 1.0,
            highest=math.inf if distance else 1.0,
            unit="voxels" if distance else "",
            missed=0.0,
            spurious=math.nan,
            absent=0.0,
            over_absent=True,
            note=f"{note} An empty prediction scores 0, whatever the truth.".strip(),
            reference="Wu et al. 2023, doi:10.1007/978-3-031-43993-3_1, its public code",
            papers=papers,
            default=False,
            protocol="coactseg",
            pitfalls=("empty references", "resolution"),
        )
    )


_BY_INFERENCE = "by inference"
_register(
    "dice",
    "Dice",
    "2 TP / (2 TP + FP + FN)",
    r"\frac{2\,TP}{2\,TP + FP + FN}",
    _of_counts(overlap.dice),
    papers=(f"Perera 2025 (DC, {_BY_INFERENCE})",),
)
_register(
    "jaccard",
    "Jaccard",
    "TP / (TP + FP + FN)",
    r"\frac{TP}{TP + FP + FN}",
    _of_counts(overlap.jaccard),
    papers=(f"Perera 2025 (JC, {_BY_INFERENCE})",),
)
_register(
    "hd95",
    "HD",
    "P95 of d(P, T) and d(T, P) together, in voxels",
    r"P_{95}\left(d(P, T) \cup d(T, P)\right)",
    _hd95,
    better="lower",
    note="The 95th percentile, although it is called HD. So a missed structure has the best distance.",
    papers=(f"Perera 2025 (HD, {_BY_INFERENCE})",),
)
_register(
    "asd",
    "ASD",
    "mean d(P, T), in voxels",
    r"\operatorname{mean} d(P, T)",
    _asd,
    better="lower",
    note="One-sided. So a missed structure has the best distance.",
    papers=(f"Perera 2025 (ASD, {_BY_INFERENCE})",),
)
_register(
    "precision",
    "Precision",
    "TP / (TP + FP)",
    r"\frac{TP}{TP + FP}",
    _of_counts(overlap.precision),
    papers=(f"Perera 2025 (PR, {_BY_INFERENCE})",),
)
_register(
    "sensitivity",
    "Sensitivity",
    "TP / (TP + FN)",
    r"\frac{TP}{TP + FN}",
    _of_counts(overlap.sensitivity),
)
_register(
    "specificity",
    "Specificity",
    "TN / (TN + FP)",
    r"\frac{TN}{TN + FP}",
    _of_counts(overlap.specificity),
    note="Near 1 by volume.",
)
_register(
    "f1",
    "Lesion F1",
    "2 S PPV / (S + PPV) of lesions",
    r"\frac{2\,S\,PPV}{S + PPV}",
    lambda structure: lesion_f1(*structure.masks),
    note="Lesions have 11 voxels or more, connected across corners, and count from an overlap above 10 % on, "
    "unless what they overlap is mostly outside.",
    papers=(f"Perera 2025 (F1, {_BY_INFERENCE})",),
)
