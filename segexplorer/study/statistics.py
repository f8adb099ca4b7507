"""Statistics of paired cases: mean difference with its bootstrap interval, Wilcoxon signed rank, Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segexplorer.metrics import Interval, bootstrap_interval

FEWEST_PAIRS = 6
"""With fewer pairs the two-sided exact test cannot reach p < 0.05, whatever the data: 2 / 2**5 = 0.0625."""

INTERVAL = "95 % bootstrap interval over cases"
"""How every interval of a comparison is made, in words."""


def paired_interval(differences: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean paired difference and its 95 % bootstrap interval, cases being resampled."""
    if not differences:
        return Interval(math.nan, math.nan, math.nan, 0, 0.95, "none")
    return bootstrap_interval(differences, seed)


def wilcoxon_signed_rank(differences: Sequence[float]) -> float:
    """Return the two-sided p value that paired differences are symmetric about zero.

    Zero differences are left out, as Wilcoxon (1945) did; where all are zero, p is 1. Exact up to 50 pairs without
    ties, by permutation up to 13 pairs with ties, else by the normal approximation (scipy.stats.wilcoxon). NaN
    without any pair.
    """
    from scipy.stats import wilcoxon

    values = np.asarray(differences, float)
    if values.size == 0:
        return math.nan
    # differences of means over seeds that are equal but for rounding are zeros, and ties are ties
    values = np.round(values, 12)
    if not values.any():
        return 1.0
    return float(wilcoxon(values[values != 0]).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for all of them together (Holm 1979, step down); NaN stays and counts for nothing.

    An adjusted p below 0.05 rejects at a family-wise error of 5 %.
    """
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
