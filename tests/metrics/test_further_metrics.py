"""Centreline Dice, differences of volume, MCC and kappa: by hand, by published values, and by other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segexplorer import metrics
from segexplorer.metrics.overlap import Counts, kappa, mcc


def scored(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...] | None = None
) -> dict[str, float]:
    (score,) = metrics.score_case(
        prediction.astype(np.uint8),
        truth.astype(np.uint8),
        ("x",),
        spacing or (1.0,) * truth.ndim,
        metrics=metrics.names(),
    )
    return dict(score.metrics)


# ---- MCC and kappa


def test_values_of_torchmetrics_and_of_a_textbook() -> None:
    truth, found = np.array([[1, 1, 0, 0]]), np.array([[0, 1, 0, 0]])
    assert scored(found, truth)["mcc"] == pytest.approx(0.5774, abs=5e-5)
    assert scored(found, truth)["kappa"] == pytest.approx(0.5)
    assert kappa(Counts(tp=20, fp=10, fn=5, tn=15)) == pytest.approx(0.4)  # two readers of 50 proposals


@pytest.mark.parametrize("seed", range(4))
def test_mcc_is_the_correlation_of_the_masks_and_monais(seed: int) -> None:
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix

    rng = np.random.default_rng(seed)
    truth = rng.random((9, 8, 7)) < 0.2
    found = truth ^ (rng.random(truth.shape) < 0.1)
    score = scored(found, truth)
    assert score["mcc"] == pytest.approx(np.corrcoef(found.ravel(), truth.ravel())[0, 1])
    tensors = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float64)) for m in (found, truth)]
    matrix = get_confusion_matrix(*tensors, include_background=False)
    theirs = compute_confusion_matrix_metric("matthews correlation coefficient", matrix)
    assert score["mcc"] == pytest.approx(float(theirs), rel=1e-5)


def test_kappa_is_agreement_beyond_that_of_shuffled_masks() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(4000) < 0.3
    found = truth ^ (rng.random(4000) < 0.15)
    agreement = np.mean(found == truth)
    by_chance = np.mean([np.mean(rng.permutation(found) == truth) for _ in range(400)])
    expected = (agreement - by_chance) / (1 - by_chance)
    assert scored(found[None], truth[None])["kappa"] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (Counts(0, 0, 5, 10), 0.0),  # missed
        (Counts(0, 5, 0, 10), 0.0),  # spurious
        (Counts(0, 0, 0, 10), math.nan),
        (Counts(10, 0, 0, 0), math.nan),  # no voxel is off the structure in either volume
        (Counts(5, 0, 0, 5), 1.0),
        (Counts(0, 5, 5, 0), -1.0),
    ],
)
def test_mcc_where_a_margin_is_empty(counts: Counts, expected: float) -> None:
    assert mcc(counts) == pytest.approx(expected, nan_ok=True)
    assert kappa(counts) == pytest.approx(expected, nan_ok=True)


def test_products_of_counts_do_not_overflow() -> None:
    large = 2**40
    assert mcc(Counts(large, 0, 0, large)) == kappa(Counts(large, 0, 0, large)) == 1


# ---- volumes


def test_differences_of_volume_by_hand() -> None:
    truth, found = np.zeros((2, 10, 10, 10), bool)
    truth[0:4, 0:5, 0:5] = True  # 100 voxels
    found[1:4, 0:5, 0:5] = found[8, 0:5, 0:3] = True  # 90 voxels
    score = scored(found, truth, (2.0, 1.0, 5.0))
    assert score["vd"] == pytest.approx(-0.1) and score["avd"] == pytest.approx(0.1)  # 10 voxels of 10 mm^3
    assert score["rvd"] == pytest.approx(-10) and score["arvd"] == pytest.approx(10)
    larger = scored(truth, found, (2.0, 1.0, 5.0))
    assert larger["vd"] == pytest.approx(0.1) and larger["rvd"] == pytest.approx(100 / 9)


def test_panopticas_relative_volume_differences() -> None:
    small, large = np.zeros((2, 4, 4), bool)
    small[1:3, 1:3] = True
    large[0, 2] = large[1, :3] = large[2, :] = large[3, 1:3] = True
    assert scored(large, small)["rvd"] == pytest.approx(150)
    assert scored(small, large)["rvd"] == pytest.approx(-60)
    assert scored(large, small)["cldice"] == scored(small, large)["cldice"] == 1


def test_the_best_difference_of_volume_is_the_one_nearest_to_zero() -> None:
    truth = np.zeros((8, 8, 8), np.uint8)
    truth[2:6, 2:6, 2:6] = 1
    scores = []
    for case, start in {"large": 0, "alike": 2, "small": 4}.items():
        found = np.zeros_like(truth)
        found[start:6, 2:6, 2:6] = 1
        scores += metrics.score_case(found, truth, ("x",), (1.0, 1.0, 1.0), case=case, metrics=["vd"])
    (row,) = metrics.distributions(scores, ["vd"])
    assert (row.best_case, row.best, row.mean) == ("alike", 0, 0)
    assert row.worst_case in ("large", "small") and abs(row.worst) == pytest.approx(0.032)


# ---- centrelines


def tube(shape: tuple[int, ...], radius: float, gap: slice | None = None) -> np.ndarray:
    """Return a straight tube along the first axis, with a gap in it."""
    axes = np.ogrid[tuple(map(slice, shape))]
    mask = np.broadcast_to(
        sum((x - n // 2) ** 2 for x, n in zip(axes[1:], shape[1:], strict=True)) <= radius**2, shape
    )
    mask = mask.copy()
    if gap is not None:
        mask[gap] = False
    return mask


@pytest.mark.parametrize("shape", [(40, 15, 15), (40, 15)])
def test_clDice_sees_the_gap_and_not_the_radius(shape: tuple[int, ...]) -> None:
    thick, thin = tube(shape, 4), tube(shape, 2)
    assert scored(thin, thick)["cldice"] == 1
    assert scored(thin, thick)["dice"] < 0.75
    broken = scored(tube(shape, 4, slice(18, 22)), thick)
    assert broken["cldice"] < 0.97 and broken["dice"] > 0.94
    apart = np.zeros(shape, bool)
    apart[:, 0] = True
    assert scored(apart, thin)["cldice"] == 0


def test_clDice_of_a_line_by_hand() -> None:
    truth, found = np.zeros((2, 1, 9, 20), bool)
    truth[0, 4, 2:18] = True  # 16 voxels, its own centreline
    found[0, 4, 2:10] = found[0, 7, 0:4] = True  # 8 of them, and 4 elsewhere
    precision, sensitivity = 8 / 12, 8 / 16
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert scored(found, truth)["cldice"] == pytest.approx(expected)


def test_a_crop_to_the_structure_changes_no_centreline() -> None:
    from skimage.morphology import skeletonize

    rng = np.random.default_rng(5)
    truth = np.zeros((24, 26, 22), bool)
    truth[3:20, 8:12, 9:13] = truth[10:14, 3:24, 10:13] = True
    found = np.roll(truth, 1, axis=1) & (rng.random(truth.shape) < 0.97)
    lines = [np.asarray(skeletonize(mask), bool) for mask in (found, truth)]
    precision = (lines[0] & truth).sum() / lines[0].sum()
    sensitivity = (lines[1] & found).sum() / lines[1].sum()
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert scored(found, truth)["cldice"] == pytest.approx(expected)
    one = np.zeros((5, 5, 5), bool)
    one[2, 2, 2] = True
    assert scored(one, one)["cldice"] == 1
    assert scored(np.ones((2, 2, 2)), np.ones((2, 2, 2)))["cldice"] == 1
