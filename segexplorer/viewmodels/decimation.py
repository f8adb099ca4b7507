"""Long curves thinned and smoothed for drawing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def decimate(x: Floats, y: Floats, limit: int = 2000) -> tuple[Floats, Floats]:
    """Thin a curve to at most `limit` points, keeping the lowest and highest of every stretch.

    A spike one step long stays visible, whatever the thinning. First and last point are kept; a stretch of
    NaN keeps one NaN, so a gap stays a gap.

    Parameters
    ----------
    x, y
        (N,) coordinates in order of x.
    limit
        Most points to return, at least 4.
    """
    n = len(y)
    if n <= limit:
        return x, y
    width = -(-n // ((limit - 2) // 2))
    rows = -(-n // width)
    padded = np.full(rows * width, np.nan)
    padded[:n] = y
    table = padded.reshape(rows, width)
    empty = np.isnan(table)
    start = np.arange(rows) * width
    lowest = start + np.where(empty, np.inf, table).argmin(axis=1)
    highest = start + np.where(empty, -np.inf, table).argmax(axis=1)
    kept = np.unique(np.concatenate(([0], lowest, highest, [n - 1])))
    return x[kept], y[kept]


def smooth(y: Floats, weight: float) -> Floats:
    """Return the exponential moving average, without the pull towards zero at its start.

    Value t is the mean of the values so far, weighted by `weight ** age`; NaN stay NaN and weigh nothing.

    Parameters
    ----------
    y
        (N,) values.
    weight
        From 0 (no smoothing) to below 1; 0.9 remembers about ten values.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"the smoothing weight must lie from 0 to below 1, not at {weight}")
    if weight == 0 or not len(y):
        return y
    from scipy.signal import lfilter

    finite = np.isfinite(y)
    values = y[finite]
    mean = lfilter([1 - weight], [1, -weight], values) / (1 - weight ** np.arange(1, len(values) + 1))
    result = np.array(y, dtype=float)
    result[finite] = mean
    return result
