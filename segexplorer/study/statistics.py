"""Statistics of paired cases: mean difference with its bootstrap interval, Wilcoxon signed rank, Holm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics import Interval, bootstrap_interval

FEWEST_PAIRS = 6
"""With fewer pairs the two-sided exact test cannot reach p < 0.05, whatever the data: 2 / 2**5 = 0.0625. Nor is a
condition called better."""

INTERVAL = "95 % bootstrap interval over cases"
"""How every interval of a comparison is made, in words."""


def paired_interval(differences: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean paired difference and its 95 % bootstrap interval (from six on), cases being resampled."""
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

    if not differences:
        return math.nan
    values = _nonzero(differences)
    return float(wilcoxon(values).pvalue) if values.size else 1.0


def n_nonzero(differences: Sequence[float]) -> int:
    """Return how many differences the signed-rank test is over."""
    return int(_nonzero(differences).size)


def least_p(n: int) -> float:
    """Return the smallest p that the exact two-sided test has over n differences other than zero: 2 / 2**n."""
    return min(1.0, 2.0 ** (1 - n))


def _nonzero(differences: Sequence[float]) -> NDArray[np.float64]:
    # differences of means over seeds that are equal but for rounding are zeros, and ties are ties
    values: NDArray[np.float64] = np.round(np.asarray(differences, float), 12)
    kept: NDArray[np.float64] = values[values != 0]
    return kept


def median_of_finite(values: Sequence[float]) -> float:
    """Return the median of the values that are numbers; NaN where there is none."""
    finite = [v for v in values if math.isfinite(v)]
    return statistics.median(finite) if finite else math.nan


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
