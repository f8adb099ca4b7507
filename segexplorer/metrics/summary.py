"""Scores of many cases summarised: means, their confidence intervals, and how a metric is spread over the cases.

Every mean comes with its counts: cases in it, cases without the class, cases where the class was missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore
from segexplorer.metrics.base import registry
from segexplorer.metrics.overlap import METRICS

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
    Intervals of few cases are too narrow. Coverage at 95 % (`scripts/measure_rates.py`): with 8 cases 86 % of
    normal scores, 84 % with a tail of hard cases, 79 % where a tenth fails; with 16 92, 91 and 88 %; with 30 94 %.

    Raises
    ------
    DataError
        When no finite value is left, or the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise DataError(f"A confidence level is between 0 and 1, not {level}.")
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
    from scipy.stats import bootstrap  # takes a second to import, and few cases have no interval

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


ALL_CLASSES = "mean of classes"
"""Name of the row whose values are each case's mean over its classes."""


@dataclass(frozen=True)
class Distribution:
    """One metric of one class over the cases where it has a value.

    Attributes
    ----------
    class_name
        A class, or `ALL_CLASSES`.
    n, n_absent, n_missed, n_spurious
        Cases in the mean; cases where the class is in neither truth nor prediction, only in the truth, only in
        the prediction. For `ALL_CLASSES` the last three count (case, class) pairs.
    low, high
        95 % bootstrap interval of the mean over cases; NaN with fewer than six.
    sd, cv
        Sample standard deviation, and it over the mean (coefficient of variation); NaN with fewer than two.
    minimum, lower_quartile, median, upper_quartile, maximum
        Of the cases.
    best, worst
        The best and the worst value of a case. A case that missed a structure, or invented one, is never the best
        by the distances of its other structures, as long as there is a case that found all.
    best_case, worst_case
        Their names.
    """

    class_name: str
    metric: str
    n: int
    n_absent: int
    n_missed: int
    n_spurious: int
    mean: float
    low: float
    high: float
    sd: float
    cv: float
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float
    best: float
    worst: float
    best_case: str
    worst_case: str


def distributions(scores: Iterable[CaseScore], metrics: Sequence[str] | None = None) -> list[Distribution]:
    """Return one row per class and metric, the classes in order, the mean of classes last if there are several.

    Parameters
    ----------
    scores
        One per case and class.
    metrics
        Names; by default every one that the scores have.

    Raises
    ------
    UnknownKindError
        When a metric does not exist.
    """
    pairs = list(scores)
    there = {name for score in pairs for name in score.metrics}
    chosen = (
        [registry.spec(m).name for m in metrics]
        if metrics is not None
        else [m for m in registry if m in there]
    )
    by_class: dict[str, list[CaseScore]] = {}
    for score in pairs:
        by_class.setdefault(score.class_name, []).append(score)
    rows = [
        _distribution(name, metric, members, values_by_case(members, metric))
        for name, members in by_class.items()
        for metric in chosen
    ]
    if len(by_class) > 1:
        rows += [_distribution(ALL_CLASSES, m, pairs, values_by_case(pairs, m)) for m in chosen]
    return rows


def values_by_case(scores: Iterable[CaseScore], metric: str) -> dict[str, float]:
    """Return case -> the metric's mean over those of its scores where it has a value; other cases are left out."""
    found: dict[str, list[float]] = {}
    for score in scores:
        value = score.metrics.get(metric, math.nan)
        if _counts(score, metric) and math.isfinite(value):
            found.setdefault(score.case, []).append(value)
    return {case: math.fsum(values) / len(values) for case, values in found.items()}


def _counts(score: CaseScore, metric: str) -> bool:
    """Whether a score enters means of a metric: of an absent class only where the metric says so."""
    return score.state != "absent" or (
        (declared := registry.get(metric)) is not None and declared.over_absent
    )


