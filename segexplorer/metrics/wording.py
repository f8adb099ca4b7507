"""How values of metrics are written in tables."""

from __future__ import annotations

import math

from segexplorer.metrics.intervals import FEWEST_FOR_INTERVAL
from segexplorer.metrics.scoring import ALL_METRICS

NONE = "–"
"""Stands where a metric has no value, or too few cases an interval."""

WITHOUT_INTERVAL = (
    f"No interval below {FEWEST_FOR_INTERVAL} cases: "
    "a bootstrap of so few covers the mean far less often than it says."
)
"""Why a dash stands in place of an interval."""


def value_text(value: float, metric: str) -> str:
    """Return a value with the digits that its metric deserves; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.2f}" if ALL_METRICS[metric].unit else f"{value:.3f}"
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
