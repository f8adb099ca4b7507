"""Surface Dice against MONAI in both of its modes, the values of `surface-distance`, and cases by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from segexplorer import metrics
from segexplorer.metrics.surface_dice import element_areas, element_codes, surface_agreement


def scored(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float = 1.0
) -> dict[str, float]:
    (score,) = metrics.score_case(
        prediction.astype(np.uint8),
        truth.astype(np.uint8),
        ("x",),
        spacing,
        metrics=["nsd", "nsd_voxels"],
        options=metrics.MetricOptions(nsd_tolerance=tolerance),
    )
    return dict(score.metrics)


def pair(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two ragged balls that overlap in part."""
    rng = np.random.default_rng(seed)
    centre = np.asarray(shape) / 2
    masks = []
    for shift in (0, 2):
        distance = sum(
            (x - c - shift) ** 2 for x, c in zip(np.ogrid[tuple(map(slice, shape))], centre, strict=True)
        )
        masks.append(np.asarray(distance <= 25 + 12 * rng.random(shape)))
    return masks[0], masks[1]


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI warns of itself
@pytest.mark.parametrize("spacing", [(2.5, 1.0, 0.7), (1.0, 1.0, 1.0), (1.5, 0.8)])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.6])
def test_monai(spacing: tuple[float, ...], tolerance: float) -> None:
    from monai.metrics import compute_surface_dice

    found, truth = pair((17, 18, 19)[: len(spacing)], seed=len(spacing))
    tensors = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (found, truth)]
    score = scored(found, truth, spacing, tolerance)
    for name, subvoxels in (("nsd", True), ("nsd_voxels", False)):
        theirs = compute_surface_dice(
            *tensors, class_thresholds=[tolerance], spacing=list(spacing), use_subvoxels=subvoxels
        )
        assert score[name] == pytest.approx(float(theirs), rel=1e-5), name
        assert 0 < score[name] < 1


def test_areas_of_elements_are_those_of_the_published_table() -> None:
    from monai.metrics.utils import get_code_to_measure_table

    for spacing in ((2.5, 1.0, 0.7), (1.5, 0.8)):
        table, _ = get_code_to_measure_table(list(spacing))
        assert element_areas(spacing) == pytest.approx(table.numpy(), rel=1e-5)
    single = np.zeros((1, 1, 1), bool)
    assert element_codes(~single).ravel().tolist() == [1, 2, 4, 8, 16, 32, 64, 128]


def test_values_of_surface_distance() -> None:
    """Its own tests: two pixels and two voxels 2 mm apart, two cubes shifted by a voxel, and empty masks."""
    truth, found, nothing = np.zeros((3, 128, 128), bool)
    truth[50, 70] = found[50, 72] = True
    assert scored(found, truth, (2.0, 1.0))["nsd"] == pytest.approx(0.5)
    assert scored(nothing, truth, (3.0, 2.0))["nsd"] == scored(truth, nothing, (3.0, 2.0))["nsd"] == 0
    assert math.isnan(scored(nothing, nothing, (3.0, 2.0))["nsd"])
    truth, found = np.zeros((2, 64, 64, 80), bool)
    truth[50, 60, 70] = found[50, 60, 72] = True
    assert scored(found, truth, (3.0, 2.0, 1.0))["nsd"] == pytest.approx(0.5)
    truth, found = np.zeros((2, 100, 100, 100), bool)
    truth[:50] = found[:51] = True
    assert scored(found, truth, (2.0, 1.0, 1.0))["nsd"] == pytest.approx(0.836, abs=5e-4)


def test_the_tolerance_is_of_each_class_in_mm() -> None:
    truth, found = np.zeros((2, 24, 12, 12), np.uint8)
    truth[2:8, 2:10, 2:10] = 1
    found[3:9, 2:10, 2:10] = 1
    truth[14:20, 2:10, 2:10] = 2
    found[15:21, 2:10, 2:10] = 2
    options = metrics.MetricOptions(nsd_tolerance={"default": 1.0, "gland": 3.0})
    gland, other = metrics.score_case(
        found, truth, ("gland", "other"), (3.0, 1.0, 1.0), metrics=["nsd", "nsd_voxels"], options=options
    )
    assert gland.metrics["nsd"] == gland.metrics["nsd_voxels"] == 1
    assert other.metrics["nsd"] < 0.9 and other.metrics["nsd_voxels"] < 0.9
    assert options.tolerance("gland") == 3 and options.tolerance("anything") == 1


def test_a_tolerance_of_whole_voxels_includes_them_whatever_the_last_digit() -> None:
    truth, found = np.zeros((2, 12, 4, 4), bool)
    truth[2:5], found[5:8] = True, True
    assert scored(found, truth, (0.1, 1.0, 1.0), tolerance=0.3)["nsd_voxels"] == 1  # 3 * 0.1 is above 0.3
    assert scored(found, truth, (0.1, 1.0, 1.0), tolerance=0.3)["nsd"] == 1
    assert scored(found, truth, (0.1, 1.0, 1.0), tolerance=0.29)["nsd_voxels"] < 1


def test_a_surface_of_a_ball_has_its_area() -> None:
    axes = np.ogrid[:48, :90, :90]
    ball = (
        sum(((x - c) * s) ** 2 for x, c, s in zip(axes, (24, 45, 45), (2.0, 1.0, 1.0), strict=True)) <= 40**2
    )
    # surfaces of masks are rough: marching cubes finds some 10 % more than a smooth ball has
    both = surface_agreement(ball, ball, (2.0, 1.0, 1.0), 0.0)
    assert both.within == both.area
    assert both.area / 2 == pytest.approx(4 * math.pi * 40**2, rel=0.15)


@pytest.mark.parametrize("value", [-1.0, {"liver": -0.5}])
def test_a_tolerance_below_zero_is_refused(value: object) -> None:
    from segexplorer.core.errors import SpecError

    with pytest.raises(SpecError, match="below 0"):
        metrics.MetricOptions.of({"nsd_tolerance": value})
