"""Preprocessing to the training grid and back, over all 48 ways to store a volume."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from segexplorer.core.errors import DataError, SpecError
from segexplorer.data import geometry
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.transforms import FittedPreprocessing, Preprocessing, fit
from segexplorer.data.transforms.intensities import Percentile
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"one": 1, "two": 2, "three": 3})
SHAPE, SPACING, ORIGIN = (3, 4, 5), (1.0, 2.0, 3.0), (-7.0, 11.0, 20.0)
"""Of the volume in RAS order."""
IMAGE = np.arange(60, dtype=np.float32).reshape(SHAPE)
LABEL = np.random.default_rng(0).integers(0, 4, SHAPE, np.uint8)
ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]
AFFINE = np.diag([*SPACING, 1.0])
AFFINE[:3, 3] = ORIGIN
UNSCALED = Percentile(low=0, high=100)


def stored(order: tuple[int, ...], flips: tuple[int, ...]) -> Case:
    """The volume as a scanner might store it: index axis i runs along world axis order[i], upwards or downwards.

    By hand, without nibabel: the affine says where each stored voxel lies in the patient.
    """
    steps = tuple(slice(None, None, flip) for flip in flips)
    affine = np.eye(4)
    affine[:3, 3] = ORIGIN
    for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
        affine[:3, axis] = 0
        affine[world, axis] = flip * SPACING[world]
        if flip < 0:
            affine[world, 3] += SPACING[world] * (SHAPE[world] - 1)
    image, label = (np.ascontiguousarray(a.transpose(order)[steps]) for a in (IMAGE, LABEL))
    return Case(
        "case", (Volume.from_array(image, affine=affine),), Volume.from_array(label, affine=affine), "case"
    )


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_orientation_becomes_the_same_volume_and_goes_back_exactly(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    case = stored(order, flips)
    assert case.label is not None
    fitted = fit(Preprocessing(intensity=UNSCALED), [case])
    prepared = fitted.apply(case, CLASSES)
    assert prepared.label is not None
    assert np.array_equal(prepared.image[0], IMAGE / np.float32(59))
    assert np.array_equal(prepared.label, LABEL)
    assert prepared.affine == pytest.approx(AFFINE) and prepared.spacing == pytest.approx(SPACING)
    assert not prepared.resampled
    back = fitted.restore(prepared.label, prepared.grid, order=0)
    assert back.dtype == np.uint8 and np.array_equal(back, case.label.array)
    probabilities = np.stack([prepared.image[0], 1 - prepared.image[0]])
    restored = fitted.restore(probabilities, prepared.grid, order=1)
    assert np.array_equal(restored[0], case.images[0].array / np.float32(59))
    assert np.array_equal(restored[1], 1 - restored[0])


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_resampling_too_is_the_same_for_every_orientation(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    """Half the spacing makes 2 x 2 x 2 voxels of each: nearest neighbour repeats it, and brings it back."""
    case = stored(order, flips)
    assert case.label is not None
    fitted = fit(Preprocessing(intensity=UNSCALED, spacing=(0.5, 1.0, 1.5)), [case])
    prepared = fitted.apply(case, CLASSES)
    assert prepared.label is not None and prepared.resampled
    assert np.array_equal(prepared.label, LABEL.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    assert np.array_equal(fitted.restore(prepared.label, prepared.grid, order=0), case.label.array)
    corner = AFFINE.copy()
    corner[:3, :3] /= 2
    corner[:3, 3] -= np.asarray(SPACING) / 4
    assert prepared.affine == pytest.approx(corner)
    # a ramp stays a ramp between voxel centres: quarter and three quarters of the way
    ramp = prepared.image[0, 1:-1, 1:-1, 1:-1] * 59
    expected = IMAGE[0, 0, 0] + sum(
        step * (np.arange(1, 2 * n - 1) / 2 - 0.25).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, step) in enumerate(zip(SHAPE, (20, 5, 1), strict=True))
    )
    assert ramp == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("angle", [5.0, 40.0])
def test_an_oblique_volume_keeps_its_voxels_in_the_closest_order(angle: float) -> None:
    turn = np.eye(4)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn[:2, :2] = [[c, -s], [s, c]]
    case = Case(
        "case",
        (Volume.from_array(IMAGE, affine=turn @ AFFINE),),
        Volume.from_array(LABEL, affine=turn @ AFFINE),
    )
    fitted = fit(Preprocessing(intensity=UNSCALED), [case])
    prepared = fitted.apply(case, CLASSES)
    assert prepared.label is not None and np.array_equal(prepared.label, LABEL)
    assert prepared.affine == pytest.approx(turn @ AFFINE)
    assert np.array_equal(fitted.restore(prepared.label, prepared.grid, order=0), LABEL)


def test_the_median_spacing_is_that_of_the_training_cases_in_ras_order() -> None:
    def blank(shape: tuple[int, ...], affine: np.ndarray) -> Case:
        return Case("c", (Volume.from_array(np.zeros(shape, np.float32), affine=affine),))

    sideways = np.eye(4)[[2, 1, 0, 3]] * [1, 2, 5, 1]  # index axis 0 runs along z, 1 mm; axis 2 along x, 5 mm
    cases = [blank((4, 4, 4), np.diag([s, s, 2 * s, 1.0])) for s in (1.0, 3.0)] + [blank((4, 4, 4), sideways)]
    assert fit(Preprocessing(spacing="median"), cases).spacing == pytest.approx((3, 2, 2))
    assert fit(Preprocessing(), cases).spacing is None


@pytest.mark.parametrize("settings", [{}, {"spacing": [0.7, 1.5, 3]}, {"resize": [5, 0, 4]}])
def test_a_checkpoint_prepares_new_cases_alike(settings: dict[str, object]) -> None:
    case = stored((2, 0, 1), (1, -1, 1))
    ref = CaseRef("case", case.images, case.label, "case")
    rule = {"kind": "ct_window", "scale": "standard", "window": "custom", "low": -1, "high": 50}
    fitted = fit(Preprocessing.of({"intensity": rule, **settings}), [case])
    again = FittedPreprocessing.of(json.loads(json.dumps(fitted.plain())))
    assert again == fitted
    one, two = fitted.apply(case, CLASSES), again.apply(case, CLASSES)
    assert np.array_equal(one.image, two.image) and np.array_equal(one.affine, two.affine)
    assert again.prepared_shape(ref) == two.image.shape[1:]
    assert two.nbytes == two.image.nbytes + two.image[0].size
    assert geometry.spacing(two.affine) == two.spacing


def test_channels_are_scaled_each_by_its_own_training_images() -> None:
    def two(name: str, first: float, second: float) -> Case:
        images = (np.full(SHAPE, first, np.float32), np.full(SHAPE, second, np.float32))
        return Case(name, tuple(Volume.from_array(image, spacing=SPACING) for image in images))

    rule = {"kind": "ct_window", "scale": "standard", "window": "custom", "low": 0, "high": 100}
    fitted = fit(Preprocessing.of({"intensity": rule}), [two("a", 10, 50), two("b", 30, 90)])
    assert [n["mean"] for n in fitted.numbers] == pytest.approx([20, 70])
    assert [n["deviation"] for n in fitted.numbers] == pytest.approx([10, 20])
    prepared = fitted.apply(two("new", 30, 50), CLASSES)
    assert prepared.label is None and fitted.channels == 2
    assert [float(channel.mean()) for channel in prepared.image] == pytest.approx([1, -1])


def test_cases_that_do_not_fit_are_named() -> None:
    good = stored((0, 1, 2), (1, 1, 1))
    image = good.images[0]
    fitted = fit(Preprocessing(intensity=UNSCALED), [good])
    holes = IMAGE.copy()
    holes[1, 1, 1] = np.nan
    moved = AFFINE.copy()
    moved[0, 3] += 1
    wrong = {
        "has 2 image": Case("bad", (image, image), good.label),
        "NaN": Case("bad", (image.with_array(holes),), good.label),
        "image and label have different grids": Case("bad", (image,), Volume.from_array(LABEL, affine=moved)),
    }
    for told, case in wrong.items():
        with pytest.raises(DataError, match=f"Case bad.*{told}"):
            fitted.apply(case, CLASSES)
    with pytest.raises(DataError, match="at least one training case"):
        fit(Preprocessing(), [])
    with pytest.raises(DataError, match="Case bad has 2 image"):
        fit(Preprocessing(), [good, wrong["has 2 image"]])
    with pytest.raises(DataError, match="not on the training grid"):
        fitted.restore(np.zeros((3, 3, 3)), fitted.apply(good, CLASSES).grid, order=0)
    with pytest.raises(SpecError, match="above 0 mm"):
        Preprocessing.of({"spacing": [1, 0, 1]})
