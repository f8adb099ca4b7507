"""How values of metrics are written in tables."""

from __future__ import annotations

import math

from segexplorer.metrics.scoring import ALL_METRICS

NONE = "–"
"""Stands where a metric has no value."""


def value_text(value: float, metric: str) -> str:
    """Return a value with the digits that its metric deserves; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    return f"{value:.2f}" if ALL_METRICS[metric].unit else f"{value:.3f}"


def interval_text(low: float, high: float, metric: str) -> str:
    """Return an interval, or nothing where there is none."""
    return f"[{value_text(low, metric)}, {value_text(high, metric)}]" if math.isfinite(low) else ""


def percent_text(share: float) -> str:
    """Return a share, e.g. a coefficient of variation, in percent."""
    return f"{100 * share:.{int(share < 1)}f} %" if math.isfinite(share) else NONE
