"""Metrics of whole integer volumes: overlap and surface distances per case and class, means with their counts."""

from __future__ import annotations

from collections.abc import Mapping

from segexplorer.core.plugins import discover
from segexplorer.metrics.base import Metric, registry
from segexplorer.metrics.formatting import distributions_to_csv, score_rows, scores_to_csv
from segexplorer.metrics.overlap import METRICS, Confusion, Counts, confusion_matrix
from segexplorer.metrics.scoring import MatchedClass, complete, match_classes, score_case
from segexplorer.metrics.summary import (
    ALL_CLASSES,
    ClassSummary,
    Distribution,
    Interval,
    Summary,
    bootstrap_interval,
    case_means,
    distributions,
    summarise,
    values_by_case,
)
from segexplorer.metrics.surface import SURFACE_METRICS, Surfaces, surface_distances

# Every file of this folder may register metrics, so a new metric is a new file (docs/how-to/add-a-metric.md).
discover(__name__, __path__)

names = registry.names
spec = registry.spec

ALL_METRICS: Mapping[str, Metric] = registry
"""Every metric by name, in the order of tables: ratios of voxel counts, then distances, then those of plug-ins."""

__all__ = [
    "ALL_CLASSES",
    "ALL_METRICS",
    "METRICS",
    "SURFACE_METRICS",
    "ClassSummary",
    "Confusion",
    "Counts",
    "Distribution",
    "Interval",
    "MatchedClass",
    "Metric",
    "Summary",
    "Surfaces",
    "bootstrap_interval",
    "case_means",
    "complete",
    "confusion_matrix",
    "distributions",
    "distributions_to_csv",
    "match_classes",
    "names",
    "registry",
    "score_case",
    "score_rows",
    "scores_to_csv",
    "spec",
    "summarise",
    "surface_distances",
    "values_by_case",
]
