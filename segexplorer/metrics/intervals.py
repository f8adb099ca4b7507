"""Confidence intervals of a mean over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segexplorer.core.errors import DataError

FEWEST_FOR_INTERVAL = 6
"""Below this many cases there is no interval: of two to five values a bootstrap that says 95 % covers the mean in
50 to 85 % of all samples (simulated), since it cannot reach beyond the smallest and the largest of them."""

FEWEST_FOR_BCA = 8
"""Below this many cases the acceleration of BCa rests on too few jackknife values; percentiles are used."""


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval; `low` and `high` are NaN below `FEWEST_FOR_INTERVAL` values."""

    mean: float
    low: float
    high: float
    n: int
    level: float
    method: str


def bootstrap_interval(
    values: Sequence[float], seed: int = 0, *, level: float = 0.95, resamples: int = 9999
) -> Interval:
    """Return the mean of per-case values and its bootstrap interval, cases being what is resampled.

    Bias-corrected and accelerated (Efron 1987) from eight cases on, percentile with six or seven, none with fewer;
    values that are NaN are left out, and `n` says how many were used. Equal values give an interval of no width.
    Intervals of few cases are somewhat too narrow: at 95 %, about 87 % coverage with 6 to 8, 92 % with 12 to 20.

    Raises
    ------
    DataError
        When no finite value is left, or the level is not between 0 and 1.
    """
    from scipy.stats import bootstrap

    if not 0 < level < 1:
        raise DataError(f"A confidence level must lie between 0 and 1, not at {level}.")
    used = np.asarray([v for v in values if np.isfinite(v)], float)
    if used.size == 0:
        raise DataError("There is no value to take a mean of.", "Was any class present in any case?")
    mean = float(used.mean())
    if used.size < FEWEST_FOR_INTERVAL:
        return Interval(mean, math.nan, math.nan, used.size, level, "none")
    if np.ptp(used) == 0:
        return Interval(mean, mean, mean, used.size, level, "constant")
    method: Literal["BCa", "percentile"] = (
        "BCa" if used.size >= FEWEST_FOR_BCA and np.unique(used).size > 2 else "percentile"
    )
    result = bootstrap(
        (used,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method=method,
        rng=np.random.default_rng(seed),
        vectorized=True,
        batch=1000,
    )
    interval = result.confidence_interval
    return Interval(mean, float(interval.low), float(interval.high), used.size, level, method)
