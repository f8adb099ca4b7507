"""Each kind of augmentation alone, against a patch moved by hand; all of it decided by the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from segexplorer.data.transforms import Augmentation, augment, draw
from segexplorer.data.transforms.affine import rotation

OFF = {"placement": {"probability": 0}, "shading": {"probability": 0}}
STILL: dict[str, Any] = {"rotation": 0, "scaling": 0, "translation": 0}
IMAGE = np.random.default_rng(0).normal(size=(2, 12, 11, 10)).astype(np.float32)
LABEL = (IMAGE[0] > 0.5).astype(np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    "mirroring": {**OFF, "flips": {"left_right": 1.0}},
    "rotation": {**OFF, "placement": {**STILL, "probability": 1, "rotation": 20}},
    "scaling": {**OFF, "placement": {**STILL, "probability": 1, "scaling": 0.2}},
    "translation": {**OFF, "placement": {**STILL, "probability": 1, "translation": 3}},
    "elastic": {**OFF, "elastic": {"probability": 1}},
    "gamma": {**OFF, "shading": {"probability": 1, "contrast": 0, "brightness": 0, "noise": 0, "gamma": 0.5}},
}


def varied(settings: dict[str, Any], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    return augment(IMAGE, LABEL, np.random.default_rng(seed), Augmentation.of(settings))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_be_had_alone_and_is_decided_by_the_seed(kind: str) -> None:
    image, label = varied(KINDS[kind])
    assert not np.array_equal(image, IMAGE)
    assert np.array_equal(label, LABEL) == (kind == "gamma")
    again = varied(KINDS[kind])
    assert np.array_equal(image, again[0]) and np.array_equal(label, again[1])
    others = [varied(KINDS[kind], seed)[0] for seed in (4, 5)]
    assert kind == "mirroring" or not any(np.array_equal(image, other) for other in others)


def test_off_changes_nothing() -> None:
    for settings in ({"enabled": False}, OFF):
        image, label = varied(settings)
        assert np.array_equal(image, IMAGE) and np.array_equal(label, LABEL)


def test_mirroring_turns_one_axis_of_image_and_label() -> None:
    image, label = varied({**OFF, "flips": {"front_back": 1.0}})
    assert np.array_equal(image, IMAGE[:, :, ::-1]) and np.array_equal(label, LABEL[:, ::-1])


def test_a_translation_is_a_shift_of_at_most_its_voxels() -> None:
    spec = Augmentation.of({**OFF, "placement": {**STILL, "probability": 1, "translation": 2.5}})
    shifts = []
    for seed in range(200):
        matrix = draw(spec, np.random.default_rng(seed), LABEL.shape).matrix
        assert matrix is not None and np.array_equal(matrix[:, :3], np.eye(3))
        shifts.append(matrix[:, 3])
    assert np.abs(shifts).max() <= 2.5 and (np.ptp(shifts, axis=0) > 4.5).all()


def test_scaling_is_as_often_up_as_down_and_within_its_limits() -> None:
    spec = Augmentation.of({**OFF, "placement": {**STILL, "probability": 1, "scaling": 0.2}})
    sizes = []
    for seed in range(200):
        matrix = draw(spec, np.random.default_rng(seed), LABEL.shape).matrix
        assert matrix is not None
        sizes.append(1 / matrix[0, 0])
    assert min(sizes) >= 0.8 - 1e-9 and max(sizes) <= 1.25 + 1e-9
    assert 70 < sum(size > 1 for size in sizes) < 130


def test_angles_are_true_in_the_patient_whatever_the_voxels() -> None:
    spec = Augmentation.of({**OFF, "placement": {**STILL, "probability": 1, "rotation": 30}})
    spacing = np.diag([1.0, 2.0, 5.0])
    for seed in range(20):
        matrix = draw(spec, np.random.default_rng(seed), (9, 9, 9), (1.0, 2.0, 5.0)).matrix
        assert matrix is not None
        turned = spacing @ matrix[:, :3] @ np.linalg.inv(spacing)
        assert turned @ turned.T == pytest.approx(np.eye(3)) and np.linalg.det(turned) == pytest.approx(1)
    quarter = rotation((0, 0, np.pi / 2))
    assert quarter @ [1, 0, 0] == pytest.approx([0, 1, 0])


def test_gamma_keeps_the_range_and_the_order_of_intensities() -> None:
    image, _ = varied(KINDS["gamma"])
    for before, after in zip(IMAGE, image, strict=True):
        assert np.array_equal(np.argsort(before.ravel()), np.argsort(after.ravel()))
        assert np.ptp(after) == pytest.approx(np.ptp(before), rel=1e-4)
