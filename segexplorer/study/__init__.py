"""Studies: many runs of one question, and honest comparisons between them. Reading them needs no torch."""

from __future__ import annotations

from segexplorer.study.compare import GroupedComparison, compare, compare_groups
from segexplorer.study.comparison import Comparison, ConditionSummary, Difference
from segexplorer.study.fairness import ALLOWANCES, Allowance
from segexplorer.study.render import csv_table, latex_tables, markdown_tables

__all__ = [
    "ALLOWANCES",
    "Allowance",
    "Comparison",
    "ConditionSummary",
    "Difference",
    "GroupedComparison",
    "compare",
    "compare_groups",
    "csv_table",
    "latex_tables",
    "markdown_tables",
]
