"""Inference for two conditions whose seeds are a sample of trainings, as their cases are a sample of patients.

Seeds are to losses what readers are to imaging modalities in a multi-reader multi-case study whose readers are
nested in the modality (Obuchowski 1995; Hillis 2007): every seed of a condition scores every case, and each
condition has seeds of its own. The score of case c under seed s of condition k is

    y[k, s, c] = mean[k] + case[c] + case by condition[k, c] + seed[k, s] + residual[k, s, c]

where everything but the means is random. Equal seed numbers of two losses are not the same randomness: the first
gradient already differs. The seeds of the two sides are therefore never paired.

With n cases, and the seeds averaged, the difference of the means has the variance

    A + V - R,    A = var over cases of the difference / n
                  V = sum over both sides of var over seeds of the mean over cases / number of seeds
                  R = sum over both sides of residual mean square / (n x number of seeds), contained in A and in V.

The estimate is never below A or V. Degrees of freedom follow Satterthwaite (1946) from A and V; R is left out of
them, which errs on the careful side. How often this rejects where there is nothing to find, and how often its
intervals cover, is measured by `scripts/measure_rates.py` and shipped with the package (`study/designs.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
"""Scores of one condition (..., seeds, cases); leading axes are independent studies."""


@dataclass(frozen=True)
class CrossedEstimate:
    """The mean difference of two conditions with its standard error, each of shape (...).

    Attributes
    ----------
    mean
        Condition minus reference.
    standard_error
        Over other cases and other trainings together.
    df
        Satterthwaite's degrees of freedom; infinite where nothing varies.
    """

    mean: Table
    standard_error: Table
    df: Table

    @property
    def p(self) -> Table:
        """Two-sided p that the mean difference is zero."""
        from scipy.stats import t

        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.mean) / self.standard_error
        p: Table = np.where(np.isnan(ratio), 1.0, 2 * t.sf(ratio, self.df))
        return p

    def half_width(self, level: float = 0.95) -> Table:
        """Return half the width of the confidence interval."""
        from scipy.stats import t

        width: Table = self.standard_error * t.ppf((1 + level) / 2, self.df)
        return width

    def p_outside(self, margin: float) -> Table:
        """Return p of two one-sided tests that the mean is outside plus or minus a margin (Schuirmann 1987)."""
        from scipy.stats import t

        distance = margin - np.abs(self.mean)
        with np.errstate(divide="ignore", invalid="ignore"):
            p: Table = np.where(
                self.standard_error > 0,
                t.sf(distance / self.standard_error, self.df),
                (distance <= 0).astype(float),
            )
        return p


def crossed_estimate(ours: Table, theirs: Table) -> CrossedEstimate:
    """Estimate the mean of condition minus reference, seeds crossed with cases and nested in the condition.

    Parameters
    ----------
    ours, theirs
        Shapes (..., S, n) and (..., T, n): the same n cases in the same order, at least two; at least two seeds
        each. NaN where a score is missing; every case and every seed needs a score on its side.

    Raises
    ------
    ValueError
        With fewer than two cases or seeds, or other numbers of cases.
    """
    n = ours.shape[-1]
    if n != theirs.shape[-1] or min(n, ours.shape[-2], theirs.shape[-2]) < 2:
        raise ValueError(f"Tables of {ours.shape} and {theirs.shape} have no crossed estimate.")
    case_means = np.nanmean(ours, axis=-2), np.nanmean(theirs, axis=-2)
    difference = case_means[0] - case_means[1]
    over_cases = difference.var(axis=-1, ddof=1) / n
    denominator = over_cases**2 / (n - 1)
    over_seeds = residual = np.zeros(over_cases.shape)
    for table, means in zip((ours, theirs), case_means, strict=True):
        seeds = table.shape[-2]
        deviations = table - means[..., None, :]
        # what a seed adds to the cases that it has a score of
        seed_effects = np.nanmean(deviations, axis=-1)
        of_seeds = seed_effects.var(axis=-1, ddof=1) / seeds
        squares = np.nansum((deviations - seed_effects[..., None]) ** 2, axis=(-2, -1))
        over_seeds = over_seeds + of_seeds
        residual = residual + squares / ((n - 1) * (seeds - 1)) / (n * seeds)
        denominator = denominator + of_seeds**2 / (seeds - 1)
    variance = np.maximum(over_cases + over_seeds - residual, np.maximum(over_cases, over_seeds))
    # rounding is no variance: equal differences have none
    scale = np.nanmax(np.abs(ours), axis=(-2, -1)) + np.nanmax(np.abs(theirs), axis=(-2, -1))
    variance = np.where(variance <= (1e-12 * scale) ** 2, 0.0, variance)
    mean = difference.mean(axis=-1)
    mean = np.where(np.abs(mean) <= 1e-12 * scale, 0.0, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(variance > 0, variance**2 / denominator, math.inf)
    return CrossedEstimate(mean, np.sqrt(variance), df)
