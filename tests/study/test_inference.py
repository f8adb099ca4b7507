"""The crossed estimate against an analysis of variance by hand, and against t tests where it must equal them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from segexplorer.study.inference import crossed_estimate


def by_hand(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Variance and degrees of freedom of the difference, sum by sum."""
    n = ours.shape[1]
    differences = [ours[:, c].mean() - theirs[:, c].mean() for c in range(n)]
    of_cases = sum((d - np.mean(differences)) ** 2 for d in differences) / (n - 1) / n
    of_seeds, residual, denominator = 0.0, 0.0, of_cases**2 / (n - 1)
    for table in (ours, theirs):
        s = len(table)
        means = [row.mean() for row in table]
        own = sum((m - np.mean(means)) ** 2 for m in means) / (s - 1) / s
        of_seeds += own
        denominator += own**2 / (s - 1)
        square = sum(
            (table[i, c] - table[i].mean() - table[:, c].mean() + table.mean()) ** 2
            for i in range(s)
            for c in range(n)
        )
        residual += square / ((s - 1) * (n - 1)) / (s * n)
    variance = max(of_cases + of_seeds - residual, of_cases, of_seeds)
    return variance, variance**2 / denominator


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(2, 5), st.integers(2, 9), st.floats(0, 3), st.integers(0, 10**6))
def test_variance_and_degrees_of_freedom_by_hand(s: int, t: int, n: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = rng.normal(size=n)
    ours, theirs = (case + spread * rng.normal(size=(k, 1)) + rng.normal(size=(k, n)) for k in (s, t))
    estimate = crossed_estimate(ours, theirs)
    variance, df = by_hand(ours, theirs)
    assert float(estimate.mean) == pytest.approx(ours.mean() - theirs.mean(), abs=1e-12)
    assert float(estimate.standard_error) == pytest.approx(math.sqrt(variance))
    assert float(estimate.df) == pytest.approx(df)
    expected = stats.t.interval(0.95, df, float(estimate.mean), math.sqrt(variance))
    half = float(estimate.half_width())
    assert (float(estimate.mean) - half, float(estimate.mean) + half) == pytest.approx(expected)
    assert float(estimate.p) == pytest.approx(
        2 * stats.t.sf(abs(ours.mean() - theirs.mean()) / math.sqrt(variance), df)
    )


def test_it_is_welch_s_test_of_seed_means_where_only_seeds_vary() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.normal(size=(k, 1)) + np.zeros(6) for k in (3, 5))
    expected = stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False)
    assert float(crossed_estimate(ours, theirs).p) == pytest.approx(expected.pvalue)


def test_it_is_the_paired_t_test_of_cases_where_seeds_agree() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = (np.tile(rng.normal(size=8), (3, 1)) for _ in range(2))
    assert float(crossed_estimate(ours, theirs).p) == pytest.approx(
        stats.ttest_rel(ours[0], theirs[0]).pvalue
    )


def test_studies_are_estimated_together_as_one_by_one() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(4, 3, 6)), rng.normal(size=(4, 5, 6))
    together = crossed_estimate(ours, theirs)
    for i in range(4):
        alone = crossed_estimate(ours[i], theirs[i])
        assert float(together.p[i]) == pytest.approx(float(alone.p))
        assert together.half_width()[i] == pytest.approx(float(alone.half_width()))


def test_differences_without_spread_have_an_interval_without_width() -> None:
    case = np.linspace(0.5, 0.9, 7)
    table = np.tile(case, (3, 1))
    same, higher = crossed_estimate(table, table), crossed_estimate(table + 0.1, table)
    assert (float(same.p), float(same.half_width())) == (1.0, 0.0)
    assert (float(higher.p), float(higher.half_width())) == (0.0, 0.0)


def test_a_missing_score_moves_the_estimate_little_and_too_few_seeds_are_refused() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(size=(4, 20)), rng.normal(size=(4, 20))
    whole = crossed_estimate(ours, theirs)
    ours[1, 3] = math.nan
    part = crossed_estimate(ours, theirs)
    assert float(part.standard_error) == pytest.approx(float(whole.standard_error), rel=0.1)
    for shapes in (((1, 5), (3, 5)), ((3, 5), (3, 6)), ((3, 1), (3, 1))):
        with pytest.raises(ValueError, match="no crossed estimate"):
            crossed_estimate(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.9])
def test_equivalence_is_two_one_sided_tests(mean: float) -> None:
    rng = np.random.default_rng(4)
    ours, theirs = mean + 0.3 * rng.normal(size=(4, 12)), 0.3 * rng.normal(size=(4, 12))
    estimate = crossed_estimate(ours, theirs)
    d, se, df = (float(v) for v in (estimate.mean, estimate.standard_error, estimate.df))
    one_sided = max(stats.t.sf((d + 0.8) / se, df), stats.t.cdf((d - 0.8) / se, df))
    assert float(estimate.p_outside(0.8)) == pytest.approx(one_sided)
    half = float(estimate.half_width(0.9))  # the 90 % interval inside the margin says the same
    assert (float(estimate.p_outside(0.8)) < 0.05) == (abs(d) + half < 0.8)
