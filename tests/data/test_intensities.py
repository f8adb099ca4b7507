"""Every rule for intensities against numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import SpecError
from segexplorer.data.transforms.intensities import (
    WINDOWS,
    Auto,
    CTWindow,
    IntensitySpec,
    Percentile,
    ZScore,
    registry,
)
from segexplorer.data.volume import Modality, Volume

RAMP = np.arange(101, dtype=np.int16)
"""0, 1, ... 100: the p-th percentile is p."""


def volume(*values: float) -> Volume:
    return Volume.from_array(np.array(values, np.float32).reshape(-1, 1, 1))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (CTWindow(), [0, 0, 0.25, 0.5, 1, 1]),
        (CTWindow(scale="symmetric"), [-1, -1, -0.5, 0, 1, 1]),
        (CTWindow(window="custom", low=-60, high=140), [0, 0, 0, 0.5, 1, 1]),
    ],
)
def test_a_window_maps_its_ends_and_clips_the_rest(rule: CTWindow, expected: list[float]) -> None:
    """The abdomen's is level 40, width 400: -160 to 240 HU."""
    array = np.array([-1000, -160, -60, 40, 240, 3000], np.int16)
    scaled = rule.apply(array, {})
    assert scaled.dtype == np.float32 and scaled.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "ends"), [("lung", (-1350, 150)), ("bone", (-500, 1300)), ("brain", (0, 80))]
)
def test_windows_go_by_the_names_that_radiologists_use(name: str, ends: tuple[float, float]) -> None:
    rule = CTWindow.of({"window": name})
    assert rule.ends == ends
    assert rule.apply(np.array([*ends, sum(ends) / 2]), {}).tolist() == [0, 1, 0.5]
    assert set(WINDOWS) == {"abdomen", "mediastinum", "lung", "bone", "brain"}


def test_the_standard_scale_has_the_statistics_of_the_training_images_inside_the_window() -> None:
    """Of 10, 20, 30 and 40 the mean is 25, the deviation the root of 125; air, bone and the ends are left out."""
    rule = CTWindow(window="custom", low=0, high=100, scale="standard")
    numbers = rule.fit([volume(-1000, 0, 10, 20), volume(30, 40, 100, 900)])
    assert numbers == pytest.approx({"mean": 25, "deviation": 125**0.5})
    scaled = rule.apply(np.array([-500.0, 25, 100]), numbers)
    assert scaled.tolist() == pytest.approx([-25 / 125**0.5, 0, 75 / 125**0.5])
    nothing = rule.fit([volume(-1000, 900)])
    assert nothing == {"mean": 50, "deviation": 25}
    assert rule.fit([volume(7, 7)])["deviation"] > 0, "constant tissue would be divided by 0"


def test_percentiles_of_the_image_become_0_and_1() -> None:
    scaled = Percentile(low=10, high=90).apply(RAMP, {})
    assert scaled[[0, 10, 50, 90, 100]].tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    assert Percentile(low=0, high=100).apply(RAMP, {}) == pytest.approx(RAMP / 100)


def test_z_scores() -> None:
    """Of 2, 4, 4, 4, 5, 5, 7, 9 the mean is 5 and the deviation 2."""
    array = np.array([2, 4, 4, 4, 5, 5, 7, 9], np.int16)
    scaled = ZScore(robust="off").apply(array, {})
    assert scaled.tolist() == pytest.approx([-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2])


def test_z_scores_scaled_to_one_run_from_the_lowest_to_the_highest() -> None:
    assert ZScore(robust="off", scale="unit").apply(RAMP, {}) == pytest.approx(RAMP / 100, abs=1e-6)
    clipped = ZScore(scale="unit").apply(np.append(RAMP, 10_000), {})
    assert (clipped.min(), clipped.max()) == (0, 1) and np.ptp(clipped[:100]) > 0.009
    assert (ZScore(scale="unit").apply(np.full(5, 7), {}) == 0).all()


def test_z_scores_of_skull_stripped_images_leave_out_zeros() -> None:
    array = np.array([0] * 20 + [2, 4, 4, 4, 5, 5, 7, 9], np.float32)
    scaled = ZScore(robust="off", nonzero=True).apply(array, {})
    assert scaled[20:].tolist() == pytest.approx([-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2])
    assert (scaled[:20] == -2.5).all()
    assert (ZScore(nonzero=True).apply(np.zeros(4), {}) == 0).all()


def test_robust_z_scores_bear_an_outlier() -> None:
    """The ramp's quartiles are 25 and 75, so 50 / 1.349 stands for its deviation; its median is 50."""
    median = ZScore(robust="median").apply(RAMP, {})
    assert median[[0, 50, 100]].tolist() == pytest.approx([-1.349, 0, 1.349])
    wild = np.concatenate([np.tile(RAMP, 10), [30000]]).astype(np.int16)
    assert ZScore(robust="median").apply(wild, {})[[0, 50]] == pytest.approx([-1.349, 0], abs=0.01)
    clipped = ZScore(robust="percentiles").apply(wild, {})
    assert clipped.max() == clipped[100], "the outlier is clipped to the 99.5th percentile"
    uniform = (101**2 - 1) ** 0.5 / 12**0.5  # deviation of 0 .. 100
    assert clipped[[0, 100]] == pytest.approx([-50 / uniform, 50 / uniform], abs=0.02)
    assert ZScore(robust="off").apply(wild, {})[100] < 0.1


@pytest.mark.parametrize("modality", ["CT", "MR", "OTHER"])
def test_the_automatic_rule_goes_by_modality(modality: Modality) -> None:
    assert Auto().resolve(modality) == (CTWindow() if modality == "CT" else ZScore())
    assert Percentile().resolve(modality) == Percentile()


RULES = [
    CTWindow(),
    CTWindow(scale="standard"),
    Percentile(),
    ZScore(),
    ZScore(robust="off"),
    ZScore(robust="median", nonzero=True),
]


def test_every_kind_is_tested_here() -> None:
    assert {type(rule) for rule in (*RULES, Auto())} == set(registry.specs().values())


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=10, deadline=None)
@given(values=st.lists(st.integers(-2000, 4000), min_size=1, max_size=30))
def test_every_rule_keeps_shape_and_order_and_is_finite(rule: IntensitySpec, values: list[int]) -> None:
    array = np.array(values, np.int16).reshape(1, -1, 1)
    scaled = rule.apply(array, rule.fit([Volume.from_array(array)]))
    assert scaled.dtype == np.float32 and scaled.shape == array.shape and np.isfinite(scaled).all()
    order = np.argsort(values)
    assert (np.diff(scaled.ravel()[order]) >= 0).all()


@pytest.mark.parametrize("rule", RULES[2:], ids=str)
def test_a_constant_image_becomes_0(rule: IntensitySpec) -> None:
    assert (rule.apply(np.full((3, 3, 3), 7, np.int16), {}) == 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ct_window", "window": "custom", "low": 5, "high": 5},
        {"kind": "percentile", "low": 60, "high": 40},
        {"kind": "percentile", "high": 101},
        {"kind": "ct_window", "window": "knee"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        registry.parse(wrong)
