"""Ranks by hand, their stability against sampling by loops, and the groups of a critical-difference diagram."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from segexplorer.study.ranking import friedman_p, rank_conditions


def tables(
    *means: float, cases: int = 10, seeds: int = 3, noise: float = 0.02, seed: int = 0
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    case = rng.normal(size=cases) * 0.05
    return {
        f"c{i}": mean + case + noise * rng.normal(size=(seeds, 1)) + noise * rng.normal(size=(seeds, cases))
        for i, mean in enumerate(means)
    }


def test_mean_ranks_and_friedman_agree_with_scipy() -> None:
    given = tables(0.7, 0.72, 0.71)
    ranking = rank_conditions("dice", given, [])
    by_case = np.stack([table.mean(axis=0) for table in given.values()])
    expected = stats.rankdata(-by_case, axis=0).mean(axis=1)
    assert dict(zip(ranking.conditions, ranking.mean_ranks, strict=True)) == pytest.approx(
        {f"c{i}": rank for i, rank in enumerate(expected)}
    )
    assert list(ranking.mean_ranks) == sorted(ranking.mean_ranks) and ranking.n_cases == 10
    assert ranking.friedman_p == pytest.approx(stats.friedmanchisquare(*by_case).pvalue)
    assert math.isnan(friedman_p(by_case[:2])) and math.isnan(friedman_p(np.ones((3, 4))))


def test_the_lower_distance_is_the_better_one() -> None:
    given = tables(30.0, 10.0, 20.0)
    assert rank_conditions("hd95", given, []).conditions == ("c1", "c2", "c0")
    assert rank_conditions("dice", given, []).conditions == ("c0", "c2", "c1")


def test_shares_agree_with_resampling_one_by_one() -> None:
    given = tables(0.70, 0.71, 0.72, seeds=2)
    ranking = rank_conditions("dice", given, [], resamples=20_000)
    rng = np.random.default_rng(5)
    counts = np.zeros((3, 3))
    for _ in range(3000):
        cases = rng.integers(0, 10, 10)
        means = [table[rng.integers(0, 2, 2)][:, cases].mean() for table in given.values()]
        for place, index in enumerate(np.argsort(means)[::-1]):
            counts[index, place] += 1
    order = [int(label[1]) for label in ranking.conditions]
    assert np.array(ranking.shares) == pytest.approx(counts[order] / 3000, abs=0.04)
    assert np.sum(ranking.shares, axis=1) == pytest.approx(1) and np.sum(
        ranking.shares, axis=0
    ) == pytest.approx(1)


def test_equal_conditions_share_their_ranks() -> None:
    table = tables(0.7, seeds=1)["c0"]
    ranking = rank_conditions("dice", {"a": table, "b": table, "c": table - 0.5}, [])
    assert ranking.shares == ((0.5, 0.5, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0))
    assert ranking.mean_ranks == (1.5, 1.5, 3.0)


def test_a_missing_score_is_that_of_the_other_seeds() -> None:
    given = tables(0.7, 0.8)
    given["c0"][1, 4] = math.nan
    whole = {**given, "c0": given["c0"].copy()}
    whole["c0"][1, 4] = np.nanmean(given["c0"][:, 4])
    assert rank_conditions("dice", given, []) == rank_conditions("dice", whole, [])


@pytest.mark.parametrize(
    ("apart", "groups"),
    [
        ([], ((0, 1, 2, 3),)),
        ([("c0", "c3")], ((0, 1, 2), (1, 2, 3))),
        ([("c0", "c1"), ("c0", "c2"), ("c0", "c3")], ((1, 2, 3),)),
        ([("c0", "c1"), ("c1", "c2"), ("c2", "c3"), ("c0", "c2"), ("c1", "c3"), ("c0", "c3")], ()),
    ],
)
def test_groups_are_runs_of_neighbours_that_are_not_distinguished(
    apart: list[tuple[str, str]], groups: tuple[tuple[int, ...], ...]
) -> None:
    given = tables(0.9, 0.8, 0.7, 0.6, noise=0.001)
    assert rank_conditions("dice", given, [frozenset(pair) for pair in apart]).groups == groups
