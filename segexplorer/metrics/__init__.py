"""Metrics of whole integer volumes: overlap and surface distances per case and class, means with their counts."""

from __future__ import annotations

from segexplorer.metrics.classes import MatchedClass, complete, match_classes
from segexplorer.metrics.confusion import Confusion, confusion_matrix
from segexplorer.metrics.distribution import ALL_CLASSES, Distribution, distributions, values_by_case
from segexplorer.metrics.intervals import Interval, bootstrap_interval
from segexplorer.metrics.metric import Metric
from segexplorer.metrics.overlap import METRICS, Counts
from segexplorer.metrics.scoring import ALL_METRICS, names, score_case, spec
from segexplorer.metrics.summary import ClassSummary, Summary, case_means, summarise
from segexplorer.metrics.surface import SURFACE_METRICS, Surfaces, surface_distances
from segexplorer.metrics.table import distributions_to_csv, score_rows, scores_to_csv

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
    "score_case",
    "score_rows",
    "scores_to_csv",
    "spec",
    "summarise",
    "surface_distances",
    "values_by_case",
]
