"""How firmly conditions are ranked: over resampled cases and seeds, and by all pairs of conditions.

A rank of a mean is a number without an error bar. Here cases, and the seeds of each condition, are drawn again with
replacement, as another study would have drawn them, and the share of draws in which a condition takes each rank is
counted (Wiesenfarth et al. 2021 do so over cases). Mean ranks over cases, Friedman's test and groups
of conditions that are not distinguished make the critical-difference diagram of Demšar (2006). Its groups are made
by the crossed test of all pairs, not by Nemenyi's critical difference: that knows cases alone, and depends on which
other conditions take part (Benavoli et al. 2016, who advise tests of pairs).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics import ALL_METRICS
from segexplorer.study.inference import Table

RESAMPLES = 4000
T = TypeVar("T")


@dataclass(frozen=True)
class Ranking:
    """The ranks of conditions by one metric, over the mean of classes.

    Attributes
    ----------
    conditions
        Labels, best mean rank first; every other sequence is in this order.
    mean_ranks
        Mean over cases of the rank of each condition's mean over seeds; 1 is best, ties share theirs.
    friedman_p
        That all conditions have the same ranks, over cases alone; NaN with fewer than three conditions or without a
        difference.
    shares
        Condition x rank: share of resamples in which it takes this rank; each row adds up to 1.
    n_cases
        Cases on which every condition has a value.
    groups
        Maximal sets of conditions of which no two are distinguished by a star, neighbours in rank, as indices.
    """

    metric: str
    conditions: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    friedman_p: float
    shares: tuple[tuple[float, ...], ...]
    n_cases: int
    groups: tuple[tuple[int, ...], ...]


def rank_conditions(
    metric: str,
    tables: Mapping[str, Table],
    distinguished: Sequence[frozenset[str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Rank conditions by tables of scores.

    Parameters
    ----------
    tables
        Label -> scores (seeds, cases) of the same cases in the same order; NaN where a score is missing, and at
        least one of every case.
    distinguished
        Pairs of labels between which there is a star.
    """
    labels = list(tables)
    merit = ALL_METRICS[metric].merit
    filled = [-merit(_filled(tables[label])) for label in labels]
    by_case = np.stack([table.mean(axis=0) for table in filled])
    mean_ranks = _ranks(by_case).mean(axis=1)
    order = sorted(range(len(labels)), key=lambda i: (mean_ranks[i], labels[i]))
    shares = _rank_shares(filled, resamples, np.random.default_rng(seed))
    names = tuple(labels[i] for i in order)
    return Ranking(
        metric=metric,
        conditions=names,
        mean_ranks=tuple(float(mean_ranks[i]) for i in order),
        friedman_p=friedman_p(by_case),
        shares=tuple(tuple(float(v) for v in shares[i]) for i in order),
        n_cases=by_case.shape[1],
        groups=_groups(names, distinguished),
    )


def friedman_p(by_case: NDArray[np.float64]) -> float:
    """Return Friedman's p over cases for scores (conditions, cases); NaN where there is no test."""
    from scipy.stats import friedmanchisquare

    if len(by_case) < 3 or by_case.shape[1] < 2 or bool((by_case == by_case[0]).all()):
        return math.nan
    return float(friedmanchisquare(*by_case).pvalue)


def _filled(table: Table) -> Table:
    """Return a table with the mean of the other seeds where a score is missing."""
    filled: Table = np.where(np.isnan(table), np.nanmean(table, axis=0), table)
    return filled


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks along the first axis, 1 for the smallest; ties share the mean of theirs."""
    from scipy.stats import rankdata

    # what differs by rounding is a tie
    ranks: NDArray[np.float64] = rankdata(np.round(values, 12), axis=0)
    return ranks


def _rank_shares(tables: Sequence[Table], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (conditions, ranks): how often each takes each rank; tied conditions share those that they occupy."""
    n = tables[0].shape[1]
    of_cases = rng.multinomial(n, np.full(n, 1 / n), resamples) / n
    means = np.stack(
        [
            np.einsum(
                "bs,sn,bn->b",
                rng.multinomial(len(table), np.full(len(table), 1 / len(table)), resamples) / len(table),
                table,
                of_cases,
            )
            for table in tables
        ]
    )
    rounded = np.round(means, 12)
    better = (rounded[:, None] > rounded[None]).sum(axis=1)
    tied = (rounded[:, None] == rounded[None]).sum(axis=1)
    count = len(tables)
    places = np.arange(count)[:, None]
    shares = np.zeros((count, count))
    for i in range(count):
        held = (places >= better[i]) & (places < better[i] + tied[i])
        shares[i] = (held / tied[i]).mean(axis=1)
    return shares


def _groups(labels: Sequence[str], distinguished: Sequence[frozenset[str]]) -> tuple[tuple[int, ...], ...]:
    """Return the longest runs of neighbours in rank of which no two are distinguished, none within another."""
    apart = set(distinguished)
    runs: list[tuple[int, ...]] = []
    for first in range(len(labels)):
        last = first
        while last + 1 < len(labels) and all(
            frozenset((labels[i], labels[last + 1])) not in apart for i in range(first, last + 1)
        ):
            last += 1
        if last > first and not any(run[-1] >= last for run in runs):
            runs.append(tuple(range(first, last + 1)))
    return tuple(runs)


def pairs_of(conditions: Sequence[T]) -> list[tuple[T, T]]:
    """Return all pairs, each once."""
    return list(itertools.combinations(conditions, 2))
