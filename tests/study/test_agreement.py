"""Two readers: kappa by its definition, its error by derivatives, its interval, and matching by voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.study.agreement import agreement, cohen_kappa, kappa_error, match, merged, overlap
from segexplorer.training.verdicts import Judgement, Verdict

SHAPE = (20, 20, 20)
T: Judgement = "true_error"
L: Judgement = "label_error"


def verdict(
    case: str, voxels: list[int], judgement: Judgement | None = T, *, note: str = "", family: str = "extra"
) -> Verdict:
    found = sorted(voxels)
    samples = [found[i] for i in np.linspace(0, len(found) - 1, min(512, len(found))).round().astype(int)]
    return Verdict.model_validate(
        {
            "case": case,
            "role": "validation",
            "family": family,
            "class_name": "liver",
            "judgement": judgement,
            "note": note,
            "volume_ml": len(found) / 1000,
            "shape": SHAPE,
            "voxels": len(found),
            "samples": samples,
        }
    )


def box(start: int, size: int) -> list[int]:
    grid = np.zeros(SHAPE, bool)
    grid[start : start + size, 3 : 3 + size, 3 : 3 + size] = True
    return [int(i) for i in np.flatnonzero(grid)]


def test_kappa_of_a_known_table() -> None:
    observed, expected, kappa = cohen_kappa(np.array([[20, 5], [10, 15]]))
    assert (observed, expected) == (0.7, 0.5) and kappa == pytest.approx(0.4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=9, max_size=9))
def test_its_standard_error_is_that_of_the_delta_method(cells: list[int]) -> None:
    counts = np.array(cells, float).reshape(3, 3)
    total = counts.sum()
    shares = (counts / total).ravel()

    def kappa(p: NDArray[np.float64]) -> float:
        return cohen_kappa(p.reshape(3, 3) * 1.0)[2]

    step = 1e-6
    slopes = np.array([(kappa(shares + step * e) - kappa(shares - step * e)) / (2 * step) for e in np.eye(9)])
    covariance = (np.diag(shares) - np.outer(shares, shares)) / total
    assert kappa_error(counts) == pytest.approx(math.sqrt(slopes @ covariance @ slopes), rel=1e-4, abs=1e-9)


def test_the_interval_of_many_cases_covers_kappa_as_often_as_it_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readers agree in 80 % of the errors, each error a case of its own; the truth is a kappa of 0.6."""
    monkeypatch.setattr("segexplorer.study.agreement.RESAMPLES", 499)
    rng = np.random.default_rng(0)
    hits = []
    for repeat in range(40):
        first = rng.integers(0, 2, 60)
        second = np.where(rng.random(60) < 0.8, first, 1 - first)
        sides = [
            [verdict(f"c{n}", [n], (T, L)[int(k)]) for n, k in enumerate(side)] for side in (first, second)
        ]
        found = agreement(sides[0], sides[1], seed=repeat)
        assert found.method == "cases"
        hits.append(found.low <= 0.6 <= found.high)
    assert 0.85 <= np.mean(hits) <= 1


def test_few_cases_have_an_interval_that_is_called_narrow() -> None:
    first = [verdict("a", box(2 * n, 2), (T, L)[n % 2]) for n in range(6)]
    second = [verdict("a", box(2 * n, 2), T if n == 1 else (T, L)[n % 2]) for n in range(6)]
    found = agreement(first, second, ("Anna", "Ben"))
    assert found.method == "errors" and "too narrow" in found.notes[0]
    assert (found.observed, len(found.disagreements)) == (pytest.approx(5 / 6), 1)
    assert found.low < found.kappa < found.high <= 1


def test_an_error_is_found_again_at_another_step() -> None:
    large, grown, elsewhere = box(2, 10), box(2, 11), box(13, 6)
    one, other = verdict("a", large), verdict("a", grown, L)
    assert overlap(one, other) > 0.9
    assert overlap(one, verdict("a", elsewhere)) == 0
    assert overlap(one, verdict("b", large)) == 0
    assert overlap(one, verdict("a", large, family="missing")) == 0
    pairs = match([one, verdict("a", elsewhere)], [verdict("a", box(0, 2)), other])
    assert [(pair.first is not None, pair.second is not None) for pair in pairs] == [
        (True, True),
        (True, False),
        (False, True),
    ]


def test_one_list_of_two_keeps_what_both_said() -> None:
    first = [
        verdict("a", box(0, 2), T, note="vessel"),
        verdict("a", box(4, 3), T),
        verdict("b", box(9, 4), L),
    ]
    second = [verdict("a", box(0, 2), T), verdict("a", box(4, 3), L, note="rim")]
    found = agreement(first, second, ("Anna", "Ben"))
    by_size = {v.voxels: v for v in merged(found)}
    assert (by_size[8].judgement, by_size[8].note) == (T, "vessel")
    assert by_size[27].judgement == "unclear"
    assert by_size[27].note == "Anna: true error; Ben: label error (rim)"
    assert by_size[64].judgement == L
    assert any("1 by Anna, 0 by Ben" in note for note in found.notes)


def test_without_variation_or_verdicts_kappa_is_not_made_up() -> None:
    same = [verdict("a", box(0, 2)), verdict("a", box(4, 2))]
    found = agreement(same, same)
    assert math.isnan(found.kappa) and found.method == "none" and found.plain()["kappa"] is None
    assert "not defined" in found.notes[0]
    with pytest.raises(DataError, match="Neither reader"):
        agreement([verdict("a", box(0, 2), None, note="?")], [])
