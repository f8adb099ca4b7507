"""Paired statistics against tables, counting by hand, and what must hold."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.study.statistics import (
    holm,
    median_of_finite,
    n_nonzero,
    paired_interval,
    wilcoxon_signed_rank,
)


def signed_rank_by_counting(values: list[float]) -> float:
    """Two-sided exact p: the share of all sign patterns whose rank sum is as far from its mean."""
    ranks = np.argsort(np.argsort(np.abs(values))) + 1
    seen = ranks[np.array(values) > 0].sum()
    middle = ranks.sum() / 2
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=len(values))
    ]
    return float(np.mean([abs(s - middle) >= abs(seen - middle) for s in sums]))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=3, max_size=9, unique=True),
    st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_wilcoxon_agrees_with_counting_every_sign_pattern(sizes: list[int], signs: list[bool]) -> None:
    values = [size / 100 * (1 if sign else -1) for size, sign in zip(sizes, signs, strict=False)]
    assert wilcoxon_signed_rank(values) == pytest.approx(signed_rank_by_counting(values))


def test_wilcoxon_without_differences_or_pairs() -> None:
    assert wilcoxon_signed_rank([0.0, 0.0, 1e-17]) == 1.0
    assert math.isnan(wilcoxon_signed_rank([]))
    assert wilcoxon_signed_rank([0.0, 0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 2**5)
    assert 0 < wilcoxon_signed_rank([0.1, 0.1, 0.1, 0.2, 0.2, -0.1]) < 1  # ties


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    adjusted = holm([math.nan, 0.02, 0.04])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)
    assert [a for _, a in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)
    for p, a in zip(values, adjusted, strict=True):
        assert p <= a <= min(1.0, len(values) * p) + 1e-12


def test_an_interval_of_differences() -> None:
    interval = paired_interval([0.1, 0.2, 0.15, 0.12, 0.18, 0.11, 0.14, 0.2])
    assert interval.low > 0.1 and interval.high < 0.2 and interval.mean == pytest.approx(0.15)
    assert math.isnan(paired_interval([]).mean)
    few = paired_interval([0.1, 0.2, 0.15, 0.12, 0.18])
    assert few.mean == pytest.approx(0.15) and math.isnan(few.low)


def test_differences_that_are_zero_but_for_rounding_are_not_counted() -> None:
    assert n_nonzero([0.01, -0.02, 0.0, 1e-17]) == 2


def test_a_median_leaves_out_what_is_no_number() -> None:
    assert median_of_finite([4.0, math.nan, 1.0]) == 2.5
    assert math.isnan(median_of_finite([math.nan]))