def _distribution(
    class_name: str, metric: str, members: Sequence[CaseScore], by_case: dict[str, float]
) -> Distribution:
    states = [score.state for score in members]
    counts = (len(by_case), states.count("absent"), states.count("missed"), states.count("spurious"))
    values = np.array(list(by_case.values()) or [math.nan])
    few = Interval(math.nan, math.nan, math.nan, 0, 0.95, "none")
    interval = bootstrap_interval(list(values)) if by_case else few
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    ranked = sorted(by_case, key=lambda case: registry[metric].merit(by_case[case]), reverse=True)
    partly = {
        s.case
        for s in members
        if s.state in ("missed", "spurious") and not math.isfinite(s.metrics.get(metric, math.nan))
    }
    best_case = next((case for case in ranked if case not in partly), ranked[0] if ranked else "")
    worst_case = ranked[-1] if ranked else ""
    return Distribution(
        class_name,
        metric,
        *counts,
        mean=interval.mean,
        low=interval.low,
        high=interval.high,
        sd=sd,
        cv=sd / interval.mean if interval.mean else math.nan,
        minimum=float(values.min()),
        lower_quartile=float(np.percentile(values, 25)),
        median=float(np.median(values)),
        upper_quartile=float(np.percentile(values, 75)),
        maximum=float(values.max()),
        best=by_case.get(best_case, math.nan),
        worst=by_case.get(worst_case, math.nan),
        best_case=best_case,
        worst_case=worst_case,
    )


@dataclass(frozen=True)
class ClassSummary:
    """Means over the cases of one class, or over all (case, class) pairs.

    Attributes
    ----------
    mean
        Metric name -> mean over the pairs where it has a meaning; NaN where there is none.
    n_used
        Pairs whose class is in truth or prediction. Every Dice mean is over exactly these.
    n_absent
        Pairs whose class is in neither; they enter no mean.
    n_missed, n_spurious
        Used pairs whose class is only in the truth, or only in the prediction; their Dice is 0.
    n_metric
        Metric name -> how many pairs its own mean is over; fewer than `n_used` where the metric has no
        meaning, e.g. sensitivity of a spurious class. Absent classes stay out of every mean.
    """

    mean: Mapping[str, float]
    n_used: int
    n_absent: int
    n_missed: int
    n_spurious: int
    n_metric: Mapping[str, int]
    false_positive_ml: float
    false_negative_ml: float


@dataclass(frozen=True)
class Summary:
    """Scores of many cases, overall and per class.

    `mean` and the counts are over all (case, class) pairs: the same as `overall`'s.
    """

    overall: ClassSummary
    per_class: Mapping[str, ClassSummary]
    n_cases: int

    @property
    def mean(self) -> Mapping[str, float]:
        """Metric name -> mean over (case, class) pairs."""
        return self.overall.mean

    @property
    def class_dice(self) -> dict[str, float]:
        """Class name -> mean Dice over the cases that have it; NaN where none has."""
        return {name: summary.mean["dice"] for name, summary in self.per_class.items()}

    @property
    def n_used(self) -> int:
        """Pairs in the mean."""
        return self.overall.n_used

    @property
    def n_absent(self) -> int:
        """Pairs whose class is in neither truth nor prediction."""
        return self.overall.n_absent

    @property
    def n_missed(self) -> int:
        """Used pairs that were missed entirely."""
        return self.overall.n_missed


def summarise(scores: Iterable[CaseScore]) -> Summary:
    """Summarise scores over all pairs and per class, classes in order of first appearance."""
    pairs = list(scores)
    by_class: dict[str, list[CaseScore]] = {}
    for score in pairs:
        by_class.setdefault(score.class_name, []).append(score)
    return Summary(
        overall=_summary(pairs),
        per_class={name: _summary(members) for name, members in by_class.items()},
        n_cases=len({score.case for score in pairs}),
    )


def _summary(scores: list[CaseScore]) -> ClassSummary:
    used = [score for score in scores if score.state != "absent"]
    finite: dict[str, list[float]] = {name: [] for name in METRICS}
    for score in scores:
        for name, value in score.metrics.items():
            if _counts(score, name):
                values = finite.setdefault(name, [])
                if math.isfinite(value):
                    values.append(value)
    return ClassSummary(
        mean={name: math.fsum(v) / len(v) if v else math.nan for name, v in finite.items()},
        n_used=len(used),
        n_absent=len(scores) - len(used),
        n_missed=sum(s.state == "missed" for s in used),
        n_spurious=sum(s.state == "spurious" for s in used),
        n_metric={name: len(v) for name, v in finite.items()},
        false_positive_ml=math.fsum(s.false_positive_ml for s in scores),
        false_negative_ml=math.fsum(s.false_negative_ml for s in scores),
    )


def case_means(scores: Iterable[CaseScore], metric: str = "dice") -> dict[str, float]:
    """Return case -> mean of a metric over its classes that are in truth or prediction; for intervals."""
    by_case: dict[str, list[CaseScore]] = {}
    for score in scores:
        by_case.setdefault(score.case, []).append(score)
    means = {case: _summary(members).mean[metric] for case, members in by_case.items()}
    return {case: value for case, value in means.items() if math.isfinite(value)}
