"""Preprocessing for whole volumes of one size, and for two visits."""

from __future__ import annotations

import numpy as np
import pytest

from segexplorer.core.errors import DataError, SpecError
from segexplorer.data.case import Case, ClassMap
from segexplorer.data.transforms import FittedPreprocessing, Preprocessing, fit
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"box": (3,)}, "background")


def case(shape: tuple[int, int, int], spacing: tuple[float, float, float], images: int = 1) -> Case:
    rng = np.random.default_rng(sum(shape))
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(n // 4, n // 2) for n in shape)] = 3
    volumes = tuple(
        Volume.from_array(rng.normal(size=shape).astype(np.float32), spacing=spacing, modality="MR")
        for _ in range(images)
    )
    return Case("case", volumes, Volume.from_array(label, spacing=spacing), "case")


def test_every_volume_gets_the_same_number_of_voxels_over_its_own_extent() -> None:
    cases = [case((20, 30, 12), (1, 1, 2)), case((40, 24, 12), (0.5, 1, 2))]
    fitted = fit(Preprocessing(resize=(20, 24, 0)), cases)
    assert FittedPreprocessing.of(fitted.plain()) == fitted
    for one in cases:
        prepared = fitted.apply(one, CLASSES)
        assert prepared.image.shape == (1, 20, 24, 12)
        extent = np.asarray(prepared.spacing) * prepared.image.shape[1:]
        own = one.images[0]
        assert extent == pytest.approx(np.asarray(own.spacing) * own.shape)
        back = fitted.restore(prepared.label, prepared.grid, order=0)
        assert one.label is not None and back.shape == own.shape
        agreement = (back == (one.label.array == 3)).mean()
        assert agreement > 0.97


def test_a_volume_of_that_size_is_not_touched() -> None:
    one = case((16, 16, 8), (1, 1, 1))
    prepared = fit(Preprocessing(resize=(16, 16, 8)), [one]).apply(one, CLASSES)
    assert not prepared.resampled


def test_two_visits_get_their_difference_as_a_channel() -> None:
    one = case((10, 10, 10), (1, 1, 1), images=2)
    fitted = fit(Preprocessing(difference=True), [one])
    prepared = fitted.apply(one, CLASSES)
    assert fitted.channels == 3 and prepared.image.shape == (3, 10, 10, 10)
    assert prepared.image[2] == pytest.approx(prepared.image[1] - prepared.image[0])
    with pytest.raises(DataError, match="two images"):
        fit(Preprocessing(difference=True), [case((10, 10, 10), (1, 1, 1))])


def test_resize_and_spacing_exclude_each_other() -> None:
    with pytest.raises(SpecError, match="exclude"):
        Preprocessing.of({"resize": [8, 8, 8], "spacing": "median"})
    with pytest.raises(SpecError, match="0 for an axis"):
        Preprocessing.of({"resize": [8, 8, -1]})
