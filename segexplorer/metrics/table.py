"""Scores as rows of a table that any program reads: one per case and class, every metric by its name."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from segexplorer.core.events import CaseScore
from segexplorer.metrics.distribution import Distribution
from segexplorer.metrics.scoring import ALL_METRICS


def score_rows(scores: Iterable[CaseScore]) -> list[dict[str, Any]]:
    """Return one row per case and class, under the column names of a run's `metrics.csv`."""
    return [
        {
            "case": score.case,
            "class": score.class_name,
            "role": score.role,
            "state": score.state,
            **{name: score.metrics[name] for name in ALL_METRICS if name in score.metrics},
            "false_positive_ml": score.false_positive_ml,
            "false_negative_ml": score.false_negative_ml,
            "truth_ml": score.truth_ml,
        }
        for score in scores
    ]


def scores_to_csv(scores: Iterable[CaseScore]) -> str:
    """Return the rows of scores as CSV; a metric without meaning is an empty cell."""
    return rows_to_csv(score_rows(scores))


def distributions_to_csv(rows: Iterable[Distribution]) -> str:
    """Return one line per class and metric: mean, interval, variation, quartiles, best and worst case."""
    return rows_to_csv([asdict(row) for row in rows])


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV under all the names that occur; a NaN is an empty cell, other numbers are exact."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
