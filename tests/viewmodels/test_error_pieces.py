"""The single errors: kinds, order, depth, place, and where to fly to."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from segexplorer import metrics
from segexplorer.core.errors import DataError
from segexplorer.viewmodels.error_pieces import KINDS, ErrorPiece, error_pieces

CENTIMETRES = np.diag([10.0, 10.0, 10.0, 1.0])  # a voxel is 1 ml
NAMES = ("liver", "spleen")
CONNECTED = np.ones((3, 3, 3))


def volumes() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((12, 10, 8), np.uint8), np.zeros((12, 10, 8), np.uint8)


def found(prediction: np.ndarray, truth: np.ndarray, **rest: object) -> tuple[ErrorPiece, ...]:
    return error_pieces(prediction, truth, NAMES, CENTIMETRES, **rest)  # type: ignore[arg-type]


def test_pieces_worst_first_with_position_and_sentence() -> None:
    prediction, truth = volumes()
    prediction[1:4, 1:4, 1:4] = 1  # 27 ml extra liver
    truth[8:10, 5, 5] = 2  # 2 ml missed spleen
    affine = CENTIMETRES.copy()
    affine[:3, 3] = (-50, 0, 7)
    first, second = error_pieces(prediction, truth, NAMES, affine)
    assert (first.kind, first.class_name, first.voxels) == ("spurious_object", "liver", 27)
    assert first.volume_ml == pytest.approx(27)
    assert first.voxel == (2, 2, 2)
    assert first.world == pytest.approx((-30, 20, 27))
    assert first.centre == pytest.approx((27, 20, -30))
    assert first.size_mm == pytest.approx((30, 30, 30))
    assert first.sentence == "27 ml of liver: spurious object"
    assert second.sentence == "2.0 ml of spleen: missed object"
    assert second.voxel in {(8, 5, 5), (9, 5, 5)}


def test_kinds_are_told_apart() -> None:
    prediction, truth = volumes()
    truth[1:5, 1:5, 1:5] = 1
    prediction[2:6, 1:5, 1:5] = 1  # one slice too little, one too much
    truth[8:10, 1:3, 1:3] = 2  # missed as a whole
    prediction[8:10, 7:9, 6] = 2  # spurious
    sizes = {piece.kind: piece.voxels for piece in found(prediction, truth)}
    assert sizes == {"too_little": 16, "too_much": 16, "missed_object": 8, "spurious_object": 4}


def test_one_of_two_structures_of_a_class_can_be_missed() -> None:
    prediction, truth = volumes()
    truth[1:4, 1:4, 1:4] = truth[8:11, 1:4, 1:4] = 1
    prediction[1:4, 1:4, 1:4] = 1
    (missed,) = found(prediction, truth)
    assert (missed.kind, missed.box[0]) == ("missed_object", (8, 11))


def test_an_organ_taken_for_another_is_one_error_of_the_true_class() -> None:
    prediction, truth = volumes()
    prediction[2:4, 2, 2], truth[2:4, 2, 2] = 1, 2
    (piece,) = found(prediction, truth)
    assert piece.kind == "wrong_organ"
    assert (piece.class_name, piece.instead, piece.instead_index) == ("spleen", "liver", 1)
    assert piece.sentence == "2.0 ml of spleen: wrong organ (called liver)"
    assert found(prediction, truth, class_index=1) and found(prediction, truth, class_index=2)


def test_part_of_an_organ_called_another_is_apart_from_what_was_called_nothing() -> None:
    prediction, truth = volumes()
    truth[1:7, 1:4, 1:4] = 2
    prediction[1:3, 1:4, 1:4] = 2
    prediction[3:5, 1:4, 1:4] = 1
    sizes = {(piece.kind, piece.instead): piece.voxels for piece in found(prediction, truth)}
    assert sizes == {("wrong_organ", "liver"): 18, ("too_little", ""): 18}


def test_a_structure_called_partly_another_is_missed_as_a_whole() -> None:
    prediction, truth = volumes()
    truth[1:7, 1:4, 1:4] = 2
    prediction[1:3, 1:4, 1:4] = 1
    (piece,) = found(prediction, truth)
    assert (piece.kind, piece.voxels, piece.instead) == ("missed_object", 54, "")


def test_the_position_is_inside_even_of_a_ring() -> None:
    prediction, truth = volumes()
    truth[2:7, 2:7, 3] = 1
    truth[3:6, 3:6, 3] = 0
    (ring,) = found(prediction, truth)
    assert truth[ring.voxel] == 1


def test_corners_connect_and_gaps_part() -> None:
    prediction, truth = volumes()
    truth[1, 1, 1] = truth[2, 2, 2] = truth[5, 5, 5] = 1
    assert [p.voxels for p in found(prediction, truth)] == [2, 1]


def test_the_last_voxel_of_a_line_is_not_beside_the_first_of_the_next() -> None:
    prediction, truth = volumes()
    truth[3, 4, 7] = truth[3, 5, 0] = truth[3, 9, 7] = truth[4, 0, 0] = 1
    assert [p.voxels for p in found(prediction, truth)] == [1, 1, 1, 1]


def test_small_pieces_the_limit_and_one_class() -> None:
    prediction, truth = volumes()
    truth[1, 1, 1] = 1
    truth[4:6, 1, 1] = 1
    prediction[8:11, 1, 1] = 2
    assert [p.voxels for p in found(prediction, truth)] == [3, 2, 1]
    assert [p.voxels for p in found(prediction, truth, minimum_ml=2)] == [3, 2]
    assert [p.voxels for p in found(prediction, truth, limit=1)] == [3]
    assert [p.voxels for p in found(prediction, truth, class_index=1)] == [2, 1]
    assert [p.voxels for p in found(prediction, truth, class_index=1, limit=1)] == [2]


def test_ignored_voxels_are_no_error_and_make_no_object_spurious() -> None:
    prediction, truth = volumes()
    prediction[:] = 1
    truth[:] = 255
    assert found(prediction, truth) == ()
    truth[0:2] = 0
    assert [p.kind for p in found(prediction, truth)] == ["too_much"]


def test_depth_at_a_boundary_is_the_way_to_the_class() -> None:
    prediction, truth = volumes()
    truth[1:4, 1:5, 1:5] = 1
    prediction[1:7, 1:5, 1:5] = 1
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    (piece,) = error_pieces(prediction, truth, NAMES, affine, minimum_ml=0)
    assert piece.depth_mm == pytest.approx(6)  # three slices of 2 mm beyond the truth
    assert piece.voxel[0] == 6


def test_depth_of_an_object_is_that_of_its_middle() -> None:
    prediction, truth = volumes()
    truth[1:8, 1:8, 1:6] = 1
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    (piece,) = error_pieces(prediction, truth, NAMES, affine, minimum_ml=0)
    assert piece.depth_mm == pytest.approx(8)
    assert piece.voxel == (4, 4, 3)


def test_places_are_those_of_the_patient_whatever_the_order_of_the_file() -> None:
    prediction, truth = volumes()
    truth[1:11, 4, 1:7] = 1
    prediction[1:11, 4, 1:7] = 1
    prediction[9:11, 4, 6] = 0  # at the high ends of x and z
    names = {"RAS": "right, upper third of liver, slice 6", "LPS": "left, upper third of liver, slice 6"}
    for axes, words in names.items():
        affine = np.diag([10.0 if axes == "RAS" else -10.0, 10.0, 10.0, 1.0])
        (piece,) = error_pieces(prediction, truth, NAMES, affine)
        assert piece.place.words == words
    assert piece.place.short == "L upper 6"
    turned = np.array([[0, 0, -10.0, 0], [0, 10, 0, 0], [10, 0, 0, 0], [0, 0, 0, 1]])  # i to S, k to L
    (piece,) = error_pieces(prediction, truth, NAMES, turned)
    assert piece.place.words.startswith("left, upper third of liver, slice ")
    assert piece.place.slices[0] in (9, 10)


def test_what_is_far_from_its_structure_is_placed_in_the_volume() -> None:
    prediction, truth = volumes()
    truth[1:4, 1:4, 1:4] = prediction[1:4, 1:4, 1:4] = 1
    prediction[10, 5, 7] = 1
    (piece,) = found(prediction, truth)
    assert piece.place.words == "right, upper third of the volume, slice 7"


def test_an_oblique_volume_is_placed_where_the_viewer_shows_it() -> None:
    from segexplorer.data.geometry import DisplayGrid, Grid

    angle = np.radians(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= 10
    prediction, truth = volumes()
    truth[9, 2, 3] = 1
    (piece,) = error_pieces(prediction, truth, NAMES, affine)
    grid = DisplayGrid.of(Grid(truth.shape, affine))
    shown = np.argwhere(grid.to_display(truth) == 1)[0]
    assert piece.centre == pytest.approx(np.asarray(grid.translate) + shown * np.asarray(grid.scale))


def test_the_mask_is_the_error() -> None:
    prediction, truth = volumes()
    truth[2:5, 3:6, 1:4] = 1
    for order in (np.ascontiguousarray, np.asfortranarray):
        (piece,) = found(order(prediction), order(truth))
        filled, (i, j, k) = piece.mask(margin=1)
        whole = np.zeros(truth.shape, bool)
        whole[i : i + filled.shape[0], j : j + filled.shape[1], k : k + filled.shape[2]] = filled
        assert np.array_equal(whole, truth == 1)


arrays = npst.arrays(np.uint8, (4, 5, 3), elements=st.sampled_from([0, 0, 1, 1, 2, 255]))


@settings(max_examples=60, deadline=None)
@given(arrays, arrays)
def test_every_wrong_voxel_is_in_one_error_of_the_right_kind(
    predicted: np.ndarray, truth: np.ndarray
) -> None:
    prediction = np.where(predicted == 255, 0, predicted).astype(np.uint8)
    pieces = found(prediction, truth, minimum_ml=0, limit=1000)
    assert [p.voxels for p in pieces] == sorted((p.voxels for p in pieces), reverse=True)
    covered = np.zeros(truth.shape, int)
    for piece in pieces:
        covered[piece.voxel_indices] += 1
        assert covered[piece.voxel] == 1
        volume = prediction if piece.family == "extra" else truth
        assert (volume[piece.voxel_indices] == piece.class_index).all()
    assert np.array_equal(covered, (prediction != truth) & (truth != 255))
    _require_same_objects(pieces, prediction, truth)
    for score in metrics.score_case(prediction, truth, NAMES, (10, 10, 10)):
        index = NAMES.index(score.class_name) + 1
        missing = sum(int((truth[p.voxel_indices] == index).sum()) for p in pieces)
        assert missing == pytest.approx(score.false_negative_ml)


def _require_same_objects(pieces: tuple[ErrorPiece, ...], prediction: np.ndarray, truth: np.ndarray) -> None:
    """Compare the missed structures with those that scipy finds class by class."""
    for index in (1, 2):
        labels, n = ndimage.label(truth == index, CONNECTED)
        whole = {
            int(np.flatnonzero(labels == label)[0])
            for label in range(1, n + 1)
            if not (prediction[labels == label] == index).any()
        }
        ours = {
            int(np.ravel_multi_index(tuple(axis[0] for axis in p.voxel_indices), truth.shape))
            for p in pieces
            if p.class_index == index and p.kind == "missed_object"
        }
        assert ours <= whole
        taken = [p for p in pieces if p.class_index == index and p.kind == "wrong_organ"]
        assert len(whole - ours) <= len(taken)


@settings(max_examples=40, deadline=None)
@given(arrays, st.tuples(*[st.floats(0.5, 4)] * 3))
def test_depth_equals_the_distance_transform(predicted: np.ndarray, spacing: tuple[float, ...]) -> None:
    truth = np.zeros_like(predicted)
    truth[1:3, 1:4, 0:2] = 1
    prediction = (predicted == 1).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    for piece in error_pieces(prediction, truth, ("liver",), affine, minimum_ml=0, limit=1000):
        own = np.zeros(truth.shape, bool)
        own[piece.voxel_indices] = True
        if piece.kind in ("too_much", "too_little"):
            other = truth if piece.kind == "too_much" else prediction
            expected = ndimage.distance_transform_edt(other != 1, spacing)[own].max()
        else:
            expected = ndimage.distance_transform_edt(np.pad(own, 1), spacing).max()
        assert piece.depth_mm == pytest.approx(expected)


def test_the_largest_depth_is_the_hausdorff_distance() -> None:
    rng = np.random.default_rng(3)
    truth = ndimage.binary_dilation(rng.random((20, 18, 16)) > 0.99, iterations=3).astype(np.uint8)
    prediction = np.roll(truth, (2, 0, -1), (0, 1, 2))
    prediction[0:2] = 0
    affine = np.diag([1.5, 1.0, 2.0, 1.0])
    pieces = error_pieces(prediction, truth, ("lesion",), affine, minimum_ml=0, limit=1000)
    ours = max(p.depth_mm for p in pieces if p.kind in ("too_much", "too_little"))
    boundary = [p.kind for p in pieces]
    assert set(boundary) <= set(KINDS)
    if set(boundary) == {"too_much", "too_little"}:
        (score,) = metrics.score_case(
            prediction, truth, ("lesion",), (1.5, 1.0, 2.0), surfaces=True, metrics=("hd",)
        )
        assert ours == pytest.approx(score.metrics["hd"])


def test_a_scan_full_of_noise_takes_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((122, 101, 112), np.uint8)
    truth[30:80, 30:70, 30:80], truth[85:110, 20:60, 20:60] = 1, 2
    prediction = np.where(rng.random(truth.shape) < 0.1, rng.integers(0, 3, truth.shape), truth)
    begin = time.process_time()
    pieces = error_pieces(
        prediction.astype(np.uint8), truth, NAMES, np.diag([1.5, 1.5, 1.5, 1]), minimum_ml=0
    )
    assert len(pieces) == 200
    assert time.process_time() - begin < 10


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        found(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8))
