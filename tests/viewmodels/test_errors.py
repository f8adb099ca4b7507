"""The error list: pieces, order, where to fly to, and what they were taken for."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segexplorer import metrics
from segexplorer.core.errors import DataError
from segexplorer.viewmodels.errors import error_pieces

CENTIMETRES = np.diag([10.0, 10.0, 10.0, 1.0])  # a voxel is 1 ml
NAMES = ("liver", "spleen")


def volumes() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((12, 10, 8), np.uint8), np.zeros((12, 10, 8), np.uint8)


def test_pieces_worst_first_with_position_and_sentence() -> None:
    prediction, truth = volumes()
    prediction[1:4, 1:4, 1:4] = 1  # 27 ml extra liver
    truth[8:10, 5, 5] = 2  # 2 ml missed spleen
    affine = CENTIMETRES.copy()
    affine[:3, 3] = (-50, 0, 7)
    first, second = error_pieces(prediction, truth, NAMES, affine)
    assert (first.kind, first.class_name, first.voxels) == ("extra", "liver", 27)
    assert first.volume_ml == pytest.approx(27)
    assert first.voxel == (2, 2, 2)
    assert first.world == pytest.approx((-30, 20, 27))
    assert first.sentence == "27 ml of liver extra"
    assert second.sentence == "2.0 ml of spleen missed"
    assert second.voxel in {(8, 5, 5), (9, 5, 5)}


def test_an_organ_taken_for_another_is_named_on_both_sides() -> None:
    prediction, truth = volumes()
    prediction[2:4, 2, 2], truth[2:4, 2, 2] = 1, 2
    sentences = {p.sentence for p in error_pieces(prediction, truth, NAMES, CENTIMETRES)}
    assert sentences == {"2.0 ml of liver extra (is spleen)", "2.0 ml of spleen missed (called liver)"}


def test_the_position_lies_inside_even_a_ring() -> None:
    prediction, truth = volumes()
    truth[2:7, 2:7, 3] = 1
    truth[3:6, 3:6, 3] = 0
    (ring,) = error_pieces(prediction, truth, NAMES, CENTIMETRES)
    assert truth[ring.voxel] == 1


def test_corners_connect_and_gaps_part() -> None:
    prediction, truth = volumes()
    truth[1, 1, 1] = truth[2, 2, 2] = truth[5, 5, 5] = 1
    assert [p.voxels for p in error_pieces(prediction, truth, NAMES, CENTIMETRES)] == [2, 1]


def test_small_pieces_the_limit_and_one_class() -> None:
    prediction, truth = volumes()
    truth[1, 1, 1] = 1
    truth[4:6, 1, 1] = 1
    prediction[8:11, 1, 1] = 2
    found = error_pieces(prediction, truth, NAMES, CENTIMETRES)
    assert [p.voxels for p in found] == [3, 2, 1]
    assert [p.voxels for p in error_pieces(prediction, truth, NAMES, CENTIMETRES, minimum_ml=2)] == [3, 2]
    assert [p.voxels for p in error_pieces(prediction, truth, NAMES, CENTIMETRES, limit=1)] == [3]
    assert [p.voxels for p in error_pieces(prediction, truth, NAMES, CENTIMETRES, class_index=1)] == [2, 1]


def test_ignored_voxels_are_no_error() -> None:
    prediction, truth = volumes()
    prediction[:] = 1
    truth[:] = 255
    assert error_pieces(prediction, truth, NAMES, CENTIMETRES) == ()


arrays = npst.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 2))


@settings(max_examples=25, deadline=None)
@given(arrays, arrays)
def test_pieces_hold_every_wrong_voxel(prediction: np.ndarray, truth: np.ndarray) -> None:
    pieces = error_pieces(prediction, truth, NAMES, CENTIMETRES, minimum_ml=0)
    assert [p.voxels for p in pieces] == sorted((p.voxels for p in pieces), reverse=True)
    for score in metrics.score_case(prediction, truth, NAMES, (10, 10, 10)):
        for kind, total in (("extra", score.false_positive_ml), ("missed", score.false_negative_ml)):
            found = [p for p in pieces if (p.class_name, p.kind) == (score.class_name, kind)]
            assert sum(p.volume_ml for p in found) == pytest.approx(total)
    for piece in pieces:
        there = prediction if piece.kind == "extra" else truth
        assert there[piece.voxel] == piece.class_index


def test_a_scan_full_of_noise_takes_well_under_two_seconds() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((122, 101, 112), np.uint8)
    truth[30:80, 30:70, 30:80], truth[85:110, 20:60, 20:60] = 1, 2
    prediction = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, 3, truth.shape), truth)
    begin = time.process_time()
    found = error_pieces(prediction.astype(np.uint8), truth, NAMES, np.diag([1.5, 1.5, 1.5, 1]), minimum_ml=0)
    assert len(found) == 200
    assert time.process_time() - begin < 2


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        error_pieces(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), NAMES, CENTIMETRES)
