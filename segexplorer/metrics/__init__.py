"""Metrics of whole integer volumes per case and class: overlap, surfaces, lesions; means with their counts."""

from __future__ import annotations

from collections.abc import Mapping

from segexplorer.core.plugins import discover
from segexplorer.metrics.base import Metric, StructureMetric, registry
from segexplorer.metrics.detection import Lesion, SizeClass, by_size, lesions
from segexplorer.metrics.formatting import distributions_to_csv, score_rows, scores_to_csv
from segexplorer.metrics.options import MetricOptions
from segexplorer.metrics.overlap import METRICS, Confusion, Counts, confusion_matrix
from segexplorer.metrics.scoring import MatchedClass, complete, match_classes, score_case
from segexplorer.metrics.structure import LabelPair, Structure
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
from segexplorer.metrics.tasks import PITFALLS, PROTOCOLS, TASKS, choose, metrics_for

# Every file of this folder may register metrics, so a new metric is a new file (docs/how-to/add-a-metric.md).
discover(__name__, __path__)


def default_names() -> list[str]:
    """Return the metrics that are computed without being asked for, in the order of tables."""
    return [name for name, metric in registry.items() if metric.default]


names = registry.names
spec = registry.spec

ALL_METRICS: Mapping[str, Metric] = registry
"""Every metric by name, in the order of tables: what is computed by default, then what is computed on request."""

__all__ = [
    "ALL_CLASSES",
    "ALL_METRICS",
    "METRICS",
    "PITFALLS",
    "PROTOCOLS",
    "SURFACE_METRICS",
    "TASKS",
    "ClassSummary",
    "Confusion",
    "Counts",
    "Distribution",
    "Interval",
    "LabelPair",
    "Lesion",
    "MatchedClass",
    "Metric",
    "MetricOptions",
    "SizeClass",
    "Structure",
    "StructureMetric",
    "Summary",
    "Surfaces",
    "bootstrap_interval",
    "by_size",
    "case_means",
    "choose",
    "complete",
    "confusion_matrix",
    "default_names",
    "distributions",
    "distributions_to_csv",
    "lesions",
    "match_classes",
    "metrics_for",
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
