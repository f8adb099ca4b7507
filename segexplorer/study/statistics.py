"""Statistics of paired cases: pairing, the table of seeds and cases of either side, Wilcoxon's test, Holm.

A pair is the same case, class and seed under two conditions. Classes are averaged before anything is tested. Cases
and seeds are both samples: `study/inference.py` tests a difference against the spread of both. Wilcoxon's test and
the interval over cases here know cases alone: they speak of the trained networks at hand, not of another training.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import CaseScore
from segexplorer.metrics import ALL_METRICS, Interval, bootstrap_interval
from segexplorer.study.inference import CrossedEstimate, Table, crossed_estimate

FEWEST_PAIRS = 5
"""With fewer cases a difference has neither interval nor p: no coverage and no A/A rate was measured for them."""

INTERVAL = "95 % bootstrap interval over cases"
"""How the interval of a condition's mean is made, in words."""

CROSSED_INTERVAL = "95 % interval over cases and trainings"
"""How the interval of a difference is made, in words."""


# ---- tests and intervals


def paired_interval(differences: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean paired difference and its 95 % bootstrap interval over cases alone, from six cases on."""
    if not differences:
        return Interval(math.nan, math.nan, math.nan, 0, 0.95, "none")
    # differences that are equal but for rounding are equal, or BCa divides by what is left of their spread
    return bootstrap_interval([round(value, 12) for value in differences], seed)


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
    n_dropped
        Those, and the triples that have a value on neither side because both missed the structure.
    ours, theirs
        Seeds x cases of `by_case`: the score of each side that its differences are of; NaN where there is none.
    """

    by_case: dict[str, float]
    by_seed: dict[int, float]
    n_unpaired: int
    n_dropped: int
    ours: Table
    theirs: Table

    @property
    def crossed(self) -> bool:
        """Whether every seed has a score of every case, on either side."""
        return bool(np.isfinite(self.ours).all() and np.isfinite(self.theirs).all())

    def estimate(self) -> CrossedEstimate | None:
        """Return the difference with its standard error; None with one seed on a side, or too few cases."""
        seeds = min(len(self.ours), len(self.theirs))
        if seeds < 2 or len(self.by_case) < FEWEST_PAIRS:
            return None
        return crossed_estimate(self.ours, self.theirs)


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
    for block in blocks:
        for key, value in block.differences.items():
            over_seeds.setdefault(key, []).append(value)
    by_case = _by_case({key: _mean(values) for key, values in over_seeds.items()})
    tables = (
        score_table({s: side[s] for s in seeds or side}, metric, known, over_seeds, list(by_case))
        for side in (scores, reference)
    )
    return Pairs(
        by_case,
        {
            seed: _mean(list(_by_case(block.differences).values()))
            for seed, block in zip(seeds, blocks, strict=False)
            if block.differences
        },
        sum(block.n_unpaired for block in blocks),
        sum(block.n_dropped for block in blocks),
        *tables,
    )


def score_table(
    side: Seeded, metric: str, spurious: SpuriousClasses, keys: Collection[Key], cases: Sequence[str]
) -> Table:
    """Return the scores (seeds, cases) of the cases and classes with a difference; a seed of none has no row."""
    rows = []
    for scores in side.values():
        by_pair = _by_pair(scores)
        found: dict[str, list[float]] = {}
        for key in keys:
            value = _value(fill_absent_with_best(by_pair.get(key, ()), spurious), metric)
            if math.isfinite(value):
                found.setdefault(key[0], []).append(value)
        if found:
            rows.append([_mean(found[case]) if case in found else math.nan for case in cases])
    return np.array(rows, float).reshape(len(rows), len(cases))


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


@dataclass(frozen=True)
class _Block:
    """The pairs of one seed, or of all seeds of two sides that share none; counts as of `Pairs`."""

    differences: dict[Key, float]
    n_unpaired: int
    n_dropped: int


def _block(
    ours: Iterable[CaseScore], theirs: Iterable[CaseScore], metric: str, spurious: SpuriousClasses
) -> _Block:
    one_side, other_side = _by_pair(ours), _by_pair(theirs)
    differences: dict[Key, float] = {}
    unpaired = both_missed = 0
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
            states = {s.state for side in (one_side, other_side) for s in side[key]}
            both_missed += math.isnan(one) and math.isnan(other) and "missed" in states
            continue
        differences[key] = one - other
    return _Block(differences, unpaired, unpaired + both_missed)


def valued_keys(side: Seeded, metric: str, spurious: SpuriousClasses) -> set[Key]:
    """Return the cases and classes that any seed has a value of."""
    return {
        (score.case, score.class_name)
        for scores in side.values()
        for score in fill_absent_with_best(scores, spurious)
        if math.isfinite(score.metrics.get(metric, math.nan))
    }


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
