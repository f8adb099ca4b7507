"""How a metric is spread over cases: mean with its interval, variation, quartiles, best and worst case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from segexplorer.core.events import CaseScore
from segexplorer.metrics.intervals import Interval, bootstrap_interval
from segexplorer.metrics.scoring import ALL_METRICS, spec

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
        [spec(m).name for m in metrics] if metrics is not None else [m for m in ALL_METRICS if m in there]
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
        if score.state != "absent" and math.isfinite(value):
            found.setdefault(score.case, []).append(value)
    return {case: math.fsum(values) / len(values) for case, values in found.items()}


def _distribution(
    class_name: str, metric: str, members: Sequence[CaseScore], by_case: dict[str, float]
) -> Distribution:
    states = [score.state for score in members]
    counts = (len(by_case), states.count("absent"), states.count("missed"), states.count("spurious"))
    values = np.array(list(by_case.values()) or [math.nan])
    few = Interval(math.nan, math.nan, math.nan, 0, 0.95, "none")
    interval = bootstrap_interval(list(values)) if by_case else few
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    ranked = sorted(by_case, key=lambda case: by_case[case], reverse=ALL_METRICS[metric].better == "higher")
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
