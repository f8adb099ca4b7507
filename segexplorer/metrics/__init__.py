"""Metrics of whole integer volumes: overlap per case and class, summaries with their counts, intervals."""

from __future__ import annotations

from segexplorer.metrics.confusion import Confusion, confusion_matrix
from segexplorer.metrics.intervals import Interval, bootstrap_interval
from segexplorer.metrics.overlap import METRICS, Counts, Metric, names, score_case, spec
from segexplorer.metrics.summary import ClassSummary, Summary, case_means, summarise

__all__ = [
    "METRICS",
    "ClassSummary",
    "Confusion",
    "Counts",
    "Interval",
    "Metric",
    "Summary",
    "bootstrap_interval",
    "case_means",
    "confusion_matrix",
    "names",
    "score_case",
    "spec",
    "summarise",
]
