"""Calibration against sums over single voxels in numpy, cases with known values, and volumes of 2^24 voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.core.events import Reliability, WatchedDone, from_json, to_json
from segexplorer.metrics.calibration import (
    ANY_CLASS,
    BINS,
    CALIBRATION_METRICS,
    FINE,
    CalibrationCounts,
    brier_score,
    calibration_values,
    curve_of,
    diagram,
    ece,
    foreground_box,
    negative_log_likelihood,
)

NAMES = ("liver", "tumour")
SPACING = (2.0, 1.0, 4.0)


def softmax_case(
    rng: np.random.Generator, shape: tuple[int, ...], sharpness: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return probabilities of three classes, the prediction, and a truth with ignored voxels."""
    logits = rng.normal(0, sharpness, (3, *shape))
    truth = np.zeros(shape, np.uint8)
    middle = tuple(slice(n // 3, n // 3 + max(2, n // 4)) for n in shape)
    truth[middle] = rng.integers(1, 3, truth[middle].shape)
    logits[0] += 2 * (truth == 0) * sharpness
    truth[rng.random(shape) < 0.02] = 255
    probabilities = np.exp(logits - logits.max(0))
    probabilities = (probabilities / probabilities.sum(0)).astype(np.float32)
    return probabilities, probabilities.argmax(0).astype(np.uint8), truth


def brute_force(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[list[int], list[float], list[int], float]:
    """Return counts, sums of confidence, right ones and the ECE, one voxel after the other."""
    counts, sums, corrects = [0] * BINS, [0.0] * BINS, [0] * BINS
    for value, yes in zip(confidence.tolist(), right.tolist(), strict=True):
        place = min(int(value * BINS), BINS - 1)
        counts[place] += 1
        sums[place] += value
        corrects[place] += yes
    error = sum(
        count / len(confidence) * abs(correct / count - total / count)
        for count, total, correct in zip(counts, sums, corrects, strict=True)
        if count
    )
    return counts, sums, corrects, error


def brute_force_mass(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the ECE of 15 parts of the sorted voxels, ties divided anyhow."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, BINS)
    return float(sum(len(p) * abs(right[p].mean() - confidence[p].mean()) for p in parts) / len(confidence))


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
@pytest.mark.parametrize("shape", [(17, 12, 9), (30, 26)])
def test_equal_to_sums_over_single_voxels(shape: tuple[int, ...], sharpness: float) -> None:
    probabilities, prediction, truth = softmax_case(np.random.default_rng(1), shape, sharpness)
    spacing = SPACING[: len(shape)]
    counts = CalibrationCounts(NAMES)
    counts.add(probabilities, prediction, truth, spacing)
    curves = counts.reliability()
    box = foreground_box(truth, spacing)
    assert box is not None
    for region, place in (("all", ...), ("box", box)):
        counted = truth[place] != 255
        flat = probabilities[:, *place] if place is not ... else probabilities
        values = flat[:, counted].astype(np.float64)
        true = truth[place][counted]
        one_hot = np.stack([true == index for index in range(3)])
        for index, name in enumerate((*NAMES, ANY_CLASS), start=1):
            overall = name == ANY_CLASS
            confidence = values.max(0) if overall else values[index]
            right = prediction[place][counted] == true if overall else one_hot[index]
            curve = curve_of(curves, name, region)  # type: ignore[arg-type]
            expected = brute_force(confidence, right)
            assert list(curve.counts) == expected[0] and list(curve.corrects) == expected[2]
            np.testing.assert_allclose(curve.confidences, expected[1], rtol=1e-12, atol=1e-9)
            assert ece(curve) == pytest.approx(expected[3], rel=1e-10)
            assert ece(curve, "mass") == pytest.approx(brute_force_mass(confidence, right), abs=0.02)
            if overall:
                brier = ((values - one_hot) ** 2).sum(0).mean()
                likelihood = -np.log(np.maximum(values[true, np.arange(true.size)], 1e-7)).mean()
            else:
                brier = ((confidence - right) ** 2).mean()
                p = np.where(right, confidence, 1 - confidence)
                likelihood = -np.log(np.maximum(p, 1e-7)).mean()
            assert brier_score(curve) == pytest.approx(brier, rel=1e-12)
            assert negative_log_likelihood(curve) == pytest.approx(likelihood, rel=1e-9)


def curve_for(p: NDArray[np.float64], truth: NDArray[np.uint8]) -> Reliability:
    """Return the curve of one class over all voxels."""
    counts = CalibrationCounts(["a"])
    probabilities = np.stack([1 - p, p]).reshape(2, -1, 1, 1)
    label = truth.reshape(-1, 1, 1)
    counts.add(probabilities, probabilities.argmax(0).astype(np.uint8), label, (1.0, 1.0, 1.0))
    return curve_of(counts.reliability(), "a", "all")


def test_known_values() -> None:
    # ten voxels at 0.7, seven of them right: calibrated
    seven = np.array([1] * 7 + [0] * 3, np.uint8)
    calibrated = curve_for(np.full(10, 0.7), seven)
    assert ece(calibrated) == pytest.approx(0, abs=1e-12)
    assert brier_score(calibrated) == pytest.approx(0.7 * 0.09 + 0.3 * 0.49)
    assert negative_log_likelihood(calibrated) == pytest.approx(-0.7 * math.log(0.7) - 0.3 * math.log(0.3))
    # sure of everything, right in seven of ten
    sure = curve_for(np.ones(10), seven)
    assert ece(sure) == pytest.approx(0.3) and brier_score(sure) == pytest.approx(0.3)
    assert ece(sure, "mass") == pytest.approx(0.3)
    assert negative_log_likelihood(sure) == pytest.approx(-0.3 * math.log(1e-7))
    # half of the voxels are 0.1 too sure, the other half 0.2 not sure enough
    mixed = curve_for(
        np.array([0.9] * 10 + [0.3] * 10), np.array([1] * 8 + [0] * 2 + [1] * 5 + [0] * 5, np.uint8)
    )
    assert ece(mixed) == pytest.approx(0.15) and ece(mixed, "mass") == pytest.approx(0.15)
    bars = diagram(mixed)
    assert [(bar.confidence, bar.right, bar.voxels) for bar in bars] == [
        (pytest.approx(0.3), pytest.approx(0.5), 10),
        (pytest.approx(0.9), pytest.approx(0.8), 10),
    ]
    assert bars[0].low == pytest.approx(4 / 15) and bars[0].high == pytest.approx(5 / 15)


def test_equal_mass_sees_what_equal_width_averages_away() -> None:
    # within one bin of equal width, half is too sure and half not sure enough
    p = np.array([0.81] * 500 + [0.85] * 500)
    right = np.array([1] * 450 + [0] * 50 + [1] * 380 + [0] * 120, np.uint8)
    curve = curve_for(p, right)
    assert ece(curve) == pytest.approx(abs(0.83 - 0.83), abs=1e-12)
    assert ece(curve, "mass") == pytest.approx(0.09, abs=1e-9)


def test_all_voxels_hide_what_the_box_shows() -> None:
    shape = (40, 40, 40)
    truth = np.zeros(shape, np.uint8)
    truth[18:22, 18:22, 18:22] = 1
    p = np.where(truth, 0.6, 0.0).astype(np.float32)
    counts = CalibrationCounts(["lesion"])
    counts.add(np.stack([1 - p, p]), (p > 0.5).astype(np.uint8), truth, (5.0, 5.0, 5.0))
    curves = counts.reliability()
    box, everywhere = (ece(curve_of(curves, "lesion", region)) for region in ("box", "all"))  # type: ignore[arg-type]
    # 4^3 voxels are 0.4 off, in a box of 8^3 (10 mm are two voxels) and in a volume of 40^3
    assert box == pytest.approx(0.4 * 64 / 512, rel=1e-6)
    assert everywhere == pytest.approx(0.4 * 64 / 64000, rel=1e-6)
    values = calibration_values(curves, "lesion")
    assert list(values) == list(CALIBRATION_METRICS) and values["ece"] == box
    assert values["ece_all"] == everywhere


def test_case_without_foreground_has_no_box() -> None:
    counts = CalibrationCounts(["a"])
    truth = np.zeros((4, 4, 4), np.uint8)
    p = np.full(truth.shape, 0.25, np.float32)
    counts.add(np.stack([1 - p, p]), truth, truth, (1.0, 1.0, 1.0))
    values = calibration_values(counts.reliability(), "a")
    assert math.isnan(values["ece"]) and math.isnan(values["nll"])
    assert values["ece_all"] == pytest.approx(0.25)


def test_voxels_without_a_probability_count_nowhere() -> None:
    probabilities, prediction, truth = softmax_case(np.random.default_rng(5), (10, 10, 10), 2.0)
    without, with_nan = CalibrationCounts(NAMES), CalibrationCounts(NAMES)
    ignored = truth.copy()
    ignored[2:4] = 255
    without.add(probabilities, prediction, ignored, SPACING)
    probabilities[:, 2:4] = np.nan
    with_nan.add(probabilities, prediction, truth, SPACING)
    curves = [curve_of(c.reliability(), ANY_CLASS, "all") for c in (without, with_nan)]
    assert curves[0] == curves[1] and curves[0].voxels == (ignored != 255).sum()


def test_cases_are_pooled_by_their_voxels() -> None:
    rng = np.random.default_rng(2)
    cases = [softmax_case(rng, (8, 9, 10), 2.0), softmax_case(rng, (12, 6, 5), 1.0)]
    together, merged = CalibrationCounts(NAMES), CalibrationCounts(NAMES)
    for case in cases:
        together.add(*case, SPACING)
        alone = CalibrationCounts(NAMES)
        alone.add(*case, SPACING)
        merged.merge(alone)
    for one, other in zip(together.reliability(), merged.reliability(), strict=True):
        assert one.counts == other.counts and one.corrects == other.corrects
        assert one.brier == pytest.approx(other.brier) and one.ece_mass == pytest.approx(other.ece_mass)


def test_counts_beyond_what_float32_can_count() -> None:
    # 2^24 + 4096 voxels along one axis: a float32 counter or sum stops at 2^24
    n = 2**24 + 4096
    p = np.broadcast_to(np.array([0.25, 0.75], np.float32).reshape(2, 1, 1), (2, n, 1))
    truth = np.ones((n, 1), np.uint8)
    truth[:4096] = 0
    counts = CalibrationCounts(["a"])
    counts.add(p, np.broadcast_to(np.uint8(1), (n, 1)), truth, (0.001, 1.0))
    curve = curve_of(counts.reliability(), "a", "all")
    place = int(0.75 * BINS)
    assert curve.counts[place] == n and curve.corrects[place] == 2**24
    assert curve.confidences[place] == 0.75 * n
    assert curve.brier == 2**24 * 0.0625 + 4096 * 0.5625
    assert ece(curve) == pytest.approx(2**24 / n - 0.75, rel=1e-12)


def test_it_travels_in_an_event() -> None:
    counts = CalibrationCounts(NAMES)
    counts.add(*softmax_case(np.random.default_rng(3), (9, 8, 7), 2.0), SPACING)
    event = WatchedDone(case="a", role="train", index=3, calibration=counts.reliability())
    line = to_json(event)
    assert from_json(line) == event
    assert len(line) < 12_000  # bounded, whatever the volume
    assert BINS * FINE == 3000
