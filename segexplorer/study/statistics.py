"""Statistics of paired cases: pairing, the mean difference with its bootstrap interval, Wilcoxon's test, Holm.

The case is the unit of every statistic. Its runs with several seeds are no further patients, and neither are
its classes: both are averaged before anything is tested. A pair is the same case, class and seed under two
conditions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS, Interval, bootstrap_interval

FEWEST_PAIRS = 6
"""With fewer pairs the two-sided exact test cannot reach p < 0.05, whatever the data: 2 / 2**5 = 0.0625. Nor is a
condition called better."""

INTERVAL = "95 % bootstrap interval over cases"
"""How every interval of a comparison is made, in words."""


# ---- tests and intervals


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


# ---- pairs

Key = tuple[str, str]
"""Case and class."""
Seeded = Mapping[int, Sequence[CaseScore]]
"""Seed -> scores of its runs."""
SpuriousClasses = Mapping[Key, frozenset[str]]
"""Case and class, where some run found a class that the truth lacks -> the metrics that this has a value in."""


@dataclass(frozen=True)
class Pairs:
    """Paired differences of one metric.

    Attributes
    ----------
    by_case
        Case -> condition minus reference: paired within each seed, then averaged over seeds, then over classes.
    by_seed
        Seed -> mean over its cases of the same difference; empty where the sides share no seed.
    n_unpaired
        (case, class, seed) triples that one side has a value for and the other has not, e.g. HD95 of a missed
        structure.
    """

    by_case: dict[str, float]
    by_seed: dict[int, float]
    n_unpaired: int


def shared_seeds(scores: Seeded, reference: Seeded) -> tuple[int, ...]:
    """Return the seeds that both sides have."""
    return tuple(sorted(scores.keys() & reference.keys()))


def spurious_classes(scores: Iterable[CaseScore]) -> SpuriousClasses:
    """Return the classes that any run predicted in a case that lacks them, and the metrics that count it."""
    found: dict[Key, frozenset[str]] = {}
    for score in scores:
        if score.state == "spurious":
            key = (score.case, score.class_name)
            seen = {name for name, value in score.metrics.items() if math.isfinite(value)}
            found[key] = found.get(key, frozenset()) | seen
    return found


def fill_absent_with_best(scores: Iterable[CaseScore], spurious: SpuriousClasses) -> list[CaseScore]:
    """Return scores in which a run counts as perfect for rightly leaving out a class that another one predicted.

    By itself it has no value there ("absent"), so its case would be missing in its mean and not in the other's.
    """
    credit = []
    for score in scores:
        metrics = spurious.get((score.case, score.class_name), frozenset())
        if score.state == "absent" and metrics:
            best = {name: ALL_METRICS[name].best if name in metrics else math.nan for name in score.metrics}
            score = replace(score, state="scored", metrics=best)
        credit.append(score)
    return credit


def paired(scores: Seeded, reference: Seeded, metric: str, spurious: SpuriousClasses | None = None) -> Pairs:
    """Pair the scores of two conditions by case, class and seed.

    Only seeds that both sides have are used: the same seed means the same initial weights and patches. Where no
    seed is shared, each side's seeds are averaged first.

    A class that the truth does not have and a run rightly leaves out has no metric there; where any run made it up
    nevertheless, the right ones count as perfect in every seed, or the mistake would be dropped with the pair, or
    one seed's mistake would count as all seeds'. `spurious` are such classes, by default those of both sides.
    """
    seeds = shared_seeds(scores, reference)
    known = spurious_classes([*_flat(scores), *_flat(reference)]) if spurious is None else spurious
    blocks = [_block(scores[s], reference[s], metric, known) for s in seeds] or [
        _block(_flat(scores), _flat(reference), metric, known)
    ]
    over_seeds: dict[Key, list[float]] = {}
    for differences, _ in blocks:
        for key, value in differences.items():
            over_seeds.setdefault(key, []).append(value)
    return Pairs(
        by_case=_by_case({key: _mean(values) for key, values in over_seeds.items()}),
        by_seed={
            seed: _mean(list(_by_case(differences).values()))
            for seed, (differences, _) in zip(seeds, blocks, strict=False)
            if differences
        },
        n_unpaired=sum(unpaired for _, unpaired in blocks),
    )


def over_runs(scores: Iterable[CaseScore], spurious: SpuriousClasses | None = None) -> list[CaseScore]:
    """Return one score per case and class: metrics averaged over the runs that have a value.

    A class that is in neither truth nor prediction has no value; it is "absent" only if it is so in every run. Once
    a run makes it up, the others count as perfect; `spurious` are such classes, by default those of these runs.
    """
    these = list(scores)
    averaged = []
    for members in _by_pair(
        fill_absent_with_best(these, spurious_classes(these) if spurious is None else spurious)
    ).values():
        present = [s for s in members if s.state != "absent"]
        if len(members) == 1 or not present:
            averaged.append(members[0])
            continue
        names = dict.fromkeys(name for s in present for name in s.metrics)
        means = {name: _mean_of_finite([s.metrics.get(name, math.nan) for s in present]) for name in names}
        averaged.append(replace(present[0], metrics=means))
    return averaged


def _block(
    ours: Iterable[CaseScore], theirs: Iterable[CaseScore], metric: str, spurious: SpuriousClasses
) -> tuple[dict[Key, float], int]:
    """Return the differences of all pairs of one seed, and how many pairs have a value on one side alone."""
    one_side, other_side = _by_pair(ours), _by_pair(theirs)
    differences: dict[Key, float] = {}
    unpaired = 0
    for key in sorted(one_side.keys() & other_side.keys()):
        right = [all(s.state == "absent" for s in side[key]) for side in (one_side, other_side)]
        if any(right) and metric not in spurious.get(key, ()):
            unpaired += right[0] != right[1]
            continue
        one, other = (
            _value(fill_absent_with_best(side[key], spurious), metric) for side in (one_side, other_side)
        )
        if math.isnan(one) or math.isnan(other):
            unpaired += math.isnan(one) != math.isnan(other)
            continue
        differences[key] = one - other
    return differences, unpaired


def _by_case(differences: Mapping[Key, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for (case, _), value in sorted(differences.items()):
        found.setdefault(case, []).append(value)
    return {case: _mean(values) for case, values in found.items()}


def _flat(seeded: Seeded) -> list[CaseScore]:
    return [score for scores in seeded.values() for score in scores]


def _by_pair(scores: Iterable[CaseScore]) -> dict[Key, list[CaseScore]]:
    found: dict[Key, list[CaseScore]] = {}
    for score in scores:
        found.setdefault((score.case, score.class_name), []).append(score)
    return found


def _value(scores: Sequence[CaseScore], metric: str) -> float:
    return _mean_of_finite([score.metrics.get(metric, math.nan) for score in scores])


def _mean_of_finite(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return _mean(finite) if finite else math.nan


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
