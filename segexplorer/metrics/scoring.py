"""Scores of one case, class by class: overlap always, surface distances where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import UnknownKindError, did_you_mean
from segexplorer.core.events import CaseScore
from segexplorer.core.types import Role
from segexplorer.metrics.confusion import confusion_matrix
from segexplorer.metrics.metric import Metric
from segexplorer.metrics.overlap import FURTHER_METRICS, METRICS, class_counts
from segexplorer.metrics.surface import (
    SURFACE_METRICS,
    Surfaces,
    image_diagonal,
    surface_metrics,
    surfaces_of_classes,
)

ALL_METRICS: Mapping[str, Metric] = {**METRICS, **FURTHER_METRICS, **SURFACE_METRICS}
"""Every metric by name, in the order of tables: ratios of voxel counts, then distances."""


def names() -> list[str]:
    """Return the metrics' names in the order of tables."""
    return list(ALL_METRICS)


def spec(name: str) -> Metric:
    """Return a metric by name.

    Raises
    ------
    UnknownKindError
        When there is none; the remedy names the nearest ones.
    """
    if name not in ALL_METRICS:
        raise UnknownKindError(f"There is no metric {name!r}.", did_you_mean(name, ALL_METRICS))
    return ALL_METRICS[name]


def score_case(
    prediction: NDArray[Any],
    truth: NDArray[Any],
    class_names: Sequence[str],
    spacing: Sequence[float],
    *,
    case: str = "",
    role: Role = "validation",
    badge: str = "",
    surfaces: bool = False,
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
    surfaces
        Whether distances between surfaces are measured too: about a second for an organ in a CT of
        300x512x512 voxels, milliseconds for small volumes.

    Returns
    -------
    tuple of CaseScore
        One per foreground class, in their order.

    Raises
    ------
    DataError
        When shapes differ or a class index is out of range.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    matrix = confusion_matrix(prediction, truth, len(class_names) + 1)
    millilitres = float(np.prod(np.asarray(spacing, float))) / 1000.0
    diagonal = image_diagonal(truth.shape, spacing)
    measured: Iterable[Surfaces | None] = (
        surfaces_of_classes(prediction, truth, len(class_names), spacing)
        if surfaces
        else [None] * len(class_names)
    )
    ratios = (*METRICS.values(), *FURTHER_METRICS.values())
    scores = []
    for name, counts, distances in zip(class_names, class_counts(matrix)[1:], measured, strict=True):
        values = {metric.name: metric.function(counts) for metric in ratios}
        if surfaces:
            values |= surface_metrics(distances, counts.state != "absent", diagonal)
        scores.append(
            CaseScore(
                case=case,
                class_name=name,
                role=role,
                state=counts.state,
                metrics=values,
                false_positive_ml=counts.fp * millilitres,
                false_negative_ml=counts.fn * millilitres,
                truth_ml=(counts.tp + counts.fn) * millilitres,
                badge=badge,
            )
        )
    return tuple(scores)
