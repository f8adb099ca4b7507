"""Means that say what they are means of: cases used, cases without the class, cases that missed it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from segexplorer.core.events import CaseScore
from segexplorer.metrics.overlap import METRICS


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
    metrics = list(METRICS)
    metrics += [name for score in used for name in score.metrics if name not in metrics]
    finite = {
        name: [v for v in (s.metrics.get(name, math.nan) for s in used) if math.isfinite(v)]
        for name in dict.fromkeys(metrics)
    }
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
