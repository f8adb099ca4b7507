"""Error codes, outline, legend and volumes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segexplorer import metrics
from segexplorer.core.errors import DataError
from segexplorer.viewmodels import errors
from segexplorer.viewmodels.errors import Code, error_codes

labels = npst.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2]))
truths = npst.arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 255]))
N, TP, FP, FN, W = Code


def codes(prediction: list[int], truth: list[int], index: int | None = None) -> list[int]:
    return error_codes(np.array(prediction, np.uint8), np.array(truth, np.uint8), index).tolist()


def test_all_classes() -> None:
    assert codes([0, 1, 1, 0, 2, 1], [0, 1, 0, 1, 1, 255]) == [N, TP, FP, FN, W, N]


def test_one_class_against_the_rest() -> None:
    prediction, truth = [0, 1, 1, 0, 2, 1, 2, 1], [0, 1, 0, 1, 1, 2, 2, 255]
    assert codes(prediction, truth, 1) == [N, TP, FP, FN, FN, FP, N, N]


@settings(max_examples=25, deadline=None)
@given(labels, truths)
def test_volumes_agree_with_the_metrics(prediction: np.ndarray, truth: np.ndarray) -> None:
    scores = metrics.score_case(prediction, truth, ("a", "b"), (1, 2, 3))
    for index, score in enumerate(scores, start=1):
        volumes = errors.volumes_ml(error_codes(prediction, truth, index), (1, 2, 3))
        assert volumes[FP] == pytest.approx(score.false_positive_ml)
        assert volumes[FN] == pytest.approx(score.false_negative_ml)
        assert volumes[TP] + volumes[FN] == pytest.approx(score.truth_ml)


@settings(max_examples=25, deadline=None)
@given(labels, truths)
def test_swapping_prediction_and_truth_swaps_extra_and_missed(
    prediction: np.ndarray, truth: np.ndarray
) -> None:
    truth[truth == 255] = 0
    one, other = error_codes(prediction, truth), error_codes(truth, prediction)
    swapped = np.array([N, TP, FN, FP, W], np.uint8)[other]
    assert np.array_equal(one, swapped)


def test_legend_and_colours_are_okabe_and_itos() -> None:
    fills = [e for e in errors.legend() if e.form == "fill"]
    assert {e.code: (e.name, e.colour) for e in fills} == {
        FP: ("extra (false positive)", "#D55E00"),
        FN: ("missed (false negative)", "#0072B2"),
        W: ("wrong organ", "#CC79A7"),
    }
    lines = {e.name: e.colour for e in errors.legend() if e.form == "line"}
    assert lines["correct outline"] == "#009E73" and len(lines) == 3
    assert W not in {e.code for e in errors.legend(1)}
    assert {e.form for e in errors.legend(1, "outline") if e.code} == {"outline"}
    table = errors.colour_table()
    assert set(table) == {int(c) for c in Code}
    assert table[0][3] == 0
    assert table[FP] == pytest.approx((213 / 255, 94 / 255, 0, 1))


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        error_codes(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="int64"):
        error_codes(np.zeros(2, np.int64), np.zeros(2, np.uint8))
