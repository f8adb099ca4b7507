"""Means with their counts, and bootstrap intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer import metrics
from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore


def case(name: str, found: list[int], truth: list[int]) -> tuple[CaseScore, ...]:
    return metrics.score_case(np.array(found), np.array(truth), ("liver", "spleen"), (10, 10), case=name)


def four_cases() -> list[CaseScore]:
    return [
        *case("perfect liver", [1, 1, 0, 0], [1, 1, 0, 0]),
        *case("half liver, spleen missed", [1, 0, 0, 0], [1, 1, 2, 0]),
        *case("spleen only predicted", [0, 0, 0, 2], [0, 0, 0, 0]),
        *case("spleen perfect", [2, 0, 0, 0], [2, 0, 0, 0]),
    ]


def test_a_summary_counts_what_its_means_are_of() -> None:
    summary = metrics.summarise(four_cases())
    liver, spleen = summary.per_class["liver"], summary.per_class["spleen"]
    assert (liver.n_used, liver.n_absent, liver.n_missed, liver.n_spurious) == (2, 2, 0, 0)
    assert (spleen.n_used, spleen.n_absent, spleen.n_missed, spleen.n_spurious) == (3, 1, 1, 1)
    assert liver.mean["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert spleen.mean["dice"] == pytest.approx((0 + 0 + 1) / 3)
    assert summary.mean["dice"] == pytest.approx((1 + 2 / 3 + 0 + 0 + 1) / 5)
    assert (summary.n_used, summary.n_absent, summary.n_missed, summary.n_cases) == (5, 3, 1, 4)
    assert summary.class_dice == pytest.approx({"liver": 5 / 6, "spleen": 1 / 3})


def test_a_metric_without_meaning_enters_no_mean_and_is_not_counted() -> None:
    spleen = metrics.summarise(four_cases()).per_class["spleen"]
    assert spleen.n_metric["sensitivity"] == 2  # the spurious one has none
    assert spleen.mean["sensitivity"] == pytest.approx(0.5)
    assert spleen.n_metric["precision"] == 2  # the missed one has none


def test_error_volumes_add_up() -> None:
    spleen = metrics.summarise(four_cases()).per_class["spleen"]
    assert (spleen.false_positive_ml, spleen.false_negative_ml) == pytest.approx((0.1, 0.1))


def test_nothing_to_summarise_is_nan_not_zero() -> None:
    summary = metrics.summarise([])
    assert math.isnan(summary.mean["dice"])
    assert summary.n_used == summary.n_cases == 0
    absent = metrics.summarise(case("empty", [0, 0], [0, 0]))
    assert math.isnan(absent.mean["dice"])
    assert absent.n_absent == 2


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=8, max_size=8), min_size=1, max_size=5))
def test_every_pair_is_counted_once(volumes: list[list[int]]) -> None:
    scores = [s for i, v in enumerate(volumes) for s in case(str(i), v[:4], v[4:])]
    summary = metrics.summarise(scores)
    assert summary.n_used + summary.n_absent == len(scores)
    assert sum(c.n_used for c in summary.per_class.values()) == summary.n_used
    assert summary.overall.n_metric["dice"] == summary.n_used


def test_an_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(60):
        interval = metrics.bootstrap_interval(rng.beta(8, 2, 20), seed, level=0.9, resamples=500)
        hits += interval.low <= 0.8 <= interval.high
    assert 0.75 <= hits / 60 <= 1


def test_an_interval_is_seeded_and_ignores_nan() -> None:
    values = [0.8, 0.7, math.nan, 0.9, 0.85, 0.6, 0.75, 0.8, 0.82]
    first, second = (metrics.bootstrap_interval(values, 5) for _ in range(2))
    assert first == second
    assert (first.n, first.method) == (8, "BCa")
    assert first.mean == pytest.approx(np.nanmean(values))
    assert 0.6 < first.low < first.mean < first.high < 0.9


def test_few_cases_give_an_honest_interval() -> None:
    values = [0.5, 0.7, 0.9, 0.6, 0.8, 0.65]
    for n in (1, 2, 5):
        few = metrics.bootstrap_interval(values[:n])
        assert (few.method, few.n) == ("none", n) and few.mean == pytest.approx(np.mean(values[:n]))
        assert math.isnan(few.low) and math.isnan(few.high)
    assert math.isnan(metrics.bootstrap_interval([0.5] * 5).low)
    six = metrics.bootstrap_interval(values)
    assert (six.method, six.n) == ("percentile", 6) and 0.5 < six.low < six.mean < six.high < 0.9
    same = metrics.bootstrap_interval([0.5] * 10)
    assert (same.low, same.high) == (0.5, 0.5)


def test_impossible_intervals_are_refused() -> None:
    with pytest.raises(DataError, match="no value"):
        metrics.bootstrap_interval([math.nan])
    with pytest.raises(DataError, match="level"):
        metrics.bootstrap_interval([0.1, 0.2], level=95)


def test_case_means_average_classes_within_a_case_and_leave_absent_ones_out() -> None:
    from segexplorer.core.events import CaseScore
    from segexplorer.metrics import case_means

    def score(case: str, name: str, state: str, dice: float) -> CaseScore:
        return CaseScore(
            case=case,
            class_name=name,
            role="validation",
            state=state,  # type: ignore[arg-type]
            metrics={"dice": dice},
            false_positive_ml=0,
            false_negative_ml=0,
            truth_ml=1,
        )

    scores = [
        score("a", "x", "scored", 0.5),
        score("a", "y", "missed", 0.0),
        score("b", "x", "scored", 0.8),
        score("b", "y", "absent", math.nan),
    ]
    assert case_means(scores) == {"a": 0.25, "b": 0.8}
