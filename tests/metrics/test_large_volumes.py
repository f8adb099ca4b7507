"""Counts and sums beyond 2^24 voxels, where a float32 counter stands still: scores, error volumes, region maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segexplorer.core.events import RegionReport
from segexplorer.data.volume import value_counts
from segexplorer.functional.inputs import regional_errors
from segexplorer.functional.regions import partition
from segexplorer.metrics import Confusion, score_case
from segexplorer.viewmodels.errors import Code, error_codes, volumes_ml
from segexplorer.viewmodels.regions import balance_histogram
from segexplorer.viewmodels.watched_case import chosen_class

N = 2**24 + 4096
HITS, EXTRA, MISSED, IGNORED = 2**24 - 8192, 4097, 2049, 1021


@pytest.fixture(scope="module")
def labels() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a prediction and a truth on one axis: known numbers of each outcome, the rest background."""
    prediction, truth = np.zeros(N, np.uint8), np.zeros(N, np.uint8)
    prediction[: HITS + EXTRA] = 1
    truth[:HITS] = 1
    truth[HITS + EXTRA : HITS + EXTRA + MISSED] = 1
    truth[-IGNORED:] = 255
    return prediction, truth


def test_scores_count_every_voxel(labels: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    prediction, truth = labels
    background = N - HITS - EXTRA - MISSED - IGNORED
    (score,) = score_case(prediction, truth, ("a",), (0.5,))
    assert score.metrics["dice"] == 2 * HITS / (2 * HITS + EXTRA + MISSED)
    assert score.metrics["specificity"] == background / (background + EXTRA)
    assert score.metrics["accuracy"] == (HITS + background) / (N - IGNORED)
    assert score.truth_ml == (HITS + MISSED) * 0.5 / 1000
    assert (score.false_positive_ml, score.false_negative_ml) == (EXTRA * 0.5 / 1000, MISSED * 0.5 / 1000)
    confusion = Confusion(2)
    for _ in range(2):
        confusion.add(prediction, truth)
    assert confusion.matrix.tolist() == [[2 * background, 2 * EXTRA], [2 * MISSED, 2 * HITS]]
    assert confusion.class_dice()[1] == score.metrics["dice"]


def test_errors_in_the_picture_have_their_volumes(
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    codes = error_codes(*labels)
    volumes = volumes_ml(codes, (10.0, 10.0, 10.0))
    assert volumes[Code.TRUE_POSITIVE] == HITS and volumes[Code.WRONG_CLASS] == 0
    assert volumes[Code.FALSE_POSITIVE] == EXTRA and volumes[Code.FALSE_NEGATIVE] == MISSED
    assert sum(value_counts(codes).values()) == N


def test_region_maps_add_up_in_large_regions() -> None:
    logits = torch.zeros(1, 2, N)
    logits[:, 1, ::3] = -3.0
    labels = torch.zeros(1, 1, N, dtype=torch.int64)
    labels[..., : N // 2] = 1
    p = torch.softmax(logits[0, :, :3].double(), 0)[1].tolist()  # two values in turn
    own = np.resize([p[0], p[1], p[1]], N)
    extra, missed = float(own[N // 2 :].sum()), float((1 - own[: N // 2]).sum())
    fp, fn = regional_errors(logits, labels, partition((N,), grid=1))
    assert fp[0, 1].item() == pytest.approx(extra, rel=1e-6)
    assert fn[0, 1].item() == pytest.approx(missed, rel=1e-6)


def test_balance_of_many_regions_is_added_in_float64() -> None:
    regions = 2**21
    fp = np.full((2, regions), 0.1, np.float32)
    fp[1, 0] = 2.0**24
    report = RegionReport({"fp": fp, "fn": np.zeros_like(fp)}, (tuple(range(regions + 1)), (0, 1), (0, 1)))
    found = balance_histogram(report, 1, 1.0, "a")
    assert found.error_ml.dtype == np.float64 and found.regions == regions
    expected = 2.0**24 + (regions - 1) * float(np.float32(0.1))
    assert found.error_ml[-1] == pytest.approx(expected, rel=1e-12)
    assert chosen_class(report, None) == 1
