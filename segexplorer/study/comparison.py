"""What a comparison says: conditions side by side, their paired differences, the sentences beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from segexplorer.metrics import ALL_METRICS, Distribution
from segexplorer.study.ranking import Ranking
from segexplorer.study.runs import ScoredSplit, checkpoint_description
from segexplorer.training.scores import Weights

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""Holm-adjusted p below which tables mark a difference."""


@dataclass(frozen=True)
class ConditionSummary:
    """One condition's means.

    Attributes
    ----------
    runs
        Names of its run folders.
    n_cases, n_scores
        Cases that validate in any of its runs; (case, class, run) scores, of which structures are missed.
    seed_means
        Metric -> seed -> mean over the cases of that seed.
    seed_sd
        Metric -> standard deviation over seeds of those means; NaN with one seed.
    case_means
        Metric -> case -> mean over its runs, then over classes.
    minutes
        Training and validation, mean of its runs.
    gradient_norm
        Median over its runs of the median norm of the gradient over their steps, before clipping.
    steps, batch_size
        Optimiser steps of its first run, and patches in each.
    distributions
        One per class and metric, the mean of classes last. The values are cases: each is the mean of its runs.
        Counts of missed, spurious and absent structures are over all runs.
    """

    label: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    n_cases: int
    n_scores: int
    minutes: float
    gradient_norm: float
    steps: int
    batch_size: int
    seed_means: Mapping[str, Mapping[int, float]]
    seed_sd: Mapping[str, float]
    case_means: Mapping[str, Mapping[str, float]]
    distributions: tuple[Distribution, ...]

    def distribution(self, metric: str, class_name: str = "") -> Distribution:
        """Return the row of a metric and class, by default of the mean of classes (or the only class)."""
        rows = [d for d in self.distributions if d.metric == metric]
        return next(d for d in rows if d.class_name == class_name) if class_name else rows[-1]


@dataclass(frozen=True)
class Difference:
    """One condition against the reference, on the same cases.

    Attributes
    ----------
    n_pairs, n_nonzero, n_unpaired, n_dropped
        Cases in the difference; those of them where it is not zero, which is what `p_cases` is over; (case, class,
        seed) triples for which only one side has a value; these, and those that both sides missed.
    n_missed, n_missed_reference, n_spurious, n_spurious_reference
        Of all (case, class, run) scores on either side.
    n_seeds, n_folds
        Seeds of the side that has fewer; folds of the cases, 1 without.
    mean, low, high, standard_error, df
        Mean paired difference, condition minus reference; its 95 % interval, standard error and degrees of freedom,
        over other cases and other trainings (`study/inference.py`). NaN with one seed, or fewer than five cases.
    seed_means, seed_sd
        Seed -> mean difference over its cases, for the seeds that both sides have; their standard deviation, NaN
        with one.
    p, p_holm, n_tests
        Of the same, two-sided; Holm-adjusted over `n_tests`: all comparisons of this metric by the mean of classes,
        or all comparisons of this metric by single classes.
    p_cases, low_cases, high_cases
        Wilcoxon signed rank and 95 % bootstrap interval over cases alone: these trained networks on other cases.
        They say nothing about another training.
    withheld
        Why there is no star whatever p is: fewer than three seeds, the design's measured A/A rate, or dropped
        pairs; "" if there may be one.
    margin, p_equivalence, p_equivalence_holm
        The declared margin of equivalence in the metric's unit; p of two one-sided tests that the mean difference
        is outside it, and adjusted by Holm like p. NaN without a margin.
    better
        "condition" or "reference" where there is a star, else "".
    """

    condition: str
    reference: str
    class_name: str
    metric: str
    n_pairs: int
    n_nonzero: int
    n_unpaired: int
    n_dropped: int
    n_missed: int
    n_missed_reference: int
    n_spurious: int
    n_spurious_reference: int
    n_seeds: int
    n_folds: int
    mean: float
    low: float
    high: float
    standard_error: float
    df: float
    seed_means: Mapping[int, float]
    seed_sd: float
    p: float
    p_cases: float
    low_cases: float
    high_cases: float
    withheld: str
    margin: float = math.nan
    p_equivalence: float = math.nan
    p_equivalence_holm: float = math.nan
    p_holm: float = math.nan
    n_tests: int = 0
    better: Literal["condition", "reference", ""] = ""

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below 0.05."""
        return self.p_holm < SIGNIFICANT

    @property
    def marked(self) -> bool:
        """Whether tables give it a star: significant, by a design that was measured to deserve it."""
        return self.significant and not self.withheld

    @property
    def equivalent(self) -> bool:
        """Whether the difference is within the declared margin, by a design that may have stars."""
        return self.p_equivalence_holm < SIGNIFICANT and not self.withheld


@dataclass(frozen=True)
class Comparison:
    """Conditions side by side; `notes` are sentences that belong beside every figure of it.

    `rankings` has one entry per metric, over the mean of classes (or the only class).
    """

    checkpoint: Weights
    split: ScoredSplit
    reference: str
    metrics: tuple[str, ...]
    conditions: tuple[ConditionSummary, ...]
    differences: tuple[Difference, ...]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of its rows; the mean of classes last if there are several."""
        return tuple(dict.fromkeys(d.class_name for d in self.conditions[0].distributions))

    def condition(self, label: str) -> ConditionSummary:
        """Return a condition by its label."""
        return next(c for c in self.conditions if c.label == label)

    def differences_of(self, metric: str, class_name: str = "") -> tuple[Difference, ...]:
        """Return the differences of a metric, by default of the mean of classes (or the only class)."""
        wanted = class_name or self.class_names[-1]
        return tuple(d for d in self.differences if d.metric == metric and d.class_name == wanted)

    def gradient_ratio(self, label: str) -> float:
        """Return a condition's median gradient norm over the reference's; NaN where there is none."""
        own, base = (self.condition(name).gradient_norm for name in (label, self.reference))
        return own / base if base else math.nan

    def best_means(self, class_name: str = "") -> dict[str, tuple[str, ...]]:
        """Return metric -> labels of the conditions with the best mean; nothing is said of significance."""
        found = {}
        for metric in self.metrics:
            means = {c.label: c.distribution(metric, class_name).mean for c in self.conditions}
            finite = [m for m in means.values() if math.isfinite(m)]
            if finite:
                best = ALL_METRICS[metric].best_of(finite)
                found[metric] = tuple(label for label, m in means.items() if m == best)
        return found

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "checkpoint_meaning": checkpoint_description(self.checkpoint, self.split)}

    def frame(self) -> pd.DataFrame:
        """Return one row per condition, class and metric."""
        import pandas as pd

        return pd.DataFrame(
            [{"condition": c.label, **asdict(d)} for c in self.conditions for d in c.distributions]
        )

    def difference_frame(self) -> pd.DataFrame:
        """Return one row per comparison, class and metric."""
        import pandas as pd

        return pd.DataFrame([asdict(d) for d in self.differences])
