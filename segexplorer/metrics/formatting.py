"""Metrics as text: single values as tables show them, and scores as CSV that any program reads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from segexplorer.core.events import CaseScore
from segexplorer.metrics.base import registry
from segexplorer.metrics.summary import FEWEST_FOR_INTERVAL, Distribution

NONE = "–"
"""Written where a metric has no value, or where there are too few cases for an interval."""

WITHOUT_INTERVAL = (
    f"No interval below {FEWEST_FOR_INTERVAL} cases: "
    "a bootstrap of so few covers the mean far less often than it says."
)
"""Why there is a dash instead of an interval."""


def value_text(value: float, metric: str) -> str:
    """Return a value with the digits that its metric deserves; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.2f}" if registry[metric].unit else f"{value:.3f}"
    return text if float(text) else text.removeprefix("-")


def interval_text(low: float, high: float, metric: str) -> str:
    """Return an interval; a dash where there is none."""
    return f"[{value_text(low, metric)}, {value_text(high, metric)}]" if math.isfinite(low) else NONE


def mean_text(mean: float, low: float, high: float, metric: str) -> str:
    """Return a mean with its interval behind it, or alone where there is none."""
    text = value_text(mean, metric)
    return f"{text} {interval_text(low, high, metric)}" if math.isfinite(low) else text


def percent_text(share: float) -> str:
    """Return a share, e.g. a coefficient of variation, in percent."""
    return f"{100 * share:.{int(share < 1)}f} %" if math.isfinite(share) else NONE


def score_rows(scores: Iterable[CaseScore]) -> list[dict[str, Any]]:
    """Return one row per case and class, under the column names of a run's `metrics.csv`."""
    return [
        {
            "case": score.case,
            "class": score.class_name,
            "role": score.role,
            "state": score.state,
            **{name: score.metrics[name] for name in registry if name in score.metrics},
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
